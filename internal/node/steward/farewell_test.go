package steward

import (
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
