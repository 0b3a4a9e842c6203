package topology_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"unkai"
	"unkai/internal/core/topology"
)

// emptied is a cluster of so many nodes in so many zones, to which some have come and of
// which some have gone, and one of whose nodes has lost what it held just now.
func emptied(t *testing.T, r *rand.Rand, nodes, zones int) (topology.Topology, unkai.NodeID) {
	t.Helper()
	top := first(t, 3, 2, 2)
	var ids []unkai.NodeID
	for id := unkai.NodeID(11); len(ids) < nodes-1; id++ {
		n := topology.Node{ID: id, Weight: 1}
		if zones > 0 {
			n.Zone = fmt.Sprint(int(id) % zones)
		}
		top = joined(t, top, n)
		ids = append(ids, id)
		if r.IntN(3) > 0 || len(ids) == nodes-1 {
			top = ended(t, begun(t, top, attach(ids[len(top.Attached())-1:]...)), nil)
		}
	}
	lost := ids[r.IntN(len(ids))]
	next, err := top.Reborn(lost)
	if err != nil {
		t.Fatal(err)
	}
	if err := next.Seal(); err != nil {
		t.Fatal(err)
	}
	return next, lost
}

// loads are nodes that all say the same, but that some are full.
func loads(top topology.Topology, full func(unkai.NodeID) bool) (out []topology.Load) {
	for _, n := range top.Nodes {
		out = append(out, topology.Load{Node: n.ID, Alive: true, Bytes: 1000, Used: 1000, Full: full(n.ID)})
	}
	return out
}

// A node that has lost what it held gets that again, and no other gets anything: they may be
// full.
func TestARefillIsForOneNode(t *testing.T) {
	for seed := range uint64(120) {
		r := rand.New(rand.NewPCG(seed, 3))
		top, lost := emptied(t, r, 4+r.IntN(6), 0)
		p, err := top.Plan(attach(lost), loads(top, func(id unkai.NodeID) bool { return id != lost }))
		if err != nil || len(p.Roomless) > 0 {
			t.Errorf("seed %d, %d nodes: no room at %v, %v", seed, len(top.Nodes), p.Roomless, err)
		}
	}
}

// Nodes that are to get nothing get nothing, whatever a change does, as far as others can
// take it.
func TestNothingForTheFull(t *testing.T) {
	for seed := range uint64(120) {
		r := rand.New(rand.NewPCG(seed, 4))
		top, lost := emptied(t, r, 4+r.IntN(6), r.IntN(5))
		full := func(id unkai.NodeID) bool { return id != lost }
		for _, n := range top.Nodes {
			if full(n.ID) && r.IntN(2) == 0 { // which makes shares uneven
				next, err := top.Weigh(topology.Change{Kind: topology.KindWeigh, Nodes: []unkai.NodeID{n.ID}, Weight: 1 + r.IntN(3)})
				if err != nil {
					t.Fatal(err)
				}
				top.Nodes = next.Nodes
			}
		}
		c := attach(lost)
		for _, n := range top.Nodes {
			if full(n.ID) {
				c.Full = append(c.Full, n.ID)
			}
		}
		p, err := top.Plan(c, loads(top, full))
		if err != nil || len(p.Roomless) > 0 {
			t.Errorf("seed %d: no room at %v, %v", seed, p.Roomless, err)
		}
		next := begun(t, top, c)
		if r.IntN(2) == 0 { // what is sent again goes to the same
			next = sent(next)
			if next, err = next.Reborn(lost); err != nil {
				t.Fatal(err)
			}
		}
		next = ended(t, next, nil)
		for b := range next.Sets {
			for _, seat := range next.Sets[b].Replicas {
				if n, _ := next.Seated(seat); full(n.ID) && !slices.Contains(top.Sets[b].Replicas, seat) {
					t.Fatalf("seed %d: bucket %d comes to node %v, which is full", seed, b, n.ID)
				}
			}
		}
		if next.Gaps() {
			t.Errorf("seed %d: %d gaps are left", seed, next.Holes())
		}
	}
}
