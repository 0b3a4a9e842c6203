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
	"syscall"
	"testing"
	"time"

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
			Endpoints: c.endpoints(), Duration: patience, Clients: 6, Prefix: fmt.Sprint("v", s, "-"), Seed: s, Timeout: 10 * time.Second,
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
	c.t.Log("judged", time.Now())
	c.equal()
	c.t.Log("equal", time.Now())
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

// does runs a command that changes the cluster, and asks again while it cannot begin
// because another change is not over.
func (c *cluster) does(at *member, args ...string) {
	c.t.Helper()
	eventually(c.t, "unkai "+strings.Join(args, " "), func() error {
		out, err := c.unkai(at, args...)
		if exit := (*exec.ExitError)(nil); err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 3) {
			c.t.Fatalf("unkai %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return err
	})
}

// id is who a node is.
func (c *cluster) id(m *member) string {
	c.t.Helper()
	s, err := c.status(m)
	if err != nil {
		c.t.Fatal(err)
	}
	return s.Node
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

// A disk is lost with all that was on it. The node that is started in its place
// with the same flags is another one: it joins, waits, and says that the lost one
// has to be replaced or detached; when that is done everything is whole.
func TestDiskWiped(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"replace", "detach"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			c := &cluster{t: t}
			c.grow(3)
			k := newKeeper(c)
			begunAt := time.Now()
			step := func(s string) { t.Log(s, time.Since(begunAt)) }
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
				if out := c.ask(c.members[0], "nodes"); !strings.Contains(out, replace) {
					t.Errorf("unkai nodes does not say what to do:\n%s", out)
				}
				c.members[0].says(t, "bring it back, detach it, have one of them replace it")
				step("it says what to do")
				command := []string{"replace", lost, begun, "--yes", "--wait"}
				if way == "detach" {
					command = []string{"detach", lost, "--yes", "--wait"}
				}
				c.does(c.members[2], command...)
				step("it was done")
				c.settled(3)
				step("settled")
			})
			step("checked")
		})
	}
}

// A whole data directory, or the store in it, is put back from a copy that is
// older. The node notices, begins a new incarnation, and nothing of the old copy is
// ever read.
func TestDiskRestored(t *testing.T) {
	t.Parallel()
	for _, part := range []string{"", "store"} {
		t.Run("all/"+part, func(t *testing.T) {
			t.Parallel()
			c := &cluster{t: t}
			c.grow(3)
			k := newKeeper(c)
			begunAt := time.Now()
			step := func(s string) { t.Log(s, time.Since(begunAt)) }
			c.troubled(k, func() {
				victim := c.members[1]
				victim.signal(t, syscall.SIGTERM)
				if code := victim.awaitExit(t); code != 0 {
					t.Errorf("it stopped with %d", code)
				}
				old := copied(t, filepath.Join(victim.dir, part))
				c.run(1, "")
				before, err := c.status(victim)
				if err != nil {
					t.Fatal(err)
				}
				k.answered(4000)
				step("4000")
				c.notes(victim)
				step("noted")
				victim.kill(t)
				k.answered(500)
				if err := os.RemoveAll(filepath.Join(victim.dir, part)); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(old, filepath.Join(victim.dir, part)); err != nil {
					t.Fatal(err)
				}
				c.run(1, "")
				victim.says(t, "begins anew")
				after, err := c.status(victim)
				if err != nil || after.Incarnation <= before.Incarnation || after.Node != before.Node {
					t.Errorf("incarnation %d of %s, before %d of %s: %v", after.Incarnation, after.Node, before.Incarnation, before.Node, err)
				}
				step("began anew")
				c.settled(3)
				step("settled")
			})
			step("checked")
		})
	}
}

// notes waits until a node has noted once more that it is there, as it does every
// ten seconds.
func (c *cluster) notes(m *member) {
	c.t.Helper()
	read := func() string {
		b, err := os.ReadFile(filepath.Join(m.dir, "mark"))
		if err != nil {
			c.t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	first := read()
	eventually(c.t, "the node notes that it is there", func() error {
		if read() == first {
			return errNotYet
		}
		return nil
	})
}
