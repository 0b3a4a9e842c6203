package jobs

import (
	"strings"
	"testing"

	"unkai"
	"unkai/internal/core/topology"
)

// Buckets that cannot move because they have lost their quorum are not said to be where
// they belong.
func TestLostBucketsAreNotWhereTheyBelong(t *testing.T) {
	top := topology.New(1, 16, 3, 2, 2, topology.Node{ID: 1, Weight: 1})
	become := func(next topology.Topology, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		top = next
	}
	become(top.Join(topology.Node{ID: 2, Weight: 1}))
	become(top.Join(topology.Node{ID: 3, Weight: 1}))
	become(top.Attach(2, 3))
	for b := range top.Sets {
		top.Sets[b] = topology.Set{Epoch: top.Epoch, Replicas: top.Sets[b].Joining}
	}
	c := topology.Change{Kind: topology.KindRebalance}
	if why := idle(&top, c, nil); why != "every bucket is where it belongs, so nothing is to be done" {
		t.Errorf("%q", why)
	}
	for _, id := range []unkai.NodeID{2, 3} {
		become(top.Reborn(id))
	}
	if why := idle(&top, c, nil); top.Lost() != 16 || !strings.HasPrefix(why, "16 buckets have lost their quorum for good and stay where they are; unkai rebalance --give-up-lost ") {
		t.Errorf("%d are lost: %q", top.Lost(), why)
	}
}
