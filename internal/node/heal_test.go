package node_test

import (
	"testing"
	"time"

	"unkai/internal/admin"
	"unkai/internal/node"
)

// A node has lost its memory, and its attachment was cancelled: the others take what
// it held, without being asked, if they are enough.
func TestGapsAreFilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	all := cluster(t, 4, plain)
	lost := built(t, func(c *node.Config) { c.Data = dir }, all[0].Peer())
	settled(t, 5, append(all, lost)...)
	post(t, all[0], "/v1/job", admin.Order{Do: "throttle", Throttle: 1}, nil)
	stop(t, lost)
	built(t, func(c *node.Config) { c.Data = dir }, all[0].Peer())
	until := time.Now().Add(patience)
	wait := func(what string, done func() bool) {
		t.Helper()
		for !done() {
			if time.Now().After(until) {
				t.Fatalf("%s: %+v", what, nodes(t, all[0]))
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	wait("it is not attached", func() bool { return nodes(t, all[0]).Job != nil })
	post(t, all[0], "/v1/job", admin.Order{Do: "cancel"}, nil)
	post(t, all[0], "/v1/job", admin.Order{Do: "throttle"}, nil)
	wait("the gaps are not filled", func() bool {
		j := jobs(t, all[0]).Ended
		return j[len(j)-1].Kind == "rebalance" && j[len(j)-1].Auto
	})
	// With a gap and one more replica away a key could not be read. The node that came back
	// may have a share by now: some buckets may have been switched before the job ended.
	stop(t, all[3])
	dial(t, all[0]).check(300)
}

// One of two nodes loses its memory: the other goes on, and shares with it again.
func TestOneOfTwoLosesItsMemory(t *testing.T) {
	t.Parallel()
	var dirs []string
	all := cluster(t, 2, func(c *node.Config) { dirs = append(dirs, c.Data) })
	stop(t, all[1])
	back := built(t, func(c *node.Config) { c.Data = dirs[1] }, all[0].Peer())
	settled(t, 2, all[0], back)
	for _, n := range []*node.Node{all[0], back} {
		dial(t, n).check(300)
	}
}
