// Package topology is the law of who holds what: the nodes of a cluster, the
// buckets they hold, and the epochs in which that changes.
package topology

import (
	"fmt"

	"unkai"
	"unkai/internal/core/ring"
)

// Topology is one version of the cluster's layout. It is never changed: a
// change makes a new one with the next epoch.
type Topology struct {
	Epoch   unkai.Epoch `json:"epoch"`
	Cluster uint64      `json:"cluster"` // the cluster's id, and the seed of its hash space
	Buckets int         `json:"buckets"`
	N       int         `json:"n"` // as configured; see Quorum for what is effective
	R       int         `json:"r"`
	W       int         `json:"w"`
	Nodes   []Node      `json:"nodes"` // attached, by ascending id
	Seats   unkai.Seat  `json:"seats"` // the highest seat ever given out
	// Flushed is the epoch that the last flush_all began: what was accepted
	// under an earlier one does not exist any more.
	Flushed unkai.Epoch `json:"flushed"`
	// FlushAt is when a flush_all with a delay is due, in milliseconds since
	// 1970; 0: none is.
	FlushAt int64 `json:"flush_at,omitempty"`
}

// Node is a member in its present incarnation.
type Node struct {
	ID          unkai.NodeID      `json:"id"`
	Incarnation unkai.Incarnation `json:"incarnation"`
	Seat        unkai.Seat        `json:"seat"`
}

// New is the first topology of a cluster of one node.
func New(cluster uint64, buckets, n, r, w int, first unkai.NodeID) Topology {
	return Topology{
		Epoch: 1, Cluster: cluster, Buckets: buckets, N: n, R: r, W: w,
		Nodes: []Node{{ID: first, Incarnation: 1, Seat: 1}}, Seats: 1,
	}
}

// Validate says what is wrong with a topology that was read from somewhere.
func (t *Topology) Validate() error {
	switch {
	case t.Epoch == 0:
		return fmt.Errorf("topology: epoch is 0")
	case !ring.ValidBuckets(t.Buckets):
		return fmt.Errorf("topology: %d buckets: want a power of two from %d to %d", t.Buckets, ring.MinBuckets, ring.MaxBuckets)
	case len(t.Nodes) == 0:
		return fmt.Errorf("topology: no nodes")
	case t.Flushed > t.Epoch:
		return fmt.Errorf("topology: flushed in epoch %d, after epoch %d", t.Flushed, t.Epoch)
	}
	for _, n := range t.Nodes {
		if n.ID == 0 || n.Seat == 0 || n.Seat > t.Seats {
			return fmt.Errorf("topology: node %v has seat %d of %d", n.ID, n.Seat, t.Seats)
		}
	}
	return CheckQuorum(t.N, t.R, t.W)
}

// CheckQuorum says what is wrong with N:R:W in the strong regime.
func CheckQuorum(n, r, w int) error {
	switch {
	case n < 1 || n > 16:
		return fmt.Errorf("quorum %d:%d:%d: N must be from 1 to 16", n, r, w)
	case r < 1 || r > n || w < 1 || w > n:
		return fmt.Errorf("quorum %d:%d:%d: R and W must be from 1 to N", n, r, w)
	case r+w <= n:
		return fmt.Errorf("quorum %d:%d:%d: R+W must be more than N, or a read can miss the last write; the eventual regime, which allows it, is not part of this version", n, r, w)
	case w <= n/2:
		return fmt.Errorf("quorum %d:%d:%d: W must be more than half of N, or two writes can miss each other; the eventual regime, which allows it, is not part of this version", n, r, w)
	}
	return nil
}

// Quorum is the effective N, R and W: with fewer nodes than N their number,
// with majorities.
func (t *Topology) Quorum() (n, r, w int) {
	if len(t.Nodes) >= t.N {
		return t.N, t.R, t.W
	}
	n = len(t.Nodes)
	return n, n/2 + 1, n/2 + 1
}

// Space is the cluster's hash space.
func (t *Topology) Space() ring.Space { return ring.NewSpace(t.Cluster, t.Buckets) }

// Node finds a member.
func (t *Topology) Node(id unkai.NodeID) (Node, bool) {
	for _, n := range t.Nodes {
		if n.ID == id {
			return n, true
		}
	}
	return Node{}, false
}

// Forgotten reports whether what was accepted under epoch e has been flushed.
func (t *Topology) Forgotten(e unkai.Epoch) bool { return e < t.Flushed }

// Flush is the topology that begins with nothing.
func (t *Topology) Flush() Topology {
	next := *t
	next.Epoch++
	next.Flushed, next.FlushAt = next.Epoch, 0
	return next
}

// FlushLater is the topology in which a flush is due at a later moment.
func (t *Topology) FlushLater(at int64) Topology {
	next := *t
	next.Epoch++
	next.FlushAt = at
	return next
}

// Reborn is the topology in which a node has lost what it held: a new
// incarnation under a new seat. It fails when no seats are left.
func (t *Topology) Reborn(id unkai.NodeID) (Topology, error) {
	if t.Seats == ^unkai.Seat(0) {
		return Topology{}, fmt.Errorf("topology: all %d seats were given out", t.Seats)
	}
	next := *t
	next.Nodes = append([]Node(nil), t.Nodes...)
	for i := range next.Nodes {
		if next.Nodes[i].ID == id {
			next.Epoch++
			next.Seats++
			next.Nodes[i].Incarnation++
			next.Nodes[i].Seat = next.Seats
			return next, nil
		}
	}
	return Topology{}, fmt.Errorf("topology: node %v is not a member", id)
}
