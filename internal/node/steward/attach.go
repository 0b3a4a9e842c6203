package steward

import (
	"context"
	"fmt"
	"slices"
	"time"

	"unkai"
	"unkai/internal/core/topology"
)

// attachAfter is how long nodes that joined are waited for, so that several become
// one change.
const attachAfter = 2 * time.Second

// attach gives nodes that have joined their share, when no other has come for a
// while and it can do no harm.
func (s *Steward) attach(ctx context.Context, top *topology.Topology) bool {
	c, loads, ok := s.attachment(ctx, top)
	return ok && s.begin(ctx, top, c, loads)
}

// attachment is the change that does, when its time has come.
func (s *Steward) attachment(ctx context.Context, top *topology.Topology) (topology.Change, []topology.Load, bool) {
	now := time.Now()
	var ready []unkai.NodeID
	latest := time.Time{}
	for _, m := range top.Nodes {
		if m.State != topology.Recognised || m.Manual || !s.cfg.Nodes.Here(m.ID) {
			delete(s.joined, m.ID)
			continue
		}
		since, ok := s.joined[m.ID]
		if !ok {
			since = now
			s.joined[m.ID] = now
		}
		if since.After(latest) {
			latest = since
		}
		ready = append(ready, m.ID)
	}
	if len(ready) == 0 {
		s.waiting = ""
		return topology.Change{}, nil, false
	}
	if now.Sub(latest) < attachAfter {
		return topology.Change{}, nil, false
	}
	c := topology.Change{Kind: topology.KindAttach, Nodes: ready}
	if !s.join.due() {
		return c, nil, false
	}
	defer s.join.took(time.Now())
	c, loads, err := s.mayAttach(ctx, top, c)
	if err != nil {
		if s.waiting != err.Error() {
			s.waiting = err.Error()
			s.cfg.Log.Warn("nodes that have joined are not attached by themselves yet", "node", ready[0].String(), "err", err)
		}
		return c, nil, false
	}
	s.waiting = ""
	return c, loads, true
}

// mayAttach says why nodes must not get a share by themselves. With a node away
// they must not: some buckets would leave a replica that is alive for a new one,
// and be without a quorum should that go too, as one does that starts anew every
// half minute. Others that are full need not get anything.
func (s *Steward) mayAttach(ctx context.Context, top *topology.Topology, c topology.Change) (topology.Change, []topology.Load, error) {
	for _, m := range top.Attached() {
		if !s.cfg.Nodes.Here(m.ID) {
			return c, nil, fmt.Errorf("node %v is away, and they would take over from replicas that are alive; bring it back, detach it, have one of them replace it, or attach them yourself", m.ID)
		}
	}
	loads := plain(s.cfg.Nodes.Loads(ctx, top))
	c, plan, err := sparing(top, c, loads)
	switch {
	case err != nil:
		return c, nil, err
	case plan.Stopped > 0:
		return c, nil, fmt.Errorf("%d buckets could not move before more nodes of those they go to are alive", plan.Stopped)
	case len(plan.Roomless) > 0:
		return c, nil, fmt.Errorf("node %v has no room for what it would get", plan.Roomless[0])
	}
	return c, loads, nil
}

// sparing is a change in which nodes get nothing that have no room for it and that it is not
// about, as far as others can take it, and its plan. A bucket that goes to one of them need
// not keep all others from going where they should.
func sparing(top *topology.Topology, c topology.Change, loads []topology.Load) (topology.Change, topology.Plan, error) {
	for {
		plan, err := top.Plan(c, loads)
		if err != nil || len(plan.Roomless) == 0 || slices.ContainsFunc(plan.Roomless, func(id unkai.NodeID) bool {
			return slices.Contains(c.Nodes, id) || slices.Contains(c.Full, id)
		}) {
			return c, plan, err
		}
		c.Full = slices.Concat(c.Full, plan.Roomless)
	}
}
