package node_test

import (
	"strings"
	"testing"

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
