package e2e

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"unkai/internal/admin"
)

// replaces waits until a node's share was brought elsewhere by a job that nobody asked for.
func (c *cluster) replaces(kind, dead string) {
	c.t.Helper()
	at := c.members[0]
	eventually(c.t, "the dead node is replaced", func() error {
		j, err := c.jobs(at)
		if err != nil {
			return err
		}
		for _, e := range j.Ended {
			if e.Kind == kind && e.Auto && e.State == admin.JobDone && e.Nodes[0] == dead {
				return nil
			}
		}
		out, _ := c.unkai(at, "status") // some keys may lack their quorums for a moment
		return fmt.Errorf("%+v\n%s", j, out)
	})
	c.settled(len(c.members))
}

// A node is killed for good, under load. First a new one takes its place, since without it
// fewer than N were left; then, with one more, the steward is killed: another one works, and
// all that are left get its share. With -short only the first.
func TestDeadNodesAreReplacedByThemselves(t *testing.T) {
	c := &cluster{t: t}
	c.grow(3)
	c.fill(300)
	c.ask(c.members[0], "auto-replace", "3s")
	victim := c.members[2]
	dead := c.serving(victim).Node
	c.judged(8*time.Second, c.endpoints()[:2], func() {
		pause(time.Second)
		victim.kill(t)
		c.members[2] = &member{dir: filepath.Join(t.TempDir(), "data")}
		c.run(2, c.members[0].peer)
	})
	c.replaces("replace", dead)
	c.wants(300)
	if testing.Short() {
		return
	}
	c.grow(4)
	eventually(t, "one leads", func() error {
		for i, m := range c.members {
			if s := c.serving(m); s.Deciding != nil && s.Deciding.Lead {
				victim, dead = m, s.Node
				c.members = append(c.members[:i:i], c.members[i+1:]...)
				return nil
			}
		}
		return fmt.Errorf("nobody does")
	})
	c.judged(8*time.Second, c.endpoints(), func() {
		pause(time.Second)
		victim.kill(t)
	})
	c.replaces("detach", dead)
	c.wants(300)
}
