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
	return o.asking(&cobra.Command{
		Use:   "jobs",
		Short: "Show the job that runs, and the last ones",
		Long: `Show the job that runs: how far it is, how long it will take if it goes on as so far,
and what it waits for. Then the last ones that have ended, with what was planned and
what has moved.`,
		Example: "  unkai jobs\n  unkai jobs --json",
		Args:    cobra.NoArgs,
	}, func(ctx context.Context, address string, asJSON bool, _ []string) error {
		var j admin.Jobs
		body, err := page(ctx, address, "/v1/jobs", &j)
		if err != nil {
			return err
		}
		if asJSON {
			return o.print("%s", body)
		}
		return o.print("%s", describeJobs(&j))
	})
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
		took := span(float64(e.Ended-e.Begun) / 1000)
		outcome := e.State
		if e.Auto {
			outcome += ", by itself"
		}
		t.row(strconv.Itoa(e.ID), title(e.Kind, e.Nodes, e.Weight, e.Zone), time.UnixMilli(e.Begun).UTC().Format(time.RFC3339), took, moved(e.Planned), moved(e.Moved), outcome)
	}
	fmt.Fprintf(&b, "\n%s", t)
	return b.String()
}

func moved(a admin.Amount) string { return fmt.Sprintf("%d replicas, %s", a.Replicas, amount(a.Bytes)) }

func describeRunning(j *admin.Job) string {
	var b strings.Builder
	fmt.Fprintf(&b, "job %d, %s: %s\n  %s\n", j.ID, j.State, title(j.Kind, j.Nodes, j.Weight, j.Zone), progress(j))
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
	return fmt.Sprintf("job %d is %s after %s: planned %s, moved %s\n", j.ID, j.State, span(float64(j.Ended-j.Begun)/1000), moved(j.Planned), moved(j.Moved))
}

// bar shows how much of something is done, from 0 to 1.
func bar(done float64) string {
	const width = 30
	full := min(int(done*width), width)
	return fmt.Sprintf("[%s%s] %3.0f %%", strings.Repeat("█", full), strings.Repeat("░", width-full), 100*done)
}

// progress is a bar and figures, in one line.
func progress(j *admin.Job) string {
	line := fmt.Sprintf("%s  %d of %d replicas, %s", bar(j.Progress), j.Moved.Replicas, j.Planned.Replicas, amount(j.Moved.Bytes))
	if j.Rate >= 1 {
		line += ", " + amount(int64(j.Rate)) + " a second"
	}
	if j.Left > 0 {
		line += ", " + span(j.Left) + " left"
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
			line := progress(j)
			if j.State != admin.JobRunning {
				line += ", " + j.State
			}
			o.redraw(line)
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

// redraw replaces the last line of a terminal.
func (o *outside) redraw(line string) {
	if o.terminal {
		o.complain("\r\x1b[K%s", line)
	}
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
