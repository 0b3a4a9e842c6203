package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"unkai/internal/admin"
)

func (o *outside) autoReplaceCommand() *cobra.Command {
	return o.askingFor(0, &cobra.Command{
		Use:   "auto-replace DURATION|off",
		Short: "Say whether dead nodes are replaced, and when",
		Long: `Have the share of a node that has been silent for so long brought to others, by itself;
off: never. If a node is there that has joined and holds nothing, it takes the place of
the dead one, else all others get some of it. Nothing is done when several nodes are
silent, when somebody reaches the node, when there is no room, or when fewer than N nodes
would be left: unkai status says why. It is a setting of the whole cluster, counts at once,
and any node can be asked.`,
		Example: "  unkai auto-replace 30m\n  unkai auto-replace off",
		Args:    cobra.ExactArgs(1),
	}, func(ctx context.Context, address string, asJSON bool, args []string) error {
		after := 0.0
		if args[0] != off {
			d, err := time.ParseDuration(args[0])
			if err != nil {
				return usageError{fmt.Errorf("%q is neither a duration, like 30m, nor %s", args[0], off)}
			}
			after = d.Seconds()
		}
		ctx, cancel := context.WithTimeout(ctx, changeTimeout)
		defer cancel()
		var j admin.Jobs
		body, err := post(ctx, address, "/v1/job", admin.Order{Do: "auto-replace", AutoReplace: &after}, &j)
		if err != nil {
			return err
		}
		if asJSON {
			return o.print("%s", body)
		}
		return o.print("dead nodes are %s\n", autoReplace(j.AutoReplace))
	})
}

// autoReplace says when nodes that are silent are replaced.
func autoReplace(seconds float64) string {
	if seconds == 0 {
		return "never replaced by themselves"
	}
	return fmt.Sprintf("replaced by themselves after %v", time.Duration(seconds*float64(time.Second)))
}
