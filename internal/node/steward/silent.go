package steward

import (
	"context"
	"slices"
	"time"

	"unkai"
	"unkai/internal/core/topology"
)

// managerGone is after how long without a sign of life another node takes a
// manager's place.
const managerGone = 5 * time.Minute

// lookLimit is how long a look waits for nodes of which some do not even refuse.
const lookLimit = time.Second

// unwatched is after how long without a look all silence is forgotten: the node
// may have stood still itself, and knows of nobody how it was meanwhile. A look takes
// lookLimit where a dead node does not even refuse.
const unwatched = 4*lookEvery + lookLimit

// watch notes since when nodes have been silent. Every steward does, whether it
// works or not, so that it knows nothing out of date when it comes to work.
func (s *Steward) watch(top *topology.Topology) {
	now := time.Now()
	if now.Sub(s.watched) > unwatched {
		clear(s.silent)
		clear(s.joined)
		s.emptied = nil
	}
	s.watched = now
	s.heed(top)
	s.leavers(top)
	for _, m := range top.Nodes {
		if s.cfg.Nodes.Here(m.ID) {
			delete(s.silent, m.ID)
		} else if _, ok := s.silent[m.ID]; !ok {
			s.silent[m.ID] = now
		}
	}
	for id := range s.silent {
		if _, ok := top.Node(id); !ok {
			delete(s.silent, id)
		}
	}
}

// heed has nodes waited for anew when an operator has cancelled the job that replaced them
// by itself: else the next one would begin at once. When the cluster has, it may.
func (s *Steward) heed(top *topology.Topology) {
	j := lastJob(top)
	if j == nil || j.ID == s.heeded {
		return
	}
	s.heeded = j.ID
	if j.Auto && j.Outcome == topology.Cancelled && len(j.Missed) == 0 {
		for _, id := range j.Nodes {
			delete(s.silent, id)
		}
	}
}

// lastJob is the one that has ended last; nil: none is remembered.
func lastJob(top *topology.Topology) *topology.Job {
	if len(top.History) == 0 {
		return nil
	}
	return &top.History[len(top.History)-1]
}

// silentFor are the nodes that have been silent for longer than that.
func (s *Steward) silentFor(top *topology.Topology, d time.Duration) (ids []unkai.NodeID) {
	for _, m := range top.Nodes {
		if since, ok := s.silent[m.ID]; ok && time.Since(since) > d {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// replaceManagers elects others in the place of managers that have been silent
// for long.
func (s *Steward) replaceManagers(ctx context.Context, top *topology.Topology) {
	gone := s.silentFor(top, managerGone)
	if next := top.Elect(gone...); len(gone) == 0 || slices.Equal(next.Managers, top.Managers) {
		return
	}
	s.change(ctx, top, "replace managers", func(t *topology.Topology) (topology.Topology, error) { return t.Elect(gone...), nil })
}
