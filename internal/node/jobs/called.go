package jobs

import (
	"fmt"
	"slices"

	"unkai"
	"unkai/internal/core/topology"
)

// peers is where nodes were seen last.
func (o *Operator) peers(list []unkai.NodeID) []string {
	out := make([]string, len(list))
	for i, id := range list {
		out[i] = o.cfg.Nodes.Peer(id)
	}
	return out
}

// called is a node's id, and its address where that is known.
func (o *Operator) called(id unkai.NodeID) string {
	if peer := o.cfg.Nodes.Peer(id); peer != "" {
		return fmt.Sprintf("%v (%s)", id, peer)
	}
	return id.String()
}

// Crammed are the nodes that are to be brought something and refuse it, being full, in the
// order of the topology.
func Crammed(top *topology.Topology, full func(unkai.NodeID) bool) (out []unkai.NodeID) {
	for _, m := range top.Nodes {
		if full(m.ID) && slices.ContainsFunc(top.Sets, func(s topology.Set) bool {
			return slices.Contains(s.Joining, m.Seat) && !slices.Contains(s.Replicas, m.Seat)
		}) {
			out = append(out, m.ID)
		}
	}
	return out
}
