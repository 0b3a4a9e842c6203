package node

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"unkai"
	"unkai/internal/core/topology"
)

// ErrDrained says that a node has nothing left to do: others hold what it held, and it
// was removed as it was asked to be.
var ErrDrained = errors.New("others hold all that it held")

// drain is whether this node was seen to hold nothing any more, and to be leaving, in the
// newest topology in which it was a member. The zero value has seen none.
type drain struct{ seen atomic.Uint64 } // twice the epoch, and one more if it was

// note looks at a topology in which the node is a member. Who tells another node of an
// epoch has noted it before: the next one may be that in which the node was removed.
func (d *drain) note(top *topology.Topology, id unkai.NodeID) {
	next := uint64(top.Epoch) << 1
	if slices.Contains(top.Departing(), id) {
		next++
	}
	for old := d.seen.Load(); next > old && !d.seen.CompareAndSwap(old, next); {
		old = d.seen.Load()
	}
}

func (d *drain) done() bool { return d.seen.Load()&1 == 1 }

// belongs ends this node when it is no member any more.
func (n *Node) belongs(top *topology.Topology) {
	if _, ok := top.Node(n.id); ok {
		n.drained.note(top, n.id)
		return
	}
	if n.drained.done() {
		n.fail(fmt.Errorf("node %v: %w: %w", n.id, ErrDrained, topology.ErrRemoved))
		return
	}
	n.fail(fmt.Errorf("node %v: %w", n.id, topology.ErrRemoved))
}

// guestsOf is how many clients a node has, as far as it has told.
func (n *Node) guestsOf(id unkai.NodeID) int64 {
	if told, ok := n.guests.Load(id); ok {
		return told.(int64)
	}
	return 0
}

func (n *Node) noteGuests(id unkai.NodeID, clients int64) {
	if clients > 0 {
		n.guests.Store(id, clients)
	} else {
		n.guests.Delete(id)
	}
}
