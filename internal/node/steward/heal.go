package steward

import (
	"context"
	"slices"
	"time"

	"unkai"
	"unkai/internal/core/topology"
)

// heal fills the places that incarnations which have passed left in sets and that no
// job fills any more, when everybody is there and more may fail afterwards. It also
// gives all the rest of their share where the cluster itself has cancelled a job.
func (s *Steward) heal(ctx context.Context, top *topology.Topology) bool {
	c, loads, ok := s.mending(ctx, top)
	if ok && !s.begin(ctx, top, c, loads) {
		s.looked, ok = 0, false // it will be tried again
	}
	return ok
}

// mending is the change that does, if there is one.
func (s *Steward) mending(ctx context.Context, top *topology.Topology) (c topology.Change, loads []topology.Load, ok bool) {
	if s.looked == top.Epoch || !top.Gaps() && !cutShort(top) {
		return c, nil, false
	}
	if j := lastJob(top); j != nil && j.Auto && j.Kind == topology.KindRebalance && j.Outcome == topology.Cancelled && len(j.Missed) == 0 {
		return c, nil, false // an operator does not want it
	}
	if slices.ContainsFunc(top.Nodes, func(m topology.Node) bool {
		if m.State == topology.Recognised {
			return !m.Manual && s.givenUp(top, m.ID) == nil // it will be attached
		}
		return !s.cfg.Nodes.Here(m.ID)
	}) {
		return c, nil, false
	}
	if !s.mend.due() {
		return c, nil, false
	}
	defer s.mend.took(time.Now())
	c.Kind = topology.KindRebalance
	loads = plain(s.cfg.Nodes.Loads(ctx, top))
	if slices.ContainsFunc(topology.Away(loads), func(id unkai.NodeID) bool {
		m, _ := top.Node(id)
		return m.State != topology.Recognised
	}) {
		return c, nil, false // it is asked again
	}
	s.looked = top.Epoch
	c, plan, err := sparing(top, c, loads)
	if err == nil && len(plan.Roomless) > 0 {
		s.looked = 0 // somebody may make room
	}
	better := plan.After > plan.Before || cutShort(top) && plan.After >= plan.Before && plan.Amount.Replicas > 0
	if err != nil || !better || plan.Stopped > 0 || len(plan.Roomless) > 0 {
		return c, nil, false
	}
	return c, loads, true
}
