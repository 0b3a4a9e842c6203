// Package gateway brings an operation to the coordinator of its key, wherever
// that is, and refuses early what the node could not bear. In a cluster of one
// node every key is coordinated here.
package gateway

import (
	"errors"
	"sync/atomic"

	"unkai"
	"unkai/internal/core/topology"
)

// Coordinator runs the operations of a batch that have no result yet, at least
// one of them.
type Coordinator interface{ Do(*unkai.Batch) }

// Gateway is a memcache.Handler. It is safe for concurrent use, each batch
// being one caller's own.
type Gateway struct {
	cfg     Config
	running atomic.Int64
	refused atomic.Int64
	stopped atomic.Bool
}

// Config is what a gateway needs.
type Config struct {
	Local    Coordinator
	Self     unkai.NodeID
	Topology func() *topology.Topology
	// MaxRunning bounds how many operations run at once, over all connections.
	MaxRunning int64
}

// Why a gateway refuses: nothing was tried.
var (
	errOverload = errors.New("overloaded: too many operations at once; try again later")
	errStopped  = errors.New("this node is stopping; use another")
	errOutside  = errors.New("this node is not attached to the cluster")
)

// New is a gateway.
func New(cfg Config) *Gateway { return &Gateway{cfg: cfg} }

// Stats counts what a gateway did.
type Stats struct {
	Running int64 // operations at this moment
	Refused int64 // operations refused because too many ran
}

// Stats are the counters at this moment.
func (g *Gateway) Stats() Stats { return Stats{g.running.Load(), g.refused.Load()} }

// Stop makes the gateway refuse what comes from now on. What runs goes on.
func (g *Gateway) Stop() { g.stopped.Store(true) }

// Do answers operations of b that have no result yet, and at least one.
func (g *Gateway) Do(b *unkai.Batch) {
	n := int64(len(b.Ops) - len(b.Results))
	if g.stopped.Load() {
		refuse(b, errStopped)
		return
	}
	if _, ok := g.cfg.Topology().Node(g.cfg.Self); !ok {
		refuse(b, errOutside)
		return
	}
	if running := g.running.Add(n); running > g.cfg.MaxRunning && running > n {
		g.running.Add(-n)
		g.refused.Add(n)
		refuse(b, errOverload)
		return
	}
	g.cfg.Local.Do(b)
	g.running.Add(-n)
}

func refuse(b *unkai.Batch, err error) {
	for len(b.Results) < len(b.Ops) {
		b.Results = append(b.Results, unkai.Result{Status: unkai.Failed, Err: err})
	}
}
