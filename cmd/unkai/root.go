package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (o *outside) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "unkai",
		Short: "A durable key-value store that speaks memcached",
		Long: `Unkai is a durable key-value store. Any memcached client can use it, and
what it was told is on disk before the client sees STORED.`,
		Example: `  # start a node; it keeps its data in ./unkai-data
  unkai serve

  # store and read something, from another terminal
  printf 'set k 0 0 5\r\nhello\r\nget k\r\nquit\r\n' | curl -s telnet://127.0.0.1:11211

  # ask how it is, and measure how fast
  unkai status
  unkai bench`,
		Version:               thisBuild().String(),
		SilenceErrors:         true,
		SilenceUsage:          true,
		DisableFlagsInUseLine: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			err := fmt.Errorf("unknown command %q", args[0])
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				best := nearest(args[0], near)
				if best == "" {
					best = near[0]
				}
				err = fmt.Errorf("%w; did you mean %q?", err, best)
			}
			return err
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SuggestionsMinimumDistance = 2
	root.SetVersionTemplate("{{.Version}}\n")
	root.AddCommand(o.serveCommand(), o.devCommand(), o.statusCommand(), o.nodesCommand(), o.locateCommand(), o.explainCommand(), o.verifyCommand(), newBenchCommand(), o.versionCommand(), completionCommand())
	root.AddCommand(o.planCommand(), o.jobsCommand(), o.jobCommand(), o.autoReplaceCommand(), o.repairCommand(), o.placementCommand())
	root.AddCommand(o.errandCommands()...)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		var unknown *pflag.NotExistError
		if errors.As(err, &unknown) {
			if near := nearest(unknown.GetSpecifiedName(), settingNames(cmd.Flags())); near != "" {
				err = fmt.Errorf("%w; did you mean --%s?", err, near)
			}
		}
		return usageError{err}
	})
	markUsage(root)
	return root
}

// markUsage makes wrong arguments a mistake in usage, in every command.
func markUsage(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usageError{err}
			}
			return nil
		}
	}
	for _, c := range cmd.Commands() {
		markUsage(c)
	}
}
