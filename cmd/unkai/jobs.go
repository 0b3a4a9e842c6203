package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"unkai/internal/admin"
	"unkai/internal/node"
)

func (o *outside) jobsCommand() *cobra.Command {
	wait := false
	cmd := o.askingFor(0, &cobra.Command{
		Use:   "jobs",
		Short: "Show the job that runs, and the last ones",
		Long: `Show the job that runs: how far it is, how long it will take if it goes on as in the
last half minute, and what it waits for. Then the last ones that have ended, with what
was planned and what has moved. With --wait it watches the job that runs until that has
ended; the exit code is 1 if it was cancelled.`,
		Example: "  unkai jobs\n  unkai jobs --wait\n  unkai jobs --json",
		Args:    cobra.NoArgs,
	}, func(ctx context.Context, address string, asJSON bool, _ []string) error {
		var j admin.Jobs
		body, err := o.within(ctx, address, "/v1/jobs", &j)
		switch {
		case err != nil:
			return err
		case wait && j.Running != nil:
			done, err := o.await(ctx, address, j.Running.ID)
			if err != nil {
				return err
			}
			return o.account(&done, asJSON)
		case asJSON:
			return o.print("%s", body)
		}
		return o.print("%s", describeJobs(&j))
	})
	cmd.Flags().BoolVar(&wait, "wait", false, "watch the job that runs, and wait until it has ended")
	return cmd
}

// describeJobs writes jobs for people.
func describeJobs(j *admin.Jobs) string {
	var b strings.Builder
	if j.Throttle > 0 {
		fmt.Fprintf(&b, "throttle: %s a second for each node\n", amount(j.Throttle))
	}
	if j.Running == nil {
		b.WriteString("no job is running\n")
	} else {
		b.WriteString(describeRunning(j.Running))
	}
	if len(j.Ended) == 0 {
		return b.String()
	}
	t := newTable()
	t.row("JOB", "WHAT", "BEGAN", "TOOK", "PLANNED", "MOVED", "OUTCOME")
	for i := len(j.Ended) - 1; i >= 0; i-- {
		e := &j.Ended[i]
		outcome := e.State
		switch {
		case len(e.Missed) > 0:
			outcome += " by itself: " + strings.Join(e.Missed, ", ") + " silent"
		case e.Auto:
			outcome += ", by itself"
		}
		t.row(strconv.Itoa(e.ID), title(e.Kind, called(e.Nodes, e.Peers), e.Weight, e.Zone), time.UnixMilli(e.Begun).UTC().Format(time.RFC3339), took(e), planned(e), moved(e.Moved), outcome)
	}
	fmt.Fprintf(&b, "\n%s", t)
	return b.String()
}

// fewer reports whether all that a job does is to have buckets do with fewer replicas.
func fewer(j *admin.Job) bool { return j.Planned.Replicas == 0 && j.Planned.Buckets > 0 }

func moved(a admin.Amount) string {
	if a.Replicas == 0 && a.Buckets > 0 {
		return several(a.Buckets, "bucket") + ", no new replica"
	}
	return fmt.Sprintf("%s, %s", several(a.Replicas, "replica"), amount(a.Bytes))
}

// planned is what a job was thought to move, and for how long.
func planned(j *admin.Job) string {
	if j.Expected == 0 {
		return moved(j.Planned)
	}
	return moved(j.Planned) + ", about " + span(j.Expected)
}

// took is for how long a job that has ended went on, beside its pauses.
func took(j *admin.Job) string {
	s := span(max(0, float64(j.Ended-j.Begun)/1000-j.Rested))
	if j.Rested > 0 {
		s += " and " + span(j.Rested) + " paused"
	}
	return s
}

// afterCancel is what can be done next.
const afterCancel = `What was brought stays where it went. Next: unkai rebalance makes the shares even again,
unkai detach takes out a node that got some; one that got none waits for unkai attach.
`

// afterMissed is what happens next, when the cluster itself has cancelled a job.
const afterMissed = `It began by itself, and was cancelled by itself since a node was silent: %s.
What was brought stays where it went. Next: when that node is back it gets its share, or the
rest of it; if it does not come back, unkai detach takes it out.
`

func describeRunning(j *admin.Job) string {
	var b strings.Builder
	fmt.Fprintf(&b, "job %d, %s: %s\n  %s\n", j.ID, j.State, title(j.Kind, called(j.Nodes, j.Peers), j.Weight, j.Zone), progress(j))
	for _, w := range j.Waits {
		fmt.Fprintf(&b, "  waits for %s\n", w)
	}
	for _, s := range j.Slowed {
		fmt.Fprintf(&b, "  slowed: %s\n", slowed(&s))
	}
	return b.String()
}

// slowed says how fast a node may bring something, and why not faster.
func slowed(s *admin.Slowed) string {
	why := "it tries how fast it can be without clients waiting longer"
	switch {
	case s.Disk:
		why = "the disk of a node that it brings something to is slow"
	case s.Strain > 1:
		why = fmt.Sprintf("clients wait %.1f times as long as without it", s.Strain)
	}
	return fmt.Sprintf("node %s may bring %s a second: %s", s.Node, amount(s.Rate), why)
}

// describeEnded is the account of a job.
func describeEnded(j *admin.Job) string {
	text := fmt.Sprintf("job %d is %s after %s: planned %s, moved %s\n", j.ID, j.State, took(j), planned(j), moved(j.Moved))
	switch {
	case len(j.Missed) > 0:
		text += fmt.Sprintf(afterMissed, strings.Join(j.Missed, ", "))
	case j.State == admin.JobCancelled:
		text += afterCancel
	}
	return text
}

// account tells how a job that was waited for has ended.
func (o *outside) account(j *admin.Job, asJSON bool) (err error) {
	if asJSON {
		err = o.printJSON(j)
	} else {
		err = o.print("%s", describeEnded(j))
	}
	if err == nil && j.State != admin.JobDone {
		err = fmt.Errorf("job %d was %s", j.ID, j.State)
	}
	return err
}

// bar shows how much of something is done, from 0 to 1.
func bar(done float64) string {
	const width = 30
	full := min(int(done*width), width)
	return fmt.Sprintf("[%s%s] %3.0f %%", strings.Repeat("█", full), strings.Repeat("░", width-full), 100*done)
}

// progress is a bar and figures, in one line.
func progress(j *admin.Job) string {
	line := fmt.Sprintf("%s  %d of %s, %s", bar(j.Progress), j.Moved.Replicas, several(j.Planned.Replicas, "replica"), amount(j.Moved.Bytes))
	if fewer(j) {
		line = fmt.Sprintf("%s  %d of %s, each with fewer replicas", bar(j.Progress), j.Moved.Buckets, several(j.Planned.Buckets, "bucket"))
	}
	if j.Rate >= 1 {
		line += ", " + amount(int64(j.Rate)) + " a second"
	}
	if j.Left > 0 {
		line += ", " + span(j.Left) + " left"
	}
	if j.Expected > 0 {
		line += fmt.Sprintf(" (planned: about %s in all)", span(j.Expected))
	}
	return line
}

const (
	// awaitEvery is how often a job is looked at.
	awaitEvery = 300 * time.Millisecond
	// awaitSilent is for how long nobody may answer.
	awaitSilent = time.Minute
)

// await waits until a job has ended and shows how far it is. The node that was
// asked may go away meanwhile: then the others are.
func (o *outside) await(ctx context.Context, address string, id int) (admin.Job, error) {
	doors := o.doors(ctx, address)
	for {
		var jobs admin.Jobs
		err := doors.ask(ctx, "/v1/jobs", &jobs)
		if err != nil && doors.silent() {
			return admin.Job{}, fmt.Errorf("wait for job %d: %w", id, err)
		}
		for _, j := range jobs.Ended {
			if j.ID == id {
				o.redraw("")
				return j, nil
			}
		}
		if j := jobs.Running; j != nil && j.ID == id {
			o.redraw(strings.Split(strings.TrimSuffix(describeRunning(j), "\n"), "\n")...)
		} else if err == nil && len(jobs.Ended) > 0 && jobs.Ended[0].ID > id {
			return admin.Job{}, fmt.Errorf("job %d has ended, and so many others since that nobody remembers how", id)
		}
		select {
		case <-ctx.Done():
			return admin.Job{}, errors.Join(fmt.Errorf("wait for job %d, which goes on", id), ctx.Err())
		case <-time.After(awaitEvery):
		}
	}
}

// doors are the addresses for administration of a cluster's nodes: when the one that
// was asked goes away, the next is.
type doors struct {
	o     *outside
	all   []string
	at    int
	heard time.Time
}

func (o *outside) doors(ctx context.Context, address string) *doors {
	d := &doors{o: o, all: []string{address}, heard: time.Now()}
	var all admin.Nodes
	if _, err := o.within(ctx, address, "/v1/nodes", &all); err == nil {
		for _, m := range all.Nodes {
			if m.HTTP != "" && m.HTTP != off && m.HTTP != address {
				d.all = append(d.all, m.HTTP)
			}
		}
	}
	return d
}

func (d *doors) ask(ctx context.Context, path string, v any) error {
	_, err := d.o.within(ctx, d.all[d.at], path, v)
	if err == nil {
		d.heard = time.Now()
	} else {
		d.at = (d.at + 1) % len(d.all)
	}
	return err
}

// silent reports whether nobody has answered for too long.
func (d *doors) silent() bool { return time.Since(d.heard) > awaitSilent }

func (o *outside) within(ctx context.Context, address, path string, v any) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	return page(ctx, address, path, v)
}

func (o *outside) placementCommand() *cobra.Command {
	p := &cobra.Command{
		Use:     "placement",
		Short:   "Try out how buckets are placed",
		Long:    "Try out how buckets are placed over nodes. No cluster is needed.",
		Example: "  unkai placement simulate --nodes 6 --zones 3 --add 1",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	p.AddCommand(o.simulateCommand(node.DefaultConfig()))
	return p
}
