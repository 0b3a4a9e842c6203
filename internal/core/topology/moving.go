package topology

import (
	"slices"

	"unkai"
	"unkai/internal/core/ring"
)

// move sends every bucket on its way to where the placement wants it.
func (t *Topology) move() {
	var nodes []ring.Node
	seats := map[unkai.NodeID]unkai.Seat{}
	for _, n := range t.Attached() {
		nodes = append(nodes, ring.Node{ID: n.ID, Weight: n.Weight, Zone: n.Zone, Full: slices.Contains(t.full, n.ID)})
		seats[n.ID] = n.Seat
	}
	if len(nodes) == 0 { // all have lost what they held, and have a share to come
		return
	}
	for b, ids := range ring.Place(t.Buckets, t.N, nodes, t.placed()) {
		target := make([]unkai.Seat, len(ids))
		for i, id := range ids {
			target[i] = seats[id]
		}
		t.send(b, target)
	}
}

// send sends a bucket on its way to another set of replicas.
func (t *Topology) send(b int, target []unkai.Seat) {
	s := &t.Sets[b]
	switch {
	case slices.Equal(s.Replicas, target):
	case sameMembers(s.Replicas, target):
		s.Replicas = target // another coordinator, and nothing else
	case slices.ContainsFunc(s.Strays, func(seat unkai.Seat) bool { return slices.Contains(target, seat) }):
		t.held++ // it is sent when they have forgotten it
	case !t.anySeated(s.Replicas): // all who held it have lost it
		s.Replicas, s.Epoch = target, t.Epoch
	case t.lost(s.Replicas, t.passed): // it would never arrive; see Change.GiveUp
	default:
		s.Joining, s.Epoch = target, t.Epoch
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

// passed reports whether a seat is nobody's any more.
func (t *Topology) passed(s unkai.Seat) bool {
	_, ok := t.Seated(s)
	return !ok
}

// Gaps reports whether a bucket has fewer replicas than its set has places.
func (t *Topology) Gaps() bool { return slices.ContainsFunc(t.Sets, t.gap) }

// Holes is how many buckets have.
func (t *Topology) Holes() (n int) {
	for _, s := range t.Sets {
		if t.gap(s) {
			n++
		}
	}
	return n
}

func (t *Topology) gap(s Set) bool { return slices.ContainsFunc(s.Replicas, t.passed) }

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

// Moving is how many buckets are on their way, or wait for their turn.
func (t *Topology) Moving() (n int) {
	for b := range t.Sets {
		if s := &t.Sets[b]; !s.atRest() || len(s.Due) > 0 {
			n++
		}
	}
	return n
}

// Arrived reports whether a bucket on its way may be switched to its joining
// set, when the replicas of these seats have each said, under the epoch of the
// bucket, that of every key what they hold, or something after it, is durable at
// enough of the joining set.
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

// Serves reports whether these seats are enough of a bucket's joining set to read
// and write it there, and all among them that were not in the present one.
func (t *Topology) Serves(b unkai.Bucket, present []unkai.Seat) bool {
	s := &t.Sets[b]
	away := func(seat unkai.Seat) bool { return !slices.Contains(present, seat) }
	return t.spareOf(s.Joining, away) >= 0 && !slices.ContainsFunc(newcomers(s.Replicas, s.Joining), away)
}

// Proceed is the topology in which the buckets that have arrived are read at their joining
// sets, those whose old replicas have heard of that have left them, and others set out, as
// long as not more than room are on their way to joining sets. Size gives what was brought
// of a bucket to each new replica, in bytes, for the account of the job; nil: nobody knows;
// less than none: nobody has counted, and it is taken for as much as the plan has in the mean.
// For gone see Turn.
func (t *Topology) Proceed(arrived, heard []unkai.Bucket, room int, size func(unkai.Bucket) int64, gone ...unkai.NodeID) Topology {
	next := t.next()
	for _, b := range arrived {
		if s := &next.Sets[b]; len(s.Joining) > 0 {
			if next.Job != nil {
				next.Job.Moved.add(s, b, next.Job.guess(size))
			}
			*s = Set{Epoch: next.Epoch, Replicas: s.Joining, Leaving: s.Replicas, Strays: s.Strays}
		}
	}
	for _, b := range heard {
		if s := &next.Sets[b]; len(s.Leaving) > 0 && s.Epoch != next.Epoch {
			*s = Set{Epoch: next.Epoch, Replicas: s.Replicas, Strays: next.strays(s, s.Leaving)}
		}
	}
	next.setOut(room, gone)
	return next
}

// Heard reports whether so many replicas know of the epoch in which a bucket was
// switched that those who do not can neither answer a read nor accept anything
// without them: then the leaving set is not needed any more. It is as long as the
// replicas have lost their quorum for good.
func (t *Topology) Heard(b unkai.Bucket, heard []unkai.Seat) bool {
	s := &t.Sets[b]
	return len(s.Leaving) > 0 && t.outnumber(s.Leaving, heard) && (t.able(s.Replicas) || !t.anySeated(s.Leaving))
}

// able reports whether a set has not lost its quorums for good.
func (t *Topology) able(set []unkai.Seat) bool {
	return t.spareOf(set, t.passed) >= 0
}

// outnumber reports whether the seats of a set that have heard of an epoch are so
// many that the others are no quorum. A seat that has passed says nothing any more.
func (t *Topology) outnumber(set, heard []unkai.Seat) bool {
	read, write := t.needs(len(set))
	not := 0
	for _, seat := range set {
		if !slices.Contains(heard, seat) && t.anySeated([]unkai.Seat{seat}) {
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

// strays are those of a set once those who go hold it no more.
func (t *Topology) strays(s *Set, gone []unkai.Seat) (out []unkai.Seat) {
	for _, list := range [][]unkai.Seat{s.Strays, gone} {
		for _, seat := range list {
			if _, ok := t.Seated(seat); ok && !slices.Contains(s.Replicas, seat) && !slices.Contains(out, seat) {
				out = append(out, seat)
			}
		}
	}
	return out
}

// Strayed are the buckets that a seat has yet to forget.
func (t *Topology) Strayed(seat unkai.Seat) (out []unkai.Bucket) {
	for b := range t.Sets {
		if slices.Contains(t.Sets[b].Strays, seat) {
			out = append(out, unkai.Bucket(b))
		}
	}
	return out
}

// Straying reports whether some node has something left to forget.
func (t *Topology) Straying() bool {
	return slices.ContainsFunc(t.Sets, func(s Set) bool { return t.anySeated(s.Strays) })
}

// Forgot is the topology in which each seat has forgotten these buckets: it may
// join them again.
func (t *Topology) Forgot(buckets map[unkai.Seat][]unkai.Bucket) Topology {
	next := t.next()
	for seat, list := range buckets {
		for _, b := range list {
			s := &next.Sets[b]
			s.Strays = slices.DeleteFunc(slices.Clone(s.Strays), func(x unkai.Seat) bool { return x == seat })
			if len(s.Strays) == 0 {
				s.Strays = nil
			}
		}
	}
	return next
}
