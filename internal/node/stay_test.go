package node

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"unkai"
	"unkai/internal/core/topology"
)

// Whoever leaves is waited for as long, also after others, and not if it is dead.
func TestEachLeaverMayStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leaving := func(id unkai.NodeID) *topology.Topology {
			top := topology.New(1, 16, 1, 1, 1, topology.Node{ID: 1, Weight: 1})
			top, err := top.Join(topology.Node{ID: id, Weight: 1})
			if err != nil {
				t.Fatal(err)
			}
			for i := range top.Nodes {
				if top.Nodes[i].ID == id {
					top.Nodes[i].State = topology.Leaving
				}
			}
			return &top
		}
		s := &steward{n: &Node{state: "has heard of no topology", cfg: Config{Farewell: time.Minute}}}
		s.n.network.Network = company{}
		for id := unkai.NodeID(2); id < 5; id++ {
			top := leaving(id)
			s.n.id = id
			if !s.farewell(t.Context(), top) {
				t.Errorf("node %d is not waited for", id)
			}
			s.n.id = 1
			if s.farewell(t.Context(), top) {
				t.Errorf("node %d is dead, and waited for", id)
			}
			s.n.id = id
			time.Sleep(time.Minute - time.Millisecond)
			if !s.farewell(t.Context(), top) {
				t.Errorf("node %d is waited for for less than a minute", id)
			}
			time.Sleep(time.Millisecond)
			if s.farewell(t.Context(), top) {
				t.Errorf("node %d is waited for after a minute", id)
			}
		}
	})
}

// Who was drained knows it when it is removed, also if what it hears of earlier topologies
// is overtaken by what it hears of later ones.
func TestWhoWasDrainedKnowsIt(t *testing.T) {
	top := topology.New(1, 16, 1, 1, 1, topology.Node{ID: 1, Weight: 1})
	member, err := top.Join(topology.Node{ID: 2, Weight: 1})
	if err != nil {
		t.Fatal(err)
	}
	leaving, err := member.Detach(2)
	if err != nil {
		t.Fatal(err)
	}
	removed, ok := leaving.Depart()
	if !ok {
		t.Fatal("it does not leave")
	}
	for _, c := range []struct {
		name    string
		seen    []*topology.Topology
		drained bool
	}{
		{"in order", []*topology.Topology{&member, &leaving, &removed}, true},
		{"overtaken", []*topology.Topology{&leaving, &member, &removed}, true},
		{"dead meanwhile", []*topology.Topology{&member, &removed}, false},
	} {
		n := &Node{id: 2, failed: make(chan error, 1)}
		for _, top := range c.seen {
			n.belongs(top)
		}
		if err := <-n.failed; errors.Is(err, ErrDrained) != c.drained || !errors.Is(err, topology.ErrRemoved) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
