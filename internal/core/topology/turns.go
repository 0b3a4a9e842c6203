package topology

import (
	"slices"

	"unkai"
)

// queue has the buckets that would set out in this change wait for their turn. One that is
// at rest as before keeps its epoch; from another something was given up.
func (t *Topology) queue(before *Topology) {
	for b := range t.Sets {
		s, was := &t.Sets[b], &before.Sets[b]
		if len(s.Joining) == 0 {
			continue
		}
		s.Due, s.Joining = s.Joining, nil
		if was.atRest() && slices.Equal(s.Replicas, was.Replicas) {
			s.Epoch = was.Epoch
		}
	}
}

// Turn are the buckets that may set out now, when so many may be on their way to
// joining sets at once. Those that would not arrive while these nodes are gone stay where
// they are, and where they are on their way already no other waits for them.
func (t *Topology) Turn(room int, gone ...unkai.NodeID) (out []unkai.Bucket) {
	if t.Job == nil || t.Job.Paused {
		return nil
	}
	here := make([]bool, t.Seats+1)
	for _, n := range t.Nodes {
		here[n.Seat] = !slices.Contains(gone, n.ID)
	}
	away := func(seat unkai.Seat) bool { return !here[seat] }
	for b := range t.Sets {
		if s := &t.Sets[b]; len(s.Joining) > 0 && t.arrives(s.Replicas, s.Joining, away) {
			room--
		}
	}
	for b := range t.Sets {
		s := &t.Sets[b]
		if len(out) < room && len(s.Due) > 0 && (t.arrives(s.Replicas, s.Due, away) || t.lost(s.Replicas, t.passed)) {
			out = append(out, unkai.Bucket(b))
		}
	}
	return out
}

// arrives reports whether a bucket comes from one set to another while these are away; see
// Arrived and Serves.
func (t *Topology) arrives(from, to []unkai.Seat, away func(unkai.Seat) bool) bool {
	return t.carries(from, to, away) && !slices.ContainsFunc(newcomers(from, to), away)
}

// carries reports whether enough of both sets are there.
func (t *Topology) carries(from, to []unkai.Seat, away func(unkai.Seat) bool) bool {
	_, write := t.needs(len(from))
	return alive(from, away) > len(from)-write && t.spareOf(to, away) >= 0
}

// newcomers are those of a set that are not in the one before. A bucket waits for all of
// them, though a quorum were enough: else one that has died would be counted as a replica,
// and whoever has one would forget it.
func newcomers(from, to []unkai.Seat) []unkai.Seat { return without(to, from) }

// Spares reports whether a bucket on its way to a joining set arrives there also if a node
// can do nothing but be there, when all others that hold it do what they are to.
func (t *Topology) Spares(b unkai.Bucket, id unkai.NodeID) bool {
	s := &t.Sets[b]
	return len(s.Joining) > 0 && t.carries(s.Replicas, s.Joining, func(seat unkai.Seat) bool {
		n, ok := t.Seated(seat)
		return !ok || n.ID == id
	})
}

// setOut sends buckets on their way whose turn has come.
func (t *Topology) setOut(room int, gone []unkai.NodeID) {
	for _, b := range t.Turn(room, gone...) {
		s := &t.Sets[b]
		to := s.Due
		if s.Due = nil; !t.lost(s.Replicas, t.passed) { // else it would never arrive; see Change.GiveUp
			s.Joining, s.Epoch = to, t.Epoch
		}
	}
}
