package node

import (
	"fmt"
	"slices"

	"unkai"
	"unkai/internal/core/topology"
)

// peers is where nodes were seen last.
func (n *Node) peers(list []unkai.NodeID) []string {
	out := make([]string, len(list))
	for i, id := range list {
		out[i] = n.book.peer(id)
	}
	return out
}

// called is a node's id, and its address where that is known.
func (n *Node) called(id unkai.NodeID) string {
	if peer := n.book.peer(id); peer != "" {
		return fmt.Sprintf("%v (%s)", id, peer)
	}
	return id.String()
}

// crammed are the nodes that are to be brought something and refuse it, being full, in the
// order of the topology.
func (n *Node) crammed(top *topology.Topology) (out []unkai.NodeID) {
	for _, m := range top.Nodes {
		if n.isFull(m.ID) && slices.ContainsFunc(top.Sets, func(s topology.Set) bool {
			return slices.Contains(s.Joining, m.Seat) && !slices.Contains(s.Replicas, m.Seat)
		}) {
			out = append(out, m.ID)
		}
	}
	return out
}
