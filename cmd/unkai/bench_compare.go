package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"unkai/internal/bench"
)

// compareFlags are those of `unkai bench compare`.
type compareFlags struct {
	scenarios, engines []string
	rounds             int
	duration           time.Duration
	unkai, data        string
	profile            string
	quick, asJSON      bool
}

// newBenchCompareCommand is `unkai bench compare`.
func newBenchCompareCommand() *cobra.Command {
	var f compareFlags
	c := &cobra.Command{
		Use:   "compare",
		Short: "Measure Unkai and memcached in turn under the same load",
		Long: `Measure Unkai and memcached in turn under the same load, and print ratios of
throughput, latency and the server's CPU time for each operation.

It starts every server anew for each measurement, on free ports of the loopback
interface and with a directory of its own that is removed afterwards. Absolute
figures change with the machine and its neighbours; the ratio of two servers
measured in the same minute changes less. The engine disk makes every write
durable before its reply; memcached keeps nothing.

Scenarios: unpipelined (64 connections, 10 % sets), pipelined (the same with 16
requests in a write), sets (256 connections, 100 % sets).

A missed target does not change the exit status; an error of a server does.`,
		Example: `  unkai bench compare
  unkai bench compare --scenario unpipelined --engine disk --rounds 9
  unkai bench compare --quick --json
  unkai bench compare --engine memory --profile /tmp/profiles`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.quick {
				f.rounds, f.duration = 1, time.Second
			}
			comparison, err := f.comparison(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			result, err := comparison.Run(ctx)
			if err != nil {
				return err
			}
			if f.asJSON {
				err = printJSON(cmd.OutOrStdout(), result)
			} else {
				err = result.WriteText(cmd.OutOrStdout())
			}
			if err != nil {
				return fmt.Errorf("print the ratios: %w", err)
			}
			return nil
		},
	}
	flags := c.Flags()
	flags.StringSliceVar(&f.scenarios, "scenario", nil, "unpipelined, pipelined or sets; all if not given")
	flags.StringSliceVar(&f.engines, "engine", []string{"memory", "disk"}, "engines of Unkai")
	flags.IntVar(&f.rounds, "rounds", 5, "how often everything is measured")
	flags.DurationVar(&f.duration, "duration", 4*time.Second, "of each measurement")
	flags.StringVar(&f.unkai, "unkai", "", "`PATH` of the Unkai to measure; this one if not given")
	flags.StringVar(&f.data, "data", "", "`DIR` in which the servers keep their data; the system's for temporary files if not given")
	flags.StringVar(&f.profile, "profile", "", "`DIR` for a CPU profile of each run of Unkai")
	flags.BoolVar(&f.quick, "quick", false, "one round of a second each: shows that it works, not how fast it is")
	flags.BoolVar(&f.asJSON, "json", false, "print the result as JSON")
	c.MarkFlagsMutuallyExclusive("quick", "rounds")
	c.MarkFlagsMutuallyExclusive("quick", "duration")
	return c
}

// comparison is what the flags ask for.
func (f *compareFlags) comparison(log io.Writer) (*bench.Comparison, error) {
	for _, engine := range f.engines {
		if !slices.Contains([]string{"memory", "disk"}, engine) {
			return nil, usageError{fmt.Errorf("engine %q is neither memory nor disk", engine)}
		}
	}
	scenarios, err := bench.FindScenarios(f.scenarios)
	if err != nil {
		return nil, usageError{err}
	}
	memcached, err := bench.FindMemcached()
	if err != nil {
		return nil, err
	}
	path := f.unkai
	if path == "" {
		if path, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("find this binary: %w", err)
		}
	}
	if f.profile != "" {
		if err := os.MkdirAll(f.profile, 0o755); err != nil {
			return nil, fmt.Errorf("directory for profiles: %w", err)
		}
	}
	c := &bench.Comparison{
		Baseline: memcached, Scenarios: scenarios, Rounds: f.rounds, Load: bench.Defaults(),
		Dir: f.data, ProfileDir: f.profile,
		Log: func(line string) { _, _ = fmt.Fprintln(log, line) },
	}
	c.Load.Duration = f.duration
	c.Load.WarmUp = min(time.Second, f.duration/4)
	for _, engine := range f.engines {
		c.Contestants = append(c.Contestants, bench.Unkai(path, engine))
	}
	return c, nil
}
