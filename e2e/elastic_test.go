package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"unkai/internal/admin"
)

// unkai runs a command against a node, and gives what it printed.
func (c *cluster) unkai(at *member, args ...string) (string, error) {
	program, err := binary()
	if err != nil {
		c.t.Fatal(err)
	}
	out, err := exec.Command(program, append(args, "--http", at.http)...).CombinedOutput()
	return string(out), err
}

// ask runs a command that has to succeed, but for a hiccup.
func (c *cluster) ask(at *member, args ...string) (out string) {
	c.t.Helper()
	soon(c.t, "unkai "+strings.Join(args, " "), func() (err error) {
		if out, err = c.unkai(at, args...); err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return err
	})
	return out
}

// tells waits until what a command prints has something in it.
func (c *cluster) tells(at *member, what string, args ...string) {
	c.t.Helper()
	eventually(c.t, fmt.Sprintf("unkai %s tells %q", strings.Join(args, " "), what), func() error {
		if out := c.ask(at, args...); !strings.Contains(out, what) {
			return errors.New(out)
		}
		return nil
	})
}

func (c *cluster) jobs(at *member) (j admin.Jobs, err error) {
	out, err := c.unkai(at, "jobs", "--json")
	if err != nil {
		return j, fmt.Errorf("%w: %s", err, out)
	}
	return j, json.Unmarshal([]byte(out), &j)
}

// move begins a job, kills a node with its first buckets switched and others not,
// starts it again, and waits until the job has ended.
func (c *cluster) move(at, victim *member, args ...string) {
	c.t.Helper()
	var job admin.Job
	eventually(c.t, "the job begins", func() error { // the last one may have something left to forget
		out, err := c.unkai(at, append(args, "--yes", "--json")...)
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return json.Unmarshal([]byte(out), &job)
	})
	eventually(c.t, "it is under way", func() error {
		j, err := c.jobs(at)
		if err == nil && (j.Running == nil || j.Running.Moved.Buckets == 0) {
			err = fmt.Errorf("it is not: %+v", j.Running)
		}
		for _, e := range j.Ended {
			if e.ID == job.ID {
				c.t.Fatalf("it ended too early: %+v", e)
			}
		}
		return err
	})
	victim.kill(c.t)
	pause(time.Second)
	for i, m := range c.members {
		if m == victim {
			c.run(i, "")
		}
	}
	eventually(c.t, "it ends", func() error {
		j, err := c.jobs(at)
		if err != nil {
			return err
		}
		for _, e := range j.Ended {
			if e.ID != job.ID {
				continue
			}
			if e.State != admin.JobDone || e.Moved.Replicas != e.Planned.Replicas {
				c.t.Errorf("%+v", e)
			}
			return nil
		}
		return fmt.Errorf("it waits for %v", j.Running)
	})
}

// balanced checks that each of n nodes has its share of the replicas, within 5 %.
func (c *cluster) balanced(n int) {
	c.t.Helper()
	l, err := c.members[0].layout()
	if err != nil {
		c.t.Fatal(err)
	}
	all := 0
	for _, node := range l.Nodes {
		all += node.Replicas
	}
	for i, node := range l.Nodes {
		if share := float64(node.Replicas) * float64(n) / float64(all); share < 0.95 || share > 1.05 {
			c.t.Errorf("of %d nodes, number %d has %.3f of its share", n, i+1, share)
		}
	}
}

// A cluster grows from 3 nodes to 6, and shrinks back to 3, under load, also at those that
// join and leave; in the middle of each move a node is killed. Each key is one register
// all the time, nothing is lost, and after each move every node has its share. With
// -short it grows to 4.
func TestGrowAndShrinkUnderKills(t *testing.T) {
	most, length := 6, 8*time.Second
	if testing.Short() {
		most, length = 4, 6*time.Second
	}
	c := &cluster{t: t}
	c.grow(3)
	c.fill(600)
	first := c.members[0]
	c.ask(first, "job", "throttle", "3k")
	for i := 3; i < most; i++ {
		c.members = append(c.members, &member{dir: filepath.Join(t.TempDir(), "data"), manual: true})
		c.run(i, first.peer)
	}
	m := c.members
	attach := []string{"attach"}
	for _, joins := range m[3:] {
		attach = append(attach, joins.peer)
	}
	c.judged(length, c.endpoints(), func() { c.move(first, first, attach...) }) // the very node that was asked
	c.settled(most)
	c.balanced(most)
	for _, victim := range []*member{m[most-1], m[2], m[1]}[:most-3] { // who leaves, and who stays
		n := len(c.members)
		leaver := c.members[n-1]
		// It stays until those of the clients that are at it have asked all that they want.
		c.judged(length, c.endpoints(), func() { c.move(first, victim, "detach", leaver.peer) })
		if code := leaver.awaitExit(t); code != 0 || !strings.Contains(leaver.output.String(), "was removed from its cluster") {
			t.Errorf("node %d ended with %d", n, code)
		}
		c.members = c.members[:n-1]
		c.settled(n - 1)
		c.balanced(n - 1)
	}
	c.wants(600)
	if out := c.ask(first, "jobs"); strings.Count(out, "done") < most-2 {
		t.Error(out)
	}
}
