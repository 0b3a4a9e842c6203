package node

import (
	"testing"
	"testing/synctest"
	"time"

	"unkai"
	"unkai/internal/core/topology"
	"unkai/internal/peer"
)

// company is a network on which some are alive.
type company struct {
	peer.Network
	alive map[unkai.NodeID]bool
	says  map[unkai.NodeID]*load
}

func (c company) Alive(id unkai.NodeID) bool { return c.alive[id] }

// How long a node has been silent is known from looks without a gap only: who
// stood still itself, or has seen a silence long ago, begins to count anew.
func TestSilenceIsCountedWithoutGaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := company{alive: map[unkai.NodeID]bool{}}
		s := &steward{n: &Node{id: 1, network: vouched{Network: c}}, joined: map[unkai.NodeID]time.Time{}, silent: map[unkai.NodeID]time.Time{}}
		top := topology.New(1, 16, 1, 1, 1, topology.Node{ID: 1, Weight: 1})
		top, err := top.Join(topology.Node{ID: 2, Weight: 1})
		if err != nil {
			t.Fatal(err)
		}
		for range 40 {
			s.watch(&top)
			time.Sleep(stewardLooks)
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
