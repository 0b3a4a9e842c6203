package topology

import (
	"fmt"

	"unkai"
	"unkai/internal/core/quorum"
)

// maxReplicas is the largest N.
const maxReplicas = 16

// CheckQuorum says what is wrong with N:R:W in the strong regime.
func CheckQuorum(n, r, w int) error {
	switch {
	case n < 1 || n > maxReplicas:
		return fmt.Errorf("quorum %d:%d:%d: N must be from 1 to %d", n, r, w, maxReplicas)
	case r < 1 || r > n || w < 1 || w > n:
		return fmt.Errorf("quorum %d:%d:%d: R and W must be from 1 to N", n, r, w)
	case r+w <= n:
		return fmt.Errorf("quorum %d:%d:%d: R+W must be more than N, or a read can miss the last write; the eventual regime, which allows it, is not part of this version", n, r, w)
	case w <= n/2:
		return fmt.Errorf("quorum %d:%d:%d: W must be more than half of N, or two writes can miss each other; the eventual regime, which allows it, is not part of this version", n, r, w)
	}
	return nil
}

// Quorum is the effective N, R and W of the whole: with fewer attached nodes
// than N their number, with majorities.
func (t *Topology) Quorum() (n, r, w int) {
	n = min(t.N, len(t.Attached()))
	r, w = t.needs(n)
	return n, r, w
}

// needs is R and W of a replica set of n.
func (t *Topology) needs(n int) (r, w int) {
	if n >= t.N {
		return t.R, t.W
	}
	return n/2 + 1, n/2 + 1
}

// Route is how one bucket is read and written under a topology.
type Route struct {
	// Epoch that calls for the bucket carry. It is not the topology's, so that a
	// change elsewhere stops nothing here.
	Epoch unkai.Epoch
	// Since is the epoch in which the set last changed: while it is on its way,
	// only what was accepted before that can do without the joining set.
	Since unkai.Epoch
	// Members are the present replica set in its order, and then those who are
	// only in the other one. A member that is nobody's present incarnation is 0.
	Members []unkai.NodeID
	// Read is how many are asked for the present value, Prepare who must promise,
	// Write who must accept.
	Read, Prepare, Write quorum.Rule
	// Moving says that there is another set, which has to accept too (Write).
	// Joining says that it is the one to which the bucket is on its way.
	Moving, Joining bool

	seats []unkai.Seat
}

// Route tells how a bucket is reached. The topology must be sealed.
func (t *Topology) Route(b unkai.Bucket) *Route { return t.routes[b] }

// Holds reports whether a seat belongs to those who accept for the bucket.
func (r *Route) Holds(s unkai.Seat) bool {
	for _, seat := range r.seats {
		if seat == s {
			return true
		}
	}
	return false
}

// Chosen reports whether an item accepted under epoch e is certainly chosen when
// the members of equal hold that very ballot.
//
// What was accepted before the set last changed will be brought to the other set
// before that is read, or was; what was accepted since must be there already.
func (r *Route) Chosen(e unkai.Epoch, equal quorum.Mask) bool {
	rule := r.Write
	if e < r.Since {
		rule.Joining = quorum.Group{}
	}
	return rule.Enough(equal)
}
