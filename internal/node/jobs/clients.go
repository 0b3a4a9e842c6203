package jobs

import (
	"fmt"
	"slices"

	"unkai/internal/core/topology"
)

// farewells tell for whose sake drained nodes are not removed yet.
func (o *Operator) farewells(top *topology.Topology) (out []string) {
	if j := top.Job; j.Outcome != topology.Running || j.Held || top.Moving() > 0 {
		return nil
	}
	for _, id := range top.Departing() {
		if c := o.cfg.Nodes.Clients(id); c > 0 && o.cfg.Nodes.Here(id) {
			out = append(out, fmt.Sprintf("%s to leave node %v, which holds nothing any more: %.0f seconds at most", clients(c), id, o.cfg.Farewell.Seconds()))
		}
	}
	return out
}

// warnOfClients tells of the clients of nodes that a plan would have removed.
func (o *Operator) warnOfClients(top *topology.Topology, p *topology.Plan, asked []Load) (out []string) {
	for i, l := range asked {
		id := top.Nodes[i].ID
		leaves := p.Kind == topology.KindDetach && slices.Contains(p.Change.Nodes, id) || p.Kind == topology.KindReplace && p.Change.Nodes[0] == id
		if l.Clients == 0 || !leaves {
			continue
		}
		are := "are"
		if l.Clients == 1 {
			are = "is"
		}
		out = append(out, fmt.Sprintf("%s %s connected to node %v: point them elsewhere; when it holds nothing any more it goes on answering them until they have left, for %.0f seconds at most", clients(l.Clients), are, id, o.cfg.Farewell.Seconds()))
	}
	return out
}

func clients(n int64) string {
	if n == 1 {
		return "1 client"
	}
	return fmt.Sprintf("%d clients", n)
}
