package node

import (
	"slices"
	"strings"
	"testing"

	"unkai"
	"unkai/internal/core/topology"
)

// A job says at any time that buckets were sent back, and that it will send them again.
func TestBucketsSentBackAreNamed(t *testing.T) {
	n := &Node{id: 1, book: &book{}, network: vouched{Network: company{alive: map[unkai.NodeID]bool{2: true}}}}
	top := topology.New(1, 16, 2, 1, 2, topology.Node{ID: 1, Weight: 1})
	become := func(next topology.Topology, err error) {
		t.Helper()
		if err == nil {
			err = next.Seal()
		}
		if err != nil {
			t.Fatal(err)
		}
		top = next
	}
	waits := func() []string {
		all, _ := n.waits(&top)
		return all
	}
	said := func() bool {
		return slices.ContainsFunc(waits(), func(s string) bool { return strings.Contains(s, " buckets that were sent back ") })
	}
	become(top.Join(topology.Node{ID: 2, Weight: 1}))
	become(top.Begin(topology.Change{Kind: topology.KindAttach, Nodes: []unkai.NodeID{2}}, nil, 1))
	become(top.Proceed(nil, nil, 8, nil), nil)
	if said() {
		t.Errorf("nothing was: %q", waits())
	}
	b := unkai.Bucket(slices.IndexFunc(top.Sets, func(s topology.Set) bool { return len(s.Joining) > 0 }))
	next, _ := top.Renew([]topology.Renewal{{Bucket: b, Epoch: top.Route(b).Epoch}})
	become(next, nil)
	if !said() {
		t.Errorf("it says nothing while others move: %q", waits())
	}
	for top.Moving() > 0 {
		var all []unkai.Bucket
		for b := range unkai.Bucket(top.Buckets) {
			all = append(all, b)
		}
		become(top.Proceed(all, all, 16, nil), nil)
	}
	if !said() || !slices.ContainsFunc(waits(), func(s string) bool { return strings.Contains(s, "to forget") }) {
		t.Errorf("it says nothing when all others have arrived: %q", waits())
	}
}
