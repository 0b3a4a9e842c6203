package topology

import (
	"errors"
	"fmt"
	"slices"

	"unkai"
	"unkai/internal/core/ring"
)

// ErrMoving says that buckets are on their way already; one change at a time.
var ErrMoving = errors.New("buckets are on their way already; wait until they have arrived")

// next is a copy with the next epoch, of which everything may be changed.
func (t *Topology) next() Topology {
	next := *t
	next.Epoch++
	next.Nodes = slices.Clone(t.Nodes)
	next.Sets = slices.Clone(t.Sets)
	next.Managers = slices.Clone(t.Managers)
	next.routes = nil
	return next
}

// Flush is the topology that begins with nothing.
func (t *Topology) Flush() Topology {
	next := t.next()
	next.Flushed, next.FlushAt = next.Epoch, 0
	return next
}

// FlushLater is the topology in which a flush is due at a later moment.
func (t *Topology) FlushLater(at int64) Topology {
	next := t.next()
	next.FlushAt = at
	return next
}

// Configure is the topology with another N:R:W. Only a cluster of one node can
// change them: in a larger one quorums of before and after might not meet.
func (t *Topology) Configure(n, r, w int) (Topology, error) {
	if len(t.Nodes) > 1 {
		return Topology{}, fmt.Errorf("topology: N:R:W are fixed once a second node has joined")
	}
	next := t.next()
	next.N, next.R, next.W = n, r, w
	return next, nil
}

// Join is the topology in which a node is recognised. A node that is a member
// already stays what it is, with the weight and zone it gives now.
func (t *Topology) Join(n Node) (Topology, error) {
	next := t.next()
	if i := slices.IndexFunc(next.Nodes, func(m Node) bool { return m.ID == n.ID }); i >= 0 {
		next.Nodes[i].Weight, next.Nodes[i].Zone = n.Weight, n.Zone
		return next, nil
	}
	if err := next.seat(&n); err != nil {
		return Topology{}, err
	}
	n.Incarnation, n.State = 1, Recognised
	next.Nodes = append(next.Nodes, n)
	slices.SortFunc(next.Nodes, func(a, b Node) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return next, nil
}

// seat gives n a seat that nobody ever had.
func (t *Topology) seat(n *Node) error {
	if t.Seats == ^unkai.Seat(0) {
		return fmt.Errorf("topology: all %d seats were given out", t.Seats)
	}
	t.Seats++
	n.Seat = t.Seats
	return nil
}

// Reborn is the topology in which a node has lost what it held: a new
// incarnation under a new seat, which holds nothing yet. Where the old one was
// a replica it counts as one that does not answer, until the buckets have been
// brought to the new one (see Attach).
func (t *Topology) Reborn(id unkai.NodeID) (Topology, error) {
	next := t.next()
	for i := range next.Nodes {
		n := &next.Nodes[i]
		if n.ID != id {
			continue
		}
		if err := next.seat(n); err != nil {
			return Topology{}, err
		}
		n.Incarnation++
		n.State = Recognised
		return next, nil
	}
	return Topology{}, fmt.Errorf("topology: node %v is not a member", id)
}

// Attach is the topology in which these nodes get their share: the buckets that
// come to them are on their way.
func (t *Topology) Attach(ids ...unkai.NodeID) (Topology, error) {
	if t.Moving() > 0 {
		return Topology{}, ErrMoving
	}
	next := t.next()
	for _, id := range ids {
		i := slices.IndexFunc(next.Nodes, func(n Node) bool { return n.ID == id })
		if i < 0 {
			return Topology{}, fmt.Errorf("topology: node %v is not a member", id)
		}
		next.Nodes[i].State = Attached
	}
	next.move()
	next.elect(nil)
	return next, nil
}

// move sends every bucket on its way to where the placement wants it.
func (t *Topology) move() {
	var nodes []ring.Node
	seats := map[unkai.NodeID]unkai.Seat{}
	for _, n := range t.Attached() {
		nodes = append(nodes, ring.Node{ID: n.ID, Weight: n.Weight, Zone: n.Zone})
		seats[n.ID] = n.Seat
	}
	for b, ids := range ring.Place(t.Buckets, t.N, nodes, t.placed()) {
		s := &t.Sets[b]
		target := make([]unkai.Seat, len(ids))
		for i, id := range ids {
			target[i] = seats[id]
		}
		switch {
		case slices.Equal(s.Replicas, target):
		case !t.anySeated(s.Replicas): // all who held it have lost it
			s.Replicas, s.Epoch = target, t.Epoch
		case sameMembers(s.Replicas, target):
			s.Replicas = target // another coordinator, and nothing else
		default:
			s.Joining, s.Epoch = target, t.Epoch
		}
	}
}

// placed is the present map. A seat that is nobody's leaves a gap.
func (t *Topology) placed() ring.Map {
	m := make(ring.Map, t.Buckets)
	for b := range t.Sets {
		for _, seat := range t.Sets[b].Replicas {
			if n, ok := t.Seated(seat); ok {
				m[b] = append(m[b], n.ID)
			}
		}
	}
	return m
}

// anySeated reports whether a seat is a node's present one.
func (t *Topology) anySeated(seats []unkai.Seat) bool {
	return slices.ContainsFunc(seats, func(s unkai.Seat) bool {
		_, ok := t.Seated(s)
		return ok
	})
}

func sameMembers(a, b []unkai.Seat) bool {
	if len(a) != len(b) {
		return false
	}
	for _, s := range a {
		if !slices.Contains(b, s) {
			return false
		}
	}
	return true
}

// Moving is how many buckets are on their way.
func (t *Topology) Moving() (n int) {
	for b := range t.Sets {
		if len(t.Sets[b].Joining)+len(t.Sets[b].Leaving) > 0 {
			n++
		}
	}
	return n
}

// Arrived reports whether a bucket on its way may be switched to its joining
// set, when the replicas of these seats have each said, under the epoch of the
// bucket, that every key they hold has been accepted by both sets.
//
// N−W+1 of the present set are needed: those refuse what comes of an older
// epoch, so fewer than W are left that could accept it, and whatever W ever
// accepted is among what these hold.
func (t *Topology) Arrived(b unkai.Bucket, settled []unkai.Seat) bool {
	s := &t.Sets[b]
	if len(s.Joining) == 0 {
		return false
	}
	_, write := t.needs(len(s.Replicas))
	said := 0
	for _, seat := range s.Replicas {
		if slices.Contains(settled, seat) {
			said++
		}
	}
	return said >= len(s.Replicas)-write+1
}

// Switch is the topology in which these buckets are read at their joining sets.
func (t *Topology) Switch(buckets []unkai.Bucket) Topology {
	next := t.next()
	for _, b := range buckets {
		if s := &next.Sets[b]; len(s.Joining) > 0 {
			*s = Set{Epoch: next.Epoch, Replicas: s.Joining, Leaving: s.Replicas}
		}
	}
	return next
}

// Heard reports whether so many replicas know of the epoch in which a bucket was
// switched that those who do not can neither answer a read nor accept anything
// without them: then the leaving set is not needed any more.
func (t *Topology) Heard(b unkai.Bucket, heard []unkai.Seat) bool {
	s := &t.Sets[b]
	return len(s.Leaving) > 0 && t.outnumber(s.Leaving, heard)
}

// outnumber reports whether the seats of a set that have heard of an epoch are so
// many that the others are no quorum.
func (t *Topology) outnumber(set, heard []unkai.Seat) bool {
	read, write := t.needs(len(set))
	not := 0
	for _, seat := range set {
		if !slices.Contains(heard, seat) {
			not++
		}
	}
	return not < min(read, write)
}

// Fenced reports whether so many replicas of every bucket have heard of this
// topology that under an earlier one nothing can be read or written any more.
func (t *Topology) Fenced(heard []unkai.Seat) bool {
	for b := range t.Sets {
		s := &t.Sets[b]
		if !t.outnumber(s.Replicas, heard) || len(s.Joining) > 0 && !t.outnumber(s.Joining, heard) || len(s.Leaving) > 0 && !t.outnumber(s.Leaving, heard) {
			return false
		}
	}
	return true
}

// Release is the topology in which these buckets have left their old sets.
func (t *Topology) Release(buckets []unkai.Bucket) Topology {
	next := t.next()
	for _, b := range buckets {
		if s := &next.Sets[b]; len(s.Leaving) > 0 {
			*s = Set{Epoch: next.Epoch, Replicas: s.Replicas}
		}
	}
	return next
}
