package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"unkai/internal/admin"
	"unkai/internal/verify"
)

// troubled runs what disturb does while clients ask all nodes for everything, and
// a keeper writes and deletes; then everything that was acknowledged has to be
// there at the nodes that are left, and nothing else, and all replicas are equal.
func (c *cluster) troubled(k *keeper, disturb func()) {
	c.t.Helper()
	s := seed(c.t)
	nodes := slices.Clone(c.members)
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	type end struct {
		verify.Report
		error
	}
	done := make(chan end, 1)
	go func() {
		r, err := verify.Run(ctx, verify.Config{
			Endpoints: c.endpoints(), Duration: patience, Clients: 6, Prefix: fmt.Sprint("v", s, "-"), Seed: s, Timeout: patience,
		})
		done <- end{r, err}
	}()
	k.during(s, nodes, func() {
		k.answered(500)
		disturb()
		k.answered(500)
	})
	cancel()
	r := <-done
	if r.error != nil {
		c.t.Fatal(r.error)
	}
	c.t.Logf("%+v, and the keeper's %d", r.Counts, k.acked.Load())
	if !r.Verdict.OK {
		c.t.Errorf("the answers are not linearizable (undecided: %v)", r.Verdict.Undecided)
	}
	c.equal()
	k.check(c.members)
}

// status is what a node says of itself.
func (c *cluster) status(m *member) (s admin.Status, err error) {
	out, err := c.unkai(m, "status", "--json")
	if err != nil {
		return s, fmt.Errorf("%w: %s", err, out)
	}
	return s, json.Unmarshal([]byte(out), &s)
}

// serving is that of a node that serves. On a busy machine it may miss the others for a
// moment, which status ends with 4 for.
func (c *cluster) serving(m *member) (s admin.Status) {
	c.t.Helper()
	eventually(c.t, m.name+" says how it is", func() (err error) {
		s, err = c.status(m)
		return err
	})
	return s
}

// does runs a command that changes the cluster, and asks again while it cannot begin
// because another change is not over.
func (c *cluster) does(at *member, args ...string) {
	c.t.Helper()
	eventually(c.t, "unkai "+strings.Join(args, " "), func() error {
		out, err := c.unkai(at, args...)
		if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 3) {
			c.t.Fatalf("unkai %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return err
	})
}

// id is who a node is.
func (c *cluster) id(m *member) string {
	c.t.Helper()
	return c.serving(m).Node
}

// copied copies a directory of a node that is stopped.
func copied(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// unhurried leaves a test out of a short run.
func unhurried(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes up to a minute; run it without -short")
	}
}

// A disk is lost with all that was on it. The node that is started in its place
// with the same flags is another one: it joins, waits, and says that the lost one
// has to be replaced or detached; when that is done everything is whole.
func TestDiskWiped(t *testing.T) {
	unhurried(t)
	t.Parallel()
	for _, way := range []string{"replace", "detach"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			c := &cluster{t: t}
			c.grow(3)
			k := newKeeper(c)
			c.troubled(k, func() {
				victim := c.members[1]
				lost := c.id(victim)
				victim.kill(t)
				if err := os.RemoveAll(victim.dir); err != nil {
					t.Fatal(err)
				}
				c.run(1, c.members[0].peer)
				begun := c.id(victim)
				if begun == lost {
					t.Fatalf("node %s lost its disk and is still itself", lost)
				}
				k.answered(200)
				victim.says(t, "this node is new and holds nothing")
				replace := fmt.Sprintf("unkai replace %s %s", lost, begun)
				victim.says(t, replace)
				c.tells(c.members[0], replace, "nodes")
				eventually(t, "the first manager says what it waits for", func() error {
					for _, m := range c.members {
						if strings.Contains(m.output.String(), "bring it back, detach it, have one of them replace it") {
							return nil
						}
					}
					return errNotYet
				})
				command := []string{"replace", lost, begun, "--yes", "--wait"}
				if way == "detach" {
					command = []string{"detach", lost, "--yes", "--wait"}
				}
				c.does(c.members[2], command...)
				c.settled(3)
			})
		})
	}
}

// A data directory is put back from a copy that is older, as a whole, and then only the
// store of another. The nodes notice, begin new incarnations, and nothing of the old
// copies is ever read.
func TestDiskRestored(t *testing.T) {
	unhurried(t)
	t.Parallel()
	c := &cluster{t: t}
	c.grow(3)
	k := newKeeper(c)
	c.troubled(k, func() {
		second, third := c.members[1], c.members[2]
		second.stopped(t)
		whole := copied(t, second.dir)
		c.run(1, "")
		third.stopped(t)
		store := copied(t, filepath.Join(third.dir, "store"))
		c.run(2, "")
		k.answered(4000)
		c.notes(second, third)
		k.answered(500)

		before := c.incarnation(second)
		second.kill(t)
		k.answered(200)
		restored(t, whole, second.dir)
		c.run(1, "")
		second.says(t, "the data directory is an older copy: this node begins anew")
		c.settled(3)
		c.born(second, before)

		before = c.incarnation(third)
		third.kill(t)
		restored(t, store, filepath.Join(third.dir, "store"))
		c.run(2, "")
		third.says(t, "the store is empty or an older copy: this node begins anew")
		c.settled(3)
		c.born(third, before)
	})
}

// A data directory is put back from an older copy while all nodes are stopped, and is
// started first, so that nobody can tell it. Once others are there it stops and says
// why; started again it begins anew.
func TestDiskRestoredAndNobodyThere(t *testing.T) {
	unhurried(t)
	t.Parallel()
	c := &cluster{t: t}
	c.grow(3)
	k := newKeeper(c)
	second := c.members[1]
	c.troubled(k, func() {
		second.stopped(t)
		old := copied(t, second.dir)
		c.run(1, "")
		k.answered(2000)
		c.notes(c.members[0]) // with what it remembers of others
		before := c.incarnation(second)
		for _, m := range c.members {
			m.kill(t)
		}
		restored(t, old, second.dir)
		c.run(1, "")
		second.says(t, "it takes part when one has answered")
		c.notes(second) // which must not make it forget what others remember
		c.run(0, "")
		c.run(2, "")
		if code := second.awaitExit(t); code != 1 {
			t.Errorf("it ended with %d", code)
		}
		second.says(t, "start it again, and it begins anew")
		c.run(1, "")
		second.says(t, "the data directory is an older copy: this node begins anew")
		c.settled(3)
		c.born(second, before)
	})
}

// restored puts a copy in the place of a directory.
func restored(t *testing.T, from, dir string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(from, dir); err != nil {
		t.Fatal(err)
	}
}

// incarnation is which one of itself a node is.
func (c *cluster) incarnation(m *member) uint32 {
	c.t.Helper()
	return c.serving(m).Incarnation
}

// born checks that a node has begun another incarnation.
func (c *cluster) born(m *member, before uint32) {
	c.t.Helper()
	if now := c.incarnation(m); now <= before {
		c.t.Errorf("%s has incarnation %d, and had %d", m.name, now, before)
	}
}

// notes waits until nodes have noted once more that they are there, as they do every
// ten seconds.
func (c *cluster) notes(nodes ...*member) {
	c.t.Helper()
	for _, m := range nodes {
		read := func() string {
			b, err := os.ReadFile(filepath.Join(m.dir, "mark"))
			if err != nil {
				c.t.Fatal(err)
			}
			return string(b)
		}
		first := read()
		eventually(c.t, m.name+" notes that it is there", func() error {
			if read() == first {
				return errNotYet
			}
			return nil
		})
	}
}
