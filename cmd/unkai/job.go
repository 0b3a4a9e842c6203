package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"unkai/internal/admin"
)

func (o *outside) jobCommand() *cobra.Command {
	job := &cobra.Command{
		Use:   "job",
		Short: "Pause, resume, cancel or throttle the job that runs",
		Long: `Change how the job that runs goes on. Any node can be asked.

ID is that of the job that is meant, as unkai jobs shows it: another one may have
begun by itself. Without it the job that runs is shown, and at a terminal you are
asked whether it is the one.`,
		Example: "  unkai job pause\n  unkai job throttle 20MiB\n  unkai job cancel 7",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, c := range []struct{ use, short, long, example string }{
		{"pause [ID]", "Bring nothing more for now", "Bring nothing more until the job is resumed. What is on its way stays so: writes of\nthese buckets go on to both sets of replicas.", "  unkai job pause"},
		{"resume [ID]", "Go on with a job that was paused", "Go on with a job that was paused.", "  unkai job resume"},
		{"cancel [ID]", "End the job and leave the rest where it is", `End the job. Buckets that were not switched yet stay where they are. Those that were
stay where they went, and nodes that got some of them stay attached: unkai rebalance
makes the shares even again, unkai detach takes such a node out.`, "  unkai job cancel\n  unkai job cancel 7"},
	} {
		job.AddCommand(o.askingFor(0, &cobra.Command{Use: c.use, Short: c.short, Long: c.long, Example: c.example, Args: cobra.MaximumNArgs(1)},
			func(ctx context.Context, address string, asJSON bool, args []string) error {
				order := admin.Order{Do: strings.Fields(c.use)[0]}
				var err error
				if len(args) == 0 {
					order.Job, err = o.meant(ctx, address, order.Do, asJSON)
				} else if order.Job, err = strconv.Atoi(args[0]); err != nil || order.Job < 1 {
					err = usageError{fmt.Errorf("%q is no job: want a number that unkai jobs shows", args[0])}
				}
				if err != nil {
					return err
				}
				return o.steer(ctx, address, order, asJSON)
			}))
	}
	job.AddCommand(o.askingFor(0, &cobra.Command{
		Use: "throttle RATE", Short: "Bring at most so many bytes in a second",
		Long:    "Let each node bring at most so many bytes in a second, like 20MiB; 0 for as many as it\ncan. It counts at once, and for later jobs too.",
		Example: "  unkai job throttle 20MiB\n  unkai job throttle 0", Args: cobra.ExactArgs(1),
	}, func(ctx context.Context, address string, asJSON bool, args []string) error {
		order := admin.Order{Do: "throttle"}
		if err := (*size)(&order.Throttle).Set(args[0]); err != nil {
			return usageError{err}
		}
		return o.steer(ctx, address, order, asJSON)
	}))
	return job
}

// meant is the job that runs, once whoever is at the terminal has agreed to it.
func (o *outside) meant(ctx context.Context, address, do string, asJSON bool) (int, error) {
	var all admin.Jobs
	if _, err := o.within(ctx, address, "/v1/jobs", &all); err != nil {
		return 0, err
	}
	j := all.Running
	switch {
	case j == nil:
		return 0, conflict{errors.New("no job is running")}
	case asJSON:
		return j.ID, nil
	}
	by := ""
	if j.Auto {
		by = ", which has begun by itself"
	}
	what := fmt.Sprintf("%s job %d, %s%s", do, j.ID, title(j.Kind, called(j.Nodes, j.Peers), j.Weight, j.Zone), by)
	if !o.terminal {
		return j.ID, o.print("%s\n", what)
	}
	return j.ID, o.confirm(strings.ToUpper(what[:1]) + what[1:] + "?")
}

func (o *outside) steer(ctx context.Context, address string, order admin.Order, asJSON bool) error {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	var j admin.Jobs
	body, err := post(ctx, address, "/v1/job", order, &j)
	if err != nil {
		return err
	}
	if asJSON {
		return o.print("%s", body)
	}
	j.Ended = nil
	next := ""
	if order.Do == "cancel" {
		next = afterCancel
	}
	return o.print("%s%s", describeJobs(&j), next)
}
