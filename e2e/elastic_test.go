package e2e

import (
	"encoding/json"
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

// ask runs a command that has to succeed.
func (c *cluster) ask(at *member, args ...string) string {
	c.t.Helper()
	out, err := c.unkai(at, args...)
	if err != nil {
		c.t.Fatalf("unkai %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
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

// A cluster grows from 3 nodes to 6, and shrinks back to 3, under load; in the
// middle of each move a node is killed. Each key is one register all the time,
// and nothing is lost.
func TestGrowAndShrinkUnderKills(t *testing.T) {
	c := &cluster{t: t}
	c.grow(3)
	c.fill(600)
	first := c.members[0]
	c.ask(first, "job", "throttle", "3k")
	for i := 3; i < 6; i++ {
		c.members = append(c.members, &member{dir: filepath.Join(t.TempDir(), "data"), manual: true})
		c.run(i, first.peer)
	}
	m := c.members
	load := c.endpoints()[:3]
	attach := []string{"attach", m[3].peer, m[4].peer, m[5].peer}
	c.judged(15*time.Second, load, func() { c.move(first, m[1], attach...) })
	c.settled(6)
	for i, victim := range []*member{m[5], m[2], m[1]} { // who leaves, and two who stay
		leaver := c.members[len(c.members)-1]
		c.judged(15*time.Second, load, func() { c.move(first, victim, "detach", leaver.peer) })
		if code := leaver.awaitExit(t); code != 1 || !strings.Contains(leaver.output.String(), "removed from the cluster") {
			t.Errorf("node %d ended with %d", 6-i, code)
		}
		c.members = c.members[:len(c.members)-1]
		c.settled(len(c.members))
	}
	c.wants(600)
	if out := c.ask(first, "jobs"); strings.Count(out, "done") < 4 {
		t.Error(out)
	}
}
