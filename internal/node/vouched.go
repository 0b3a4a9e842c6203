package node

import (
	"context"
	"errors"
	"sync/atomic"

	"unkai"
	"unkai/internal/core/topology"
	"unkai/internal/peer"
)

// errUnvouched: nothing that this node holds or has promised may be relied on yet.
var errUnvouched = errors.New("this node waits for another to tell what it remembers of it: its data directory may be an older copy")

// alter has the managers decide about the next topology; this node may be the only one.
func (n *Node) alter(ctx context.Context, f func(*topology.Topology) (topology.Topology, error)) (*topology.Topology, error) {
	if n.network.waits.Load() {
		return nil, errUnvouched
	}
	return n.managerRef.Load().Change(ctx, f)
}

// vouched is the network of a node that could ask nobody, when it started, what others
// remember of it. Its directory may be an older copy. Until one of them has answered it
// says hello and nothing else: it neither votes nor asks for votes, nor decides anything
// alone, nor answers clients.
type vouched struct {
	peer.Network
	waits atomic.Bool
}

// Call implements peer.Network.
func (v *vouched) Call(to unkai.NodeID, c *peer.Call) {
	if c.Kind != peer.Control && v.waits.Load() {
		c.Reply, c.Err = c.Reply[:0], peer.ErrDown
		c.Done.CallDone(c)
		return
	}
	v.Network.Call(to, c)
}

// Alive implements peer.Network.
func (v *vouched) Alive(id unkai.NodeID) bool { return !v.waits.Load() && v.Network.Alive(id) }

// Run implements peer.Network.
func (v *vouched) Run(id unkai.NodeID) uint64 {
	if v.waits.Load() {
		return 0
	}
	return v.Network.Run(id)
}

// Handle implements peer.Network.
func (v *vouched) Handle(kind peer.Kind, h peer.Handler) {
	if kind != peer.Control {
		h = &hushed{v, h}
	}
	v.Network.Handle(kind, h)
}

// refused answers the operations of a batch while the node waits, and reports whether it
// has.
func (v *vouched) refused(b *unkai.Batch) bool {
	if !v.waits.Load() {
		return false
	}
	for len(b.Results) < len(b.Ops) {
		b.Results = append(b.Results, unkai.Result{Status: unkai.Failed, Err: errUnvouched})
	}
	return true
}

// hushed answers for a handler that waits.
type hushed struct {
	v  *vouched
	to peer.Handler
}

// Serve implements peer.Handler.
func (h *hushed) Serve(q *peer.Request) {
	if h.v.waits.Load() {
		q.Refuse("this node waits for another to tell what it remembers of it; ask again")
		return
	}
	h.to.Serve(q)
}
