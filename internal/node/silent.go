package node

import (
	"context"
	"fmt"
	"slices"
	"time"

	"unkai"
	"unkai/internal/core/topology"
)

// managerGone is after how long without a sign of life another node takes a
// manager's place.
const managerGone = 5 * time.Minute

// watch notes since when nodes have been silent.
func (s *steward) watch(top *topology.Topology) {
	now := time.Now()
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
	if err := s.mayReplace(ctx, top, c); err != nil {
		if s.refused != err.Error() {
			s.refused = err.Error()
			s.n.log.Warn("a dead node is not replaced by itself", "node", dead[0].String(), "err", err)
		}
		return
	}
	s.begin(ctx, top, c)
}

func (s *steward) mayReplace(ctx context.Context, top *topology.Topology, c topology.Change) error {
	loads := s.n.loads(ctx, top)
	for _, l := range loads {
		if !l.Alive && !slices.Contains(c.Nodes, l.Node) {
			return fmt.Errorf("node %v is silent too; when several are, an operator has to decide", l.Node)
		}
	}
	if len(c.Nodes) > 1 {
		return fmt.Errorf("%d nodes are dead; when several are, an operator has to decide", len(c.Nodes))
	}
	if seen := s.n.seen(ctx, top, c.Nodes[0]); seen != 0 {
		return fmt.Errorf("node %v reaches it", seen)
	}
	if left := len(top.Attached()) - 1; left < top.N {
		return fmt.Errorf("without it %d nodes are left, too few for %d replicas of each key", left, top.N)
	}
	plan, err := top.Plan(c, loads)
	switch {
	case err != nil:
		return err
	case plan.Before < 0 || plan.During < 0:
		return fmt.Errorf("%d buckets have lost too many replicas to be brought elsewhere", plan.Waiting)
	case len(plan.Roomless) > 0:
		return fmt.Errorf("node %v has no room for what it would get", plan.Roomless[0])
	}
	return nil
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
