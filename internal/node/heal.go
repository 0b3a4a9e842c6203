package node

import (
	"context"
	"slices"

	"unkai/internal/core/topology"
)

// heal fills the places that incarnations which have passed left in sets and that no
// job fills any more, when everybody is there and more may fail afterwards.
func (s *steward) heal(ctx context.Context, top *topology.Topology) bool {
	if s.looked == top.Epoch || !top.Gaps() {
		return false
	}
	if slices.ContainsFunc(top.Nodes, func(m topology.Node) bool {
		if m.State == topology.Recognised {
			return !m.Manual // it will be attached
		}
		return !s.n.here(m.ID)
	}) {
		return false
	}
	s.looked = top.Epoch
	c := topology.Change{Kind: topology.KindRebalance}
	loads := s.n.loads(ctx, top)
	plan, err := top.Plan(c, loads)
	if err != nil || plan.After <= plan.Before || plan.Stopped > 0 || len(plan.Roomless) > 0 {
		return false
	}
	return s.begin(ctx, top, c, loads)
}
