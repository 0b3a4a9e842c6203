package steward

import (
	"testing"
	"testing/synctest"
	"time"

	"unkai"
	"unkai/internal/admin"
	"unkai/internal/core/topology"
)

// foreseen is what the steward says of a node after so much time.
func (w *watcher) foreseen(id unkai.NodeID, d time.Duration) string {
	w.t.Helper()
	w.first(d)
	for _, p := range w.foresee(&w.top) {
		if p.Node == id.String() {
			said := admin.Prospect(p)
			return said.Say()
		}
	}
	return ""
}

// What becomes of a node by itself is said beforehand, and why nothing does.
func TestForesight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watching(t, 3, 2)
		w.top.Nodes[4].Manual = true
		says := func(id unkai.NodeID, d time.Duration, want string) {
			t.Helper()
			if got := w.foreseen(id, d); got != want {
				t.Errorf("node %v is %q, want %q", id, got, want)
			}
		}
		says(4, time.Second, "to be attached by itself in 1s")
		says(1, 0, "")
		says(5, 0, "")
		w.c.says[4].Limit = 1001
		says(4, 2*time.Second, "not attached by itself: node 0000000000000004 has no room for what it would get")
		w.top.Job = &topology.Job{ID: 7, Change: topology.Change{Kind: topology.KindWeigh}}
		if got := w.foresee(&w.top)[0].Why; got != "job 7 (weigh) has to end first" {
			t.Error(got)
		}
		w.top.Job = nil
		w.dies(3)
		says(3, time.Second, "to be replaced by itself in 4s") // it has no room
		w.c.says[4].Limit = 100_000
		w.chosen.at = time.Now().Add(-chooseEvery)
		says(3, time.Second, "to be replaced by node 0000000000000004 by itself in 3s")
		says(4, 0, "not attached by itself: it takes the place of node 0000000000000003 when that one is replaced")
		w.c.says[4].Limit = 1001
		says(3, time.Minute, "not replaced by itself: node 0000000000000004 cannot take its place: node 0000000000000004 has no room for what it would get; without it 2 nodes are left, too few for 3 replicas of each key; node 0000000000000005 waits, but nothing is done with it by itself (--attach manual): unkai replace 0000000000000003 0000000000000005")
		w.top.AutoReplace = 0
		says(3, time.Second, "")
		says(4, 0, "not attached by itself: node 0000000000000003 is away, and they would take over from replicas that are alive; bring it back, detach it, have one of them replace it, or attach them yourself")
		w.top.Managers = []unkai.NodeID{1, 2, 3}
		w.dies(2)
		says(4, time.Second, "not attached by itself: 1 of 3 managers answer, too few to decide anything")
	})
}

// The node that is foretold to take the place of a dead one is the one that does, also when
// there are others before it that cannot.
func TestTheHeirThatIsForetold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watching(t, 3, 2)
		w.c.says[4].Limit = 1001
		w.top.Nodes[3].Zone = w.top.Nodes[2].Zone // it would be the first
		w.dies(3)
		if got := w.foreseen(3, 4*time.Second); got != "to be replaced by node 0000000000000005 by itself in 1s" {
			t.Errorf("it is %q", got)
		}
		if got := w.foreseen(5, 0); got != "not attached by itself: it takes the place of node 0000000000000003 when that one is replaced" {
			t.Errorf("the spare is %q", got)
		}
		w.does(topology.KindReplace, 3, 5)
	})
}
