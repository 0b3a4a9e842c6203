package node

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"unkai"
	"unkai/internal/admin"
	"unkai/internal/core/topology"
)

// sight is what a node notes in passing, for whoever asks how it is.
type sight struct {
	mu    sync.Mutex
	trips map[unkai.NodeID]time.Duration // of greetings, smoothed
	words map[unkai.NodeID]word          // what each has said last of whether it serves
	leads atomic.Int64                   // since when it is the steward, in milliseconds since 1970; 0: it is not
}

// smooth is the share of an older round trip in the mean: 1-1/smooth.
const smooth = 4

// met notes how long another node took to answer a greeting.
func (s *sight) met(id unkai.NodeID, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.trips == nil {
		s.trips = map[unkai.NodeID]time.Duration{}
	}
	if old, ok := s.trips[id]; ok {
		took = old + (took-old)/smooth
	}
	s.trips[id] = took
}

// of is the round trip to each of these nodes; all others are forgotten.
func (s *sight) of(nodes []topology.Node) []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]time.Duration, len(nodes))
	for i, m := range nodes {
		out[i] = s.trips[m.ID]
	}
	gone := func(id unkai.NodeID) bool {
		return !slices.ContainsFunc(nodes, func(m topology.Node) bool { return m.ID == id })
	}
	maps.DeleteFunc(s.trips, func(id unkai.NodeID, _ time.Duration) bool { return gone(id) })
	maps.DeleteFunc(s.words, func(id unkai.NodeID, _ word) bool { return gone(id) })
	return out
}

// leading notes whether this node is the steward now.
func (s *sight) leading(yes bool, now int64) {
	switch since := s.leads.Load(); {
	case yes && since == 0:
		s.leads.Store(now)
	case !yes && since != 0:
		s.leads.Store(0)
	}
}

// links are the ways to the other members, by ascending id.
func (n *Node) links(top *topology.Topology) []admin.Link {
	var out []admin.Link
	trips := n.sight.of(top.Nodes)
	at := map[unkai.NodeID]int{}
	for i, m := range top.Nodes {
		if m.ID != n.id {
			at[m.ID] = len(out)
			up := n.alive(m.ID)
			if !up {
				trips[i] = 0 // what it was says nothing any more
			}
			out = append(out, admin.NewLink(m.ID.String(), up, trips[i]))
		}
	}
	if n.port == nil {
		return out
	}
	for _, c := range n.port.Connections() {
		i, ok := at[c.Node]
		if !ok {
			continue // not a member, or not yet
		}
		l := &out[i]
		l.Open, l.Waiting, l.Calls, l.Refused, l.Timeouts, l.Lost = c.Open, c.Waiting, c.Calls, c.Refused, c.Timeouts, c.Lost
		l.Connects, l.BytesIn, l.BytesOut = c.Connects, c.BytesIn, c.BytesOut
	}
	return out
}

// deciding is what this node does as a manager.
func (n *Node) deciding(top *topology.Topology) admin.Deciding {
	s := n.manager.Stats()
	leads := n.sight.leads.Load()
	return admin.Deciding{
		Manager: slices.Contains(top.Managers, n.id), Lead: leads != 0, Leads: leads,
		Rounds: s.Rounds, Learned: s.Learned, Since: s.Since,
	}
}

// operationCounts is what became of operations.
func (n *Node) operationCounts() admin.Operations {
	g, c := n.gateway.Stats(), n.coordinator.Stats()
	return admin.Operations{
		Running: g.Running, Refused: g.Refused, Sent: g.Sent, Rerouted: g.Retried,
		Prepared: c.Prepared, Hedged: c.Hedged, Moved: n.mover.Moved(),
	}
}
