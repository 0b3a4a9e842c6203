package node

import (
	"context"

	"unkai"
	"unkai/internal/core/topology"
	"unkai/internal/node/steward"
)

// newSteward is what brings the topology forward, should this node be the one that does.
func (n *Node) newSteward() *steward.Steward {
	return steward.New(steward.Config{
		Self: n.id, Managers: deciders{n}, Nodes: members{n}, Farewell: n.cfg.Farewell, Now: n.cfg.Now, Log: n.log,
		Looks: n.looks, Foresees: n.foresees,
	})
}

// looks notes what can be seen when the steward looks, whether it works or not.
func (n *Node) looks(top *topology.Topology, works bool) {
	n.crowded()
	n.jobs.Note(top)
	n.sight.leading(works, n.cfg.Now())
}

// members are the nodes, for the steward.
type members struct{ n *Node }

// Here implements steward.Nodes.
func (m members) Here(id unkai.NodeID) bool { return m.n.here(id) }

// Serves implements steward.Nodes.
func (m members) Serves(top *topology.Topology) func(unkai.NodeID) bool { return m.n.inService(top) }

// Loads implements steward.Nodes.
func (m members) Loads(ctx context.Context, top *topology.Topology) []steward.Load {
	said := m.n.askLoads(ctx, top)
	out := make([]steward.Load, len(said))
	for i, l := range loadsOf(top, said) {
		if out[i].Load = l; said[i] != nil {
			out[i].Away = said[i].Away
		}
	}
	return out
}

// Settled implements steward.Nodes.
func (m members) Settled(ctx context.Context, id unkai.NodeID, e unkai.Epoch) *steward.Settled {
	if id == m.n.id {
		return m.n.settled(e, m.n.mover)
	}
	a, err := m.n.askControl(ctx, id, control{Settled: &steward.Settled{Epoch: e}})
	if err != nil || a.Settled == nil || a.Settled.Epoch != e {
		return nil
	}
	return a.Settled
}

// Stays implements steward.Nodes.
func (m members) Stays(ctx context.Context, id unkai.NodeID, e unkai.Epoch) bool {
	return m.n.stays(ctx, id, e)
}
