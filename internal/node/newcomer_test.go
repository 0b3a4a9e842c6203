package node_test

import (
	"strings"
	"testing"
	"time"

	"unkai/internal/admin"
	"unkai/internal/node"
)

// A job whose target has died does not go on without it: it would count as a replica that
// holds nothing, and one that holds everything would forget it. It waits, says for whom, and
// goes on when the target is back.
func TestAJobWaitsForItsTarget(t *testing.T) {
	t.Parallel()
	all := cluster(t, 3, plain)
	dial(t, all[0]).fill(0, 300)
	dir := t.TempDir()
	open := func() *node.Node {
		return built(t, func(c *node.Config) { c.Data, c.Store, c.Attach = dir, node.Disk, node.Manual }, all[0].Peer())
	}
	target := open()
	old, heir := idOf(t, all[2]), idOf(t, target)
	post(t, all[0], "/v1/job", admin.Order{Do: "throttle", Throttle: 1}, nil)
	_, j := begin(t, all[0], "replace", old, heir)
	awaited(t, all[0], j.ID, func(admin.Job) bool { return nodes(t, all[0]).Moving > 0 })
	stop(t, target)
	post(t, all[0], "/v1/job", admin.Order{Do: "throttle"}, nil)
	waits := awaited(t, all[0], j.ID, func(j admin.Job) bool {
		return strings.Contains(strings.Join(j.Waits, "\n"), "away: "+heir)
	})
	if waits.State != admin.JobRunning {
		t.Fatalf("it has ended without its target: %+v", waits)
	}
	target = open()
	if done := ended(t, all[0], j.ID); done.State != admin.JobDone {
		t.Errorf("%+v", done)
	}
	dial(t, target).check(300)
}

// A job that began by itself is not left to an operator when its target has died: it ends, so
// that others can begin. When the target is back it gets its share all the same.
func TestAJobOfItsOwnGivesItsTargetUp(t *testing.T) {
	t.Parallel()
	all := cluster(t, 2, plain)
	post(t, all[0], "/v1/job", admin.Order{Do: "auto-replace", AutoReplace: new(1.0)}, nil)
	post(t, all[0], "/v1/job", admin.Order{Do: "throttle", Throttle: 1}, nil)
	dir, at := t.TempDir(), lasting()
	open := func() *node.Node {
		return built(t, func(c *node.Config) { c.Data, c.Store, c.Peer = dir, node.Disk, at }, all[0].Peer())
	}
	target := open()
	name := idOf(t, target)
	top := awaitedTopology(t, all[0], func(n admin.Nodes) bool { return n.Job != nil && n.Job.Auto && n.Moving > 0 })
	stop(t, target)
	gaveUp := ended(t, all[0], top.Job.ID)
	if gaveUp.State != admin.JobCancelled || len(gaveUp.Missed) != 1 || !strings.HasPrefix(gaveUp.Missed[0], name) {
		t.Errorf("%+v", gaveUp)
	}
	post(t, all[0], "/v1/job", admin.Order{Do: "throttle"}, nil)
	target = open()
	settled(t, 3, all[0], all[1], target)
	awaitedTopology(t, all[0], func(n admin.Nodes) bool {
		return n.Job == nil && n.Moving == 0 && len(n.Nodes) == 3 && n.Nodes[0].Replicas == n.Nodes[1].Replicas && n.Nodes[1].Replicas == n.Nodes[2].Replicas
	})
	dial(t, target).check(300)
}

// awaitedTopology looks at the nodes until they are as they should be.
func awaitedTopology(t *testing.T, n *node.Node, want func(admin.Nodes) bool) admin.Nodes {
	t.Helper()
	for until := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		switch all := nodes(t, n); {
		case want(all):
			return all
		case time.Now().After(until):
			t.Fatalf("it does not come to that: %+v", all)
		}
	}
}
