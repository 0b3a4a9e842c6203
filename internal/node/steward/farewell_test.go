package steward

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"unkai"
	"unkai/internal/core/topology"
)

// leaving is the topology in which a node holds nothing any more and is to be removed.
func leaving(t *testing.T, id unkai.NodeID) *topology.Topology {
	t.Helper()
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

// Whoever leaves is waited for as long, also after others, and not if it is dead.
func TestEachLeaverMayStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leaving := func(id unkai.NodeID) *topology.Topology { return leaving(t, id) }
		s := New(Config{Farewell: time.Minute})
		for id := unkai.NodeID(2); id < 5; id++ {
			top := leaving(id)
			s.cfg.Nodes = company{self: id}
			if !s.farewell(t.Context(), top) {
				t.Errorf("node %d is not waited for", id)
			}
			s.cfg.Nodes = company{self: 1}
			if s.farewell(t.Context(), top) {
				t.Errorf("node %d is dead, and waited for", id)
			}
			s.cfg.Nodes = company{self: id}
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

// Who comes to work while a node is waited for does not begin anew, unless it stood still
// itself.
func TestAFarewellGoesOnWithAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := leaving(t, 2)
		s := New(Config{Farewell: time.Minute, Nodes: company{self: 2}})
		before := *top
		before.Sets = slices.Clone(top.Sets)
		before.Sets[0].Due = []unkai.Seat{1}
		for range 40 { // the job is not over
			s.watch(&before)
			time.Sleep(time.Second)
		}
		for range 40 {
			s.watch(top)
			time.Sleep(time.Second)
		}
		if !s.farewell(t.Context(), top) {
			t.Error("it is not waited for")
		}
		time.Sleep(20 * time.Second)
		if s.farewell(t.Context(), top) {
			t.Error("it is waited for after a minute")
		}
		s.watch(top)
		if !s.farewell(t.Context(), top) {
			t.Error("after twenty seconds without a look it is known for how long it was there")
		}
	})
}
