package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"unkai"
	"unkai/internal/core/topology"
)

// managerGone is after how long without a sign of life another node takes a
// manager's place.
const managerGone = 5 * time.Minute

// unwatched is after how long without a look all silence is forgotten: the node
// may have stood still itself, and knows of nobody how it was meanwhile.
const unwatched = 4 * stewardLooks

// watch notes since when nodes have been silent. Every steward does, whether it
// works or not, so that it knows nothing out of date when it comes to work. It also looks
// whether this node has clients.
func (s *steward) watch(top *topology.Topology) {
	s.n.crowded()
	now := time.Now()
	if now.Sub(s.watched) > unwatched {
		clear(s.silent)
		clear(s.joined)
	}
	s.watched = now
	for _, m := range top.Nodes {
		if s.n.here(m.ID) {
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

// silentFor are the nodes that have been silent for longer than that.
func (s *steward) silentFor(top *topology.Topology, d time.Duration) (ids []unkai.NodeID) {
	for _, m := range top.Nodes {
		if since, ok := s.silent[m.ID]; ok && time.Since(since) > d {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// replaceManagers elects others in the place of managers that have been silent
// for long.
func (s *steward) replaceManagers(ctx context.Context, top *topology.Topology) {
	gone := s.silentFor(top, managerGone)
	if next := top.Elect(gone...); len(gone) == 0 || slices.Equal(next.Managers, top.Managers) {
		return
	}
	s.change(ctx, top, "replace managers", func(t *topology.Topology) (topology.Topology, error) { return t.Elect(gone...), nil })
}

// replaceDead detaches a node that has been silent for as long as --auto-replace
// says, so that others hold what it held. It does so only when that is certainly
// a help: when one node is dead, and no more, and the others have room.
func (s *steward) replaceDead(ctx context.Context, top *topology.Topology) {
	if s.n.cfg.AutoReplace == 0 {
		return
	}
	dead := s.silentFor(top, s.n.cfg.AutoReplace)
	dead = slices.DeleteFunc(dead, func(id unkai.NodeID) bool {
		m, _ := top.Node(id)
		return m.State != topology.Attached
	})
	if len(dead) == 0 {
		s.refused = ""
		return
	}
	c := topology.Change{Kind: topology.KindDetach, Nodes: dead}
	loads, err := s.mayReplace(ctx, top, c)
	if err != nil {
		if s.refused != err.Error() {
			s.refused = err.Error()
			s.n.log.Warn("a dead node is not replaced by itself", "node", dead[0].String(), "err", err)
		}
		return
	}
	s.begin(ctx, top, c, loads)
}

func (s *steward) mayReplace(ctx context.Context, top *topology.Topology, c topology.Change) ([]topology.Load, error) {
	loads := s.n.loads(ctx, top)
	for _, l := range loads {
		if !l.Alive && !slices.Contains(c.Nodes, l.Node) {
			return nil, fmt.Errorf("node %v is silent too; when several are, an operator has to decide", l.Node)
		}
	}
	if len(c.Nodes) > 1 {
		return nil, fmt.Errorf("%d nodes are dead; when several are, an operator has to decide", len(c.Nodes))
	}
	if seen := s.n.seen(ctx, top, c.Nodes[0]); seen != 0 {
		return nil, fmt.Errorf("node %v reaches it", seen)
	}
	if left := len(top.Attached()) - 1; left < top.N {
		return nil, fmt.Errorf("without it %d nodes are left, too few for %d replicas of each key", left, top.N)
	}
	plan, err := top.Plan(c, loads)
	switch {
	case err != nil:
		return nil, err
	case plan.Before < 0 || plan.During < 0:
		return nil, fmt.Errorf("%d buckets have lost too many replicas to be brought elsewhere", plan.Waiting)
	case plan.After < 0 || plan.Stopped > 0:
		return nil, errors.New("some buckets would be without a quorum afterwards")
	case len(plan.Roomless) > 0:
		return nil, fmt.Errorf("node %v has no room for what it would get", plan.Roomless[0])
	}
	return loads, nil
}

// seen is a node that reaches another one; 0: nobody does.
func (n *Node) seen(ctx context.Context, top *topology.Topology, id unkai.NodeID) unkai.NodeID {
	for i, l := range n.askLoads(ctx, top) {
		if l != nil && top.Nodes[i].ID != id && !slices.Contains(l.Away, id) {
			return top.Nodes[i].ID
		}
	}
	return 0
}
