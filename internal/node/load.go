package node

import (
	"context"
	"sync"

	"unkai"
	"unkai/internal/core/topology"
)

// load asks how a node is. The answer says so.
type load struct {
	State  string `json:"state"` // why it does not serve, or not as it should; else ""
	Items  int64  `json:"items"`
	Bytes  int64  `json:"bytes"`
	Used   int64  `json:"used"`
	Limit  int64  `json:"limit"`          // 0: none is known; see Full
	Full   bool   `json:"full,omitempty"` // nothing more may come
	Conns  int64  `json:"connections"`
	Epoch  uint32 `json:"epoch"`
	Store  string `json:"store"`
	Sync   string `json:"sync,omitempty"` // of a store on disk
	Listen string `json:"listen"`
	HTTP   string `json:"http"`
	// Away are the nodes that this one cannot reach.
	Away []unkai.NodeID `json:"away,omitempty"`
}

// load is how this node is.
func (n *Node) load() *load {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &load{State: n.state, Listen: addrOf(n.listen), HTTP: addrOf(n.http), Store: n.cfg.Store}
	if l.Store == Disk {
		l.Sync = n.cfg.Sync
	}
	if top := n.topology(); top != nil {
		l.Epoch = uint32(top.Epoch)
		if _, ok := top.Node(n.id); ok {
			n.drained.note(top, n.id)
		}
		for _, m := range top.Nodes {
			if !n.here(m.ID) {
				l.Away = append(l.Away, m.ID)
			}
		}
	}
	if n.state == "" {
		s := n.engine.Stats()
		l.Items, l.Bytes, l.Used, l.Limit, l.Full = s.Items, s.Bytes, s.Used, s.Limit, s.Full
		if s.Full {
			l.State = "FULL: it refuses growth"
		}
		if n.network.waits.Load() {
			l.State = "waits for another node to tell what it remembers of this one"
		}
		if l.State == "" {
			l.State = n.problem()
		}
		if n.memcache != nil {
			l.Conns = n.memcache.Stats().Connections
		}
	}
	return l
}

// askLoads asks all nodes how they are, in the order of the topology; nil for one
// that does not answer.
func (n *Node) askLoads(ctx context.Context, top *topology.Topology) []*load {
	ctx, cancel := context.WithTimeout(ctx, surveyLimit)
	defer cancel()
	out := make([]*load, len(top.Nodes))
	var wg sync.WaitGroup
	for i, m := range top.Nodes {
		if m.ID == n.id {
			out[i] = n.load()
			continue
		}
		wg.Go(func() {
			if a, err := n.askControl(ctx, m.ID, control{Load: &load{}}); err == nil {
				out[i] = a.Load
			}
		})
	}
	wg.Wait()
	return out
}

// loadsOf is what a plan needs to know of what all nodes have said.
func loadsOf(top *topology.Topology, said []*load) []topology.Load {
	out := make([]topology.Load, len(top.Nodes))
	for i, l := range said {
		out[i] = topology.Load{Node: top.Nodes[i].ID}
		if l != nil {
			out[i].Alive, out[i].Bytes, out[i].Used, out[i].Limit, out[i].Full = true, l.Bytes, l.Used, l.Limit, l.Full
		}
	}
	return out
}

// stays reports whether a drained node has clients, or has not come to an epoch.
func (n *Node) stays(ctx context.Context, id unkai.NodeID, e unkai.Epoch) bool {
	l := n.load()
	if id != n.id {
		a, err := n.askControl(ctx, id, control{Load: &load{}})
		if err != nil || a.Load == nil {
			return true // it will be asked again, unless it is dead
		}
		l = a.Load
	}
	return l.Conns > 0 || l.Epoch < uint32(e)
}
