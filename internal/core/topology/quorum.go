package topology

import (
	"fmt"
	"slices"

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
func (t *Topology) Route(b unkai.Bucket) *Route { return &t.routes[b] }

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

func (t *Topology) route() {
	nodes := make(map[unkai.Seat]unkai.NodeID, len(t.Nodes))
	for _, n := range t.Nodes {
		nodes[n.Seat] = n.ID
	}
	t.routes = make([]Route, t.Buckets)
	for b := range t.Sets {
		s, r := &t.Sets[b], &t.routes[b]
		other := slices.Concat(s.Joining, s.Leaving) // one of them is empty
		r.Epoch, r.Since, r.Moving, r.Joining = max(s.Epoch, t.Flushed), s.Epoch, len(other) > 0, len(s.Joining) > 0
		r.seats = append(r.seats, s.Replicas...)
		present := quorum.First(len(s.Replicas))
		var joining quorum.Mask
		for _, seat := range other {
			at := 0
			for at < len(r.seats) && r.seats[at] != seat {
				at++
			}
			if at == len(r.seats) {
				r.seats = append(r.seats, seat)
			}
			joining = joining.With(at)
		}
		for _, seat := range r.seats {
			r.Members = append(r.Members, nodes[seat])
		}
		n := len(s.Replicas)
		read, write := t.needs(n)
		r.Read = quorum.Rule{Present: quorum.Group{Members: present, Need: read}}
		r.Prepare = quorum.Rule{Present: quorum.Group{Members: present, Need: n - write + 1}}
		r.Write = quorum.Rule{Present: quorum.Group{Members: present, Need: write}}
		if r.Moving {
			_, write := t.needs(len(other))
			r.Write.Joining = quorum.Group{Members: joining, Need: write}
		}
	}
}
