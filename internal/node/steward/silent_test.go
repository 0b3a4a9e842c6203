package steward

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"unkai"
	"unkai/internal/core/topology"
)

// company are nodes of which some are alive, and have settled nothing.
type company struct {
	self  unkai.NodeID
	alive map[unkai.NodeID]bool
	says  map[unkai.NodeID]*Load
}

// Here implements Nodes.
func (c company) Here(id unkai.NodeID) bool { return id == c.self || c.alive[id] }

// Serves implements Nodes: who is alive does.
func (c company) Serves(*topology.Topology) func(unkai.NodeID) bool { return c.Here }

// Loads implements Nodes: who is alive says how it is.
func (c company) Loads(_ context.Context, top *topology.Topology) []Load {
	out := make([]Load, len(top.Nodes))
	for i, m := range top.Nodes {
		switch l := c.says[m.ID]; {
		case m.ID == c.self:
			out[i].Load = topology.Load{Node: m.ID, Alive: true}
		case l != nil && c.alive[m.ID]:
			out[i] = *l
		default:
			out[i].Node = m.ID
		}
	}
	return out
}

// Settled implements Nodes.
func (c company) Settled(context.Context, unkai.NodeID, unkai.Epoch) *Settled { return nil }

// Stays implements Nodes.
func (c company) Stays(context.Context, unkai.NodeID, unkai.Epoch) bool { return true }

// How long a node has been silent is known from looks without a gap only: who
// stood still itself, or has seen a silence long ago, begins to count anew.
func TestSilenceIsCountedWithoutGaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Nodes: company{self: 1}})
		top := topology.New(1, 16, 1, 1, 1, topology.Node{ID: 1, Weight: 1})
		top, err := top.Join(topology.Node{ID: 2, Weight: 1})
		if err != nil {
			t.Fatal(err)
		}
		for range 40 {
			s.watch(&top)
			time.Sleep(lookEvery)
		}
		if gone := s.silentFor(&top, 9*time.Second); len(gone) != 1 || gone[0] != 2 {
			t.Errorf("silent after ten seconds: %v", gone)
		}
		time.Sleep(time.Hour)
		s.watch(&top)
		if gone := s.silentFor(&top, 9*time.Second); len(gone) != 0 {
			t.Errorf("silent after an hour without a look: %v", gone)
		}
	})
}
