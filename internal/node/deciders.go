package node

import (
	"context"

	"unkai/internal/core/topology"
)

// deciders let the steward and operators change the topology.
type deciders struct{ n *Node }

// Topology implements steward.Managers and jobs.Managers.
func (d deciders) Topology() *topology.Topology { return d.n.topology() }

// Pending implements steward.Managers.
func (d deciders) Pending() bool { return d.n.manager.Pending() }

// Finish implements steward.Managers.
func (d deciders) Finish(ctx context.Context) error { return d.n.manager.Finish(ctx) }

// Change implements steward.Managers and jobs.Managers.
func (d deciders) Change(ctx context.Context, f func(*topology.Topology) (topology.Topology, error)) (*topology.Topology, error) {
	return d.n.alter(ctx, f)
}

// Latest implements jobs.Managers: an operator at one node must not be told what is over,
// or not begun, because it has not heard of what was decided at another.
func (d deciders) Latest(ctx context.Context) *topology.Topology { return d.n.latest(ctx) }
