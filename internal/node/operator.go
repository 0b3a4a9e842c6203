package node

import (
	"context"

	"unkai"
	"unkai/internal/admin"
	"unkai/internal/core/topology"
	"unkai/internal/node/jobs"
)

// operator is what the side door may ask for.
type operator struct {
	*jobs.Operator
	n *Node
}

// Operator is what the side door may ask for, without the door.
func (n *Node) Operator() admin.Operator { return operator{n.jobs, n} }

// newJobs is what plans, begins and describes jobs at this node.
func (n *Node) newJobs() *jobs.Operator {
	return jobs.New(jobs.Config{Managers: deciders{n}, Nodes: workers{n}, Farewell: n.cfg.Farewell, Now: n.cfg.Now, Log: n.log})
}

// workers are the nodes, for jobs.
type workers struct{ n *Node }

// Here implements jobs.Nodes.
func (w workers) Here(id unkai.NodeID) bool { return w.n.here(id) }

// Peer implements jobs.Nodes.
func (w workers) Peer(id unkai.NodeID) string { return w.n.book.Peer(id) }

// Full implements jobs.Nodes.
func (w workers) Full(id unkai.NodeID) bool { return w.n.isFull(id) }

// Clients implements jobs.Nodes.
func (w workers) Clients(id unkai.NodeID) int64 { return w.n.guestsOf(id) }

// Loads implements jobs.Nodes.
func (w workers) Loads(ctx context.Context, top *topology.Topology) []jobs.Load {
	said := w.n.askLoads(ctx, top)
	out := make([]jobs.Load, len(said))
	for i, l := range loadsOf(top, said) {
		if out[i].Load = l; said[i] != nil {
			out[i].Clients, out[i].Store, out[i].Sync = said[i].Conns, said[i].Store, said[i].Sync
		}
	}
	return out
}

// Slowed implements jobs.Nodes.
func (w workers) Slowed(ctx context.Context, top *topology.Topology) []admin.Slowed {
	return w.n.slowed(ctx, top)
}
