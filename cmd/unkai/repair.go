package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"unkai/internal/admin"
)

func (o *outside) repairCommand() *cobra.Command {
	bucket := -1
	cmd := o.askingFor(0, &cobra.Command{
		Use:   "repair",
		Short: "Compare all replicas now, and mend what differs",
		Long: `Have every node compare its buckets with the other replicas now, without the usual
pauses, and mend what differs. Nodes do the same all the time by themselves, with
pauses; the throttle of jobs counts for both. Any node can be asked. The repair goes
on when this command is interrupted.

What is compared is what the nodes know that they hold: it finds everything that a
replica has missed. Damage on a disk is found when a record is read.

The exit code is 0 when all replicas are equal, or were being written to and what
differed was mended; 5 when some could not be compared or mended, and why is said;
3 when too many repairs run already.`,
		Example: "  unkai repair\n  unkai repair --bucket 17 --json",
		Args:    cobra.NoArgs,
	}, func(ctx context.Context, address string, asJSON bool, _ []string) error {
		var wish admin.RepairWish
		if bucket >= 0 {
			wish.Bucket = &bucket
		}
		return o.repair(ctx, address, wish, asJSON)
	})
	cmd.Flags().IntVar(&bucket, "bucket", bucket, "compare one bucket only, as unkai locate shows it")
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if cmd.Flags().Changed("bucket") && bucket < 0 {
			return usageError{fmt.Errorf("bucket: %d is no bucket: want a number from 0 on", bucket)}
		}
		return run(cmd, args)
	}
	return cmd
}

// errUnequal is the end of a repair after which not all replicas are equal.
var errUnequal = errors.New("they may differ")

// silentFor is for how long a node that is there may give no account of a repair
// with which all others are done.
const silentFor = 10 * time.Second

func (o *outside) repair(ctx context.Context, address string, wish admin.RepairWish, asJSON bool) error {
	r, err := o.awaitRepair(ctx, address, wish)
	if err != nil {
		return err
	}
	if asJSON {
		err = o.printJSON(r)
	} else {
		err = o.print("%s", describeRepair(r))
	}
	if left := r.Buckets - r.Equal; err == nil && left > 0 {
		err = fmt.Errorf("the replicas of %d of %d buckets could not be found equal: %w", left, r.Buckets, errUnequal)
	}
	return err
}

func (o *outside) awaitRepair(ctx context.Context, address string, wish admin.RepairWish) (*admin.RepairRun, error) {
	doors := o.doors(ctx, address)
	r := &admin.RepairRun{}
	begin, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	if _, err := post(begin, address, "/v1/repair", wish, r); err != nil {
		return nil, err
	}
	var quiet time.Time // since when only silent nodes are waited for
	for {
		if r.Running || quiet.IsZero() {
			quiet = time.Now()
		}
		if !r.Running && (!mayAnswer(r) || time.Since(quiet) >= silentFor) {
			o.redraw("")
			return r, nil
		}
		o.redraw(repairProgress(r))
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("wait for repair %s, which goes on", r.ID), ctx.Err())
		case <-time.After(awaitEvery):
		}
		var next admin.RepairRun
		err := doors.ask(ctx, "/v1/repair?id="+r.ID, &next)
		switch {
		case err == nil:
			r = &next
		case doors.silent():
			return nil, fmt.Errorf("wait for repair %s: %w", r.ID, err)
		}
	}
}

// mayAnswer reports whether a node that gives no account may do so another time.
func mayAnswer(r *admin.RepairRun) bool {
	for _, s := range r.Silent {
		if s.Alive {
			return true
		}
	}
	return false
}

// repairProgress is a bar and figures, in one line.
func repairProgress(r *admin.RepairRun) string {
	line := fmt.Sprintf("%s  %d of %d buckets, %d records brought", bar(r.Progress), r.Compared, r.Buckets, r.Brought)
	if r.Left > 0 && r.Compared < r.Buckets {
		line += ", " + span(r.Left) + " left"
	}
	return line
}

// describeRepair is the account of a repair for people.
func describeRepair(r *admin.RepairRun) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d buckets are equal at all their replicas", r.Equal, r.Buckets)
	if r.Differed == 0 {
		b.WriteString("; none differed\n")
	} else {
		fmt.Fprintf(&b, "; %d differed\n", r.Differed)
		fmt.Fprintf(&b, "mended: %d records brought, %d keys settled by a round, %s exchanged\n", r.Brought, r.Settled, amount(r.Bytes))
	}
	if r.Busy > 0 {
		fmt.Fprintf(&b, "%d of them were written to all the while: what differed was mended\n", r.Busy)
	}
	if r.Failed > 0 {
		fmt.Fprintf(&b, "FAILED: %d times a replica could not take a record over; see its log\n", r.Failed)
	}
	for _, u := range r.Unequal {
		some := strings.Trim(fmt.Sprint(u.Some), "[]")
		if u.Buckets > len(u.Some) {
			some += " …"
		}
		fmt.Fprintf(&b, "NOT EQUAL: %d buckets (%s): %s\n", u.Buckets, some, u.Why)
	}
	for _, s := range r.Silent {
		fmt.Fprintf(&b, "node %s gave no account: %s\n", s.Node, s.Why)
	}
	return b.String()
}
