package node

import (
	"sync"
	"time"

	"unkai"
	"unkai/internal/admin"
	"unkai/internal/core/topology"
	"unkai/internal/node/steward"
)

// foretoldFor is for how long a node goes by what the steward has told it last, which may
// be trying to have something decided meanwhile.
const foretoldFor = changeLimit + 5*greetEvery

// prospects is what the steward, wherever it is, will do by itself: it tells all others
// with its greetings, so that any node can be asked. The zero value has heard nothing.
type prospects struct {
	mu   sync.Mutex
	from unkai.NodeID
	at   time.Time
	list []admin.Prospect
}

// told notes what the steward says that it will do.
func (p *prospects) told(from unkai.NodeID, list []admin.Prospect) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.from, p.at, p.list = from, time.Now(), list
}

// of is what a steward has told of late, with what is left of the time until then.
func (p *prospects) of(leader unkai.NodeID) []admin.Prospect {
	p.mu.Lock()
	defer p.mu.Unlock()
	passed := time.Since(p.at)
	if p.from != leader || passed > foretoldFor {
		return nil
	}
	out := make([]admin.Prospect, len(p.list))
	for i, x := range p.list {
		x.Seconds = max(0, x.Seconds-passed.Seconds())
		out[i] = x
	}
	return out
}

// leader is the node whose steward works, as far as this one knows; 0: no
// manager is alive. The node's lock is not held.
func (n *Node) leader(top *topology.Topology) unkai.NodeID {
	return steward.Leader(top, n.inService(top), n.here)
}

// foretell notes what another node says that it will do, if it is the steward.
func (n *Node) foretell(from unkai.NodeID, list []admin.Prospect) {
	if top := n.topology(); top != nil && n.leader(top) == from {
		n.prospects.told(from, list)
	}
}

// foretold is what the steward will do by itself.
func (n *Node) foretold(top *topology.Topology) []admin.Prospect {
	return n.prospects.of(n.leader(top))
}

// foresees notes what this node's steward will do by itself.
func (n *Node) foresees(list []steward.Prospect) {
	out := make([]admin.Prospect, len(list))
	for i, p := range list {
		out[i] = admin.Prospect(p)
	}
	n.prospects.told(n.id, out)
}
