// Package gateway brings an operation to the coordinator of its key, wherever
// that is, and refuses early what the node could not bear. A key is coordinated
// by the first of its replicas that is alive; this node's own replica answers
// plain reads, if it is one.
package gateway

import (
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"unkai"
	"unkai/internal/core/command"
	"unkai/internal/core/ring"
	"unkai/internal/core/topology"
	"unkai/internal/peer"
)

// Coordinator runs the operations of a batch that have no result yet, at least
// one of them.
type Coordinator interface{ Do(*unkai.Batch) }

// Gateway is a memcache.Handler. It is safe for concurrent use, each batch
// being one caller's own.
type Gateway struct {
	cfg     Config
	space   ring.Space
	alive   func(unkai.NodeID) bool
	running atomic.Int64
	refused atomic.Int64
	sent    atomic.Int64
	retried atomic.Int64
	stopped atomic.Bool
}

// Config is what a gateway needs.
type Config struct {
	Local    Coordinator
	Self     unkai.NodeID
	Topology func() *topology.Topology
	// Network leads to the other nodes' coordinators, and may be nil in a cluster
	// of one.
	Network peer.Network
	// Timeout for one batch.
	Timeout time.Duration
	// MaxRunning bounds how many operations run at once, over all connections.
	MaxRunning int64
}

// Why a gateway refuses: nothing was tried.
var (
	errOverload = errors.New("overloaded: too many operations at once; try again later")
	errStopped  = errors.New("this node is stopping; use another")
	errNowhere  = errors.New("none of the key's replicas can be reached")
)

// New is a gateway. The hash space of its cluster is fixed from then on.
func New(cfg Config) *Gateway {
	return &Gateway{cfg: cfg, space: cfg.Topology().Space(), alive: func(id unkai.NodeID) bool { return cfg.Network.Alive(id) }}
}

// Stats counts what a gateway did.
type Stats struct {
	Running int64 // operations at this moment
	Refused int64 // operations refused because too many ran
	Sent    int64 // operations sent to other nodes
	Retried int64 // operations brought to another node, because the first was not there
}

// Stats are the counters at this moment.
func (g *Gateway) Stats() Stats {
	return Stats{g.running.Load(), g.refused.Load(), g.sent.Load(), g.retried.Load()}
}

// Stop makes the gateway refuse what comes from now on. What runs goes on.
func (g *Gateway) Stop() { g.stopped.Store(true) }

// Do answers operations of b that have no result yet, and at least one.
func (g *Gateway) Do(b *unkai.Batch) {
	n := int64(len(b.Ops) - len(b.Results))
	if g.stopped.Load() {
		refuse(b, errStopped)
		return
	}
	if running := g.running.Add(n); running > g.cfg.MaxRunning && running > n {
		g.running.Add(-n)
		g.refused.Add(n)
		refuse(b, errOverload)
		return
	}
	top := g.cfg.Topology()
	if len(top.Nodes) == 1 && top.Nodes[0].ID == g.cfg.Self {
		g.cfg.Local.Do(b)
	} else {
		g.spread(top, b)
	}
	g.running.Add(-n)
}

func refuse(b *unkai.Batch, err error) {
	for len(b.Results) < len(b.Ops) {
		b.Results = append(b.Results, unkai.Result{Status: unkai.Failed, Err: err})
	}
}

// maxValues is how many values of a batch with limited room are asked for at
// once.
const maxValues = 16

// spread answers the operations of b by the coordinators of their keys.
func (g *Gateway) spread(top *topology.Topology, b *unkai.Batch) {
	first := len(b.Results)
	last := len(b.Ops)
	if b.Room > 0 {
		for i, values := first, 0; i < last; i++ {
			if op := &b.Ops[i]; op.Kind == unkai.Get && !op.NoValue {
				if values++; values == maxValues {
					last = i + 1
				}
			}
		}
	}
	// Operations on one key take effect in their order, so where some change
	// something all go to the coordinators.
	reads := true
	for i := first; reads && i < last; i++ {
		reads = command.ReadsOnly(&b.Ops[i])
	}
	same := true
	for i := first; same && i < last; i++ {
		same = g.target(top, &b.Ops[i], nil, reads, g.alive) == g.cfg.Self
	}
	if same {
		g.cfg.Local.Do(b)
		if !slices.ContainsFunc(b.Results[first:], wandering) {
			return
		}
		last = len(b.Results)
	} else {
		b.Results = slices.Grow(b.Results, last-first)[:last]
		clear(b.Results[first:])
	}
	f := fans.Get().(*fan)
	f.run(g, b, first, last, reads)
	f.end()
	fans.Put(f)
}

// target is the node to which an operation is brought: the first replica that is
// alive, or, for a read, this one if it is a replica. Those in tried were asked
// in vain. 0: there is none.
func (g *Gateway) target(top *topology.Topology, op *unkai.Op, tried []unkai.NodeID, read bool, alive func(unkai.NodeID) bool) unkai.NodeID {
	route := top.Route(g.space.Bucket(g.space.Hash(op.Key)))
	present := route.Members[:route.Write.Present.Members.Count()]
	if read && len(tried) == 0 && slices.Contains(present, g.cfg.Self) {
		return g.cfg.Self
	}
	var asleep unkai.NodeID
	for _, id := range present {
		switch {
		case id == 0 || slices.Contains(tried, id):
		case id == g.cfg.Self || alive(id):
			return id
		case asleep == 0:
			asleep = id
		}
	}
	return asleep
}
