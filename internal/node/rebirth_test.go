package node_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"unkai/internal/admin"
	"unkai/internal/node"
)

// three is a cluster on disks; the last node's directory is told.
func three(t *testing.T) (all []*node.Node, dir string) {
	all = cluster(t, 2, func(c *node.Config) { c.Store = node.Disk })
	dir = t.TempDir()
	all = append(all, member(t, node.Disk, dir, all[0].Peer()))
	settled(t, 3, all...)
	return all, dir
}

func incarnation(t *testing.T, seen admin.Nodes, n *node.Node) uint32 {
	t.Helper()
	for _, m := range seen.Nodes {
		if m.ID == n.ID().String() {
			return uint32(m.Incarnation)
		}
	}
	t.Fatalf("%v is not there: %+v", n.ID(), seen.Nodes)
	return 0
}

// A node whose store was lost holds nothing of what it promised: it begins a new
// incarnation, and counts again when it has got its share.
func TestALostStoreIsNoticed(t *testing.T) {
	all, dir := three(t)
	dial(t, all[0]).fill(0, 200)
	stop(t, all[2])
	if err := os.RemoveAll(filepath.Join(dir, "store")); err != nil {
		t.Fatal(err)
	}
	all[2] = member(t, node.Disk, dir, all[0].Peer())
	if i := incarnation(t, settled(t, 3, all...), all[2]); i != 2 {
		t.Errorf("incarnation %d", i)
	}
	stop(t, all[1])
	dial(t, all[2]).check(200)
}

// A node that comes back with an old copy of its directory would answer with what
// was true then, and has forgotten its promises since: it begins a new
// incarnation. So it does with an old copy of its store alone.
func TestAnOlderCopyIsNoticed(t *testing.T) {
	for _, part := range []string{".", "store"} {
		t.Run(part, func(t *testing.T) {
			all, dir := three(t)
			dial(t, all[0]).fill(0, 100)
			stop(t, all[2])
			old := filepath.Join(t.TempDir(), "copy")
			if err := os.CopyFS(old, os.DirFS(filepath.Join(dir, part))); err != nil {
				t.Fatal(err)
			}
			all[2] = member(t, node.Disk, dir)
			if i := incarnation(t, settled(t, 3, all...), all[2]); i != 1 {
				t.Errorf("after a restart it has incarnation %d", i)
			}
			dial(t, all[0]).fill(50, 200)
			stop(t, all[2])
			if err := os.RemoveAll(filepath.Join(dir, part)); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(filepath.Join(dir, part), os.DirFS(old)); err != nil {
				t.Fatal(err)
			}
			all[2] = member(t, node.Disk, dir)
			if i := incarnation(t, settled(t, 3, all...), all[2]); i != 2 {
				t.Errorf("with an old copy it has incarnation %d", i)
			}
			stop(t, all[1])
			dial(t, all[2]).check(200)
		})
	}
}

// Nobody could give a node alone what it has lost: it refuses to begin anew in
// silence.
func TestANodeAloneRefusesALostStore(t *testing.T) {
	dir := t.TempDir()
	n := member(t, node.Disk, dir)
	dial(t, n).fill(0, 10)
	stop(t, n)
	if err := os.RemoveAll(filepath.Join(dir, "store")); err != nil {
		t.Fatal(err)
	}
	c := config(t, node.Disk)
	c.Data = dir
	for range 3 { // having refused changes nothing
		if n, err := node.Start(context.Background(), c); err == nil || !strings.Contains(err.Error(), "mount or restore") {
			t.Errorf("%v", err)
			if err == nil {
				stop(t, n)
			}
		}
	}
}

// A directory that has kept who the node is, and neither its store nor the topology,
// is no new node.
func TestWhoIsLeftOfADirectoryBeginsAnew(t *testing.T) {
	all, dir := three(t)
	dial(t, all[0]).fill(0, 100)
	stop(t, all[2])
	for _, name := range []string{"store", "topology", "decree", "mark", "book", "ballots"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	all[2] = member(t, node.Disk, dir, all[0].Peer())
	if i := incarnation(t, settled(t, 3, all...), all[2]); i < 2 {
		t.Errorf("incarnation %d", i)
	}
	stop(t, all[1])
	dial(t, all[2]).check(100)
}

// Not even if its clock was ahead when it last told the others that it was there.
func TestAnEmptiedDirectoryWhoseClockWasAhead(t *testing.T) {
	all := cluster(t, 2, plain)
	dir := t.TempDir()
	ahead := func(by time.Duration) *node.Node {
		return built(t, func(c *node.Config) {
			c.Data, c.Store = dir, node.Disk
			c.Now = func() int64 { return time.Now().Add(by).UnixMilli() }
		}, all[0].Peer())
	}
	last := ahead(time.Hour)
	settled(t, 3, append(all, last)...)
	stop(t, last)
	for _, name := range []string{"store", "topology", "decree", "mark", "book", "ballots"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	last = ahead(0)
	if i := incarnation(t, settled(t, 3, append(all, last)...), last); i < 2 {
		t.Errorf("incarnation %d", i)
	}
}

// Who is left alone waits for nobody, whomever it knew before.
func TestTheLastMemberStartsAlone(t *testing.T) {
	dir := t.TempDir()
	first := member(t, node.Disk, dir)
	other := member(t, node.Disk, t.TempDir(), first.Peer())
	settled(t, 2, first, other)
	dial(t, first).fill(0, 50)
	_, j := begin(t, first, "detach", other.ID().String())
	if done := ended(t, first, j.ID); done.State != admin.JobDone {
		t.Fatalf("%+v", done)
	}
	gone := other.Peer()
	stop(t, other)
	stop(t, first)
	first = member(t, node.Disk, dir, gone)
	c := dial(t, first)
	c.check(50)
	c.fill(50, 60)
}

// Who could ask nobody may have an older copy: it answers nobody and decides nothing,
// not even as the only manager, until another has answered.
func TestWhoCouldAskNobodyDecidesNothing(t *testing.T) {
	dirs := []string{t.TempDir(), t.TempDir()}
	first := member(t, node.Disk, dirs[0])
	other := member(t, node.Disk, dirs[1], first.Peer())
	settled(t, 2, first, other)
	dial(t, first).fill(0, 20)
	peer := other.Peer()
	stop(t, other)
	stop(t, first)
	first = built(t, func(c *node.Config) { // after half of the time it says that it does not serve
		c.Data, c.Store, c.RequestTimeout = dirs[0], node.Disk, 2*time.Second
	}, peer)
	if seen := nodes(t, first).Nodes; !slices.ContainsFunc(seen, func(m admin.Node) bool { return strings.Contains(m.Problem, "waits for another") }) {
		t.Errorf("it does not say that it waits: %+v", seen)
	}
	if code, text := readiness(t, first); code != http.StatusServiceUnavailable || !strings.Contains(text, "waits for another") {
		t.Errorf("it says that it is ready, or not why it is not: %d %s", code, text)
	}
	c := dial(t, first)
	for _, ask := range []string{"get key1\r\n", "set key1 0 0 1\r\nx\r\n", "flush_all\r\n"} {
		if got := c.line(ask); !strings.HasPrefix(got, "SERVER_ERROR not applied: this node waits") {
			t.Errorf("%q is answered with %q", ask, got)
		}
	}
	if code, text := post(t, first, "/v1/jobs", admin.Wish{Kind: "weigh", Nodes: []string{first.ID().String()}, Weight: 2}, nil); code == 200 {
		t.Errorf("a job was begun: %s", text)
	}
	other = member(t, node.Disk, dirs[1], first.Peer())
	settled(t, 2, first, other)
	for until := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		code, text := readiness(t, first)
		if code == http.StatusOK {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("another has answered: %d %s", code, text)
		}
	}
	dial(t, first).check(20)
	dial(t, other).check(20)
}

// readiness is what a node says when it is asked whether clients should be sent to it.
func readiness(t *testing.T, n *node.Node) (int, string) {
	t.Helper()
	resp, err := http.Get("http://" + n.HTTP().String() + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// Who was told to go on with an older copy does, also if it is started first and hears
// only later that others remember more.
func TestAnOlderCopyThatGoesOnIsStartedFirst(t *testing.T) {
	dirs := []string{t.TempDir(), t.TempDir()}
	disk := func(i int) func(*node.Config) {
		return func(c *node.Config) { c.Data, c.Store, c.Restored = dirs[i], node.Disk, true }
	}
	first := built(t, disk(0))
	second := built(t, disk(1), first.Peer())
	settled(t, 2, first, second)
	dial(t, first).fill(0, 100)
	stop(t, first)
	old := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(old, os.DirFS(dirs[0])); err != nil {
		t.Fatal(err)
	}
	first = built(t, disk(0), second.Peer()) // the second one remembers this
	settled(t, 2, first, second)
	stop(t, first)
	stop(t, second)
	dirs[0] = old
	first = built(t, disk(0))
	second = built(t, disk(1), first.Peer())
	settled(t, 2, first, second)
	select {
	case <-first.Done():
		t.Fatal("it has ended")
	default:
	}
	dial(t, first).check(100)
}
