package topology

import (
	"fmt"
	"slices"

	"unkai"
)

// lost reports whether of a set so many are gone for good that it can neither be
// written, nor are those who are left sure to hold all that was.
func (t *Topology) lost(set []unkai.Seat, gone func(unkai.Seat) bool) bool {
	_, write := t.needs(len(set))
	return alive(set, gone) < max(write, len(set)-write+1)
}

// whole reports whether those who are left of a set are sure to hold all that was
// acknowledged, also when only a quorum of them is asked.
func (t *Topology) whole(set []unkai.Seat, gone func(unkai.Seat) bool) bool {
	left := alive(set, gone)
	_, write := t.needs(len(set))
	_, among := t.needs(left)
	return left > 0 && write-(len(set)-left) >= among
}

// Lost is how many buckets have lost their quorum for good: only giving up what was
// lost brings them back.
func (t *Topology) Lost() (n int) {
	for b := range t.Sets {
		if s := &t.Sets[b]; t.anySeated(s.Replicas) && t.lost(s.Replicas, t.passed) {
			n++
		}
	}
	return n
}

// giveUp is the topology in which the replicas that a change gives up are no more
// part of the sets that cannot go on with them; and how many those are. What was
// accepted by these replicas alone is gone: that may have been acknowledged.
func (t *Topology) giveUp(c Change, gone []unkai.NodeID) (Topology, int, error) {
	if c.Kind != KindDetach && c.Kind != KindRebalance {
		return Topology{}, 0, fmt.Errorf("topology: to %s gives nothing up; detach and rebalance do", c.Kind)
	}
	for _, id := range c.Nodes {
		if !slices.Contains(gone, id) {
			return Topology{}, 0, fmt.Errorf("topology: node %v is alive, and brings what it holds to others itself; only what dead nodes hold is given up", id)
		}
	}
	next, given := t.next(), 0
	out := func(seat unkai.Seat) bool {
		n, ok := t.Seated(seat)
		return !ok || slices.Contains(c.Nodes, n.ID)
	}
	for b := range next.Sets {
		s := &next.Sets[b]
		if len(s.Joining)+len(s.Due) > 0 {
			return Topology{}, 0, fmt.Errorf("topology: end the job that runs first, with unkai job cancel: %w", ErrMoving)
		}
		if len(s.Leaving) > 0 && !next.settle(s, out) {
			return Topology{}, 0, ErrMoving
		}
		if !next.lost(s.Replicas, out) {
			continue
		}
		if !next.whole(s.Replicas, out) {
			given++
		}
		was := s.Replicas
		left := slices.DeleteFunc(slices.Clone(was), out)
		*s = Set{Epoch: next.Epoch, Replicas: left, Strays: s.Strays} // none: the change gives it others
		s.Strays = next.strays(s, was)
	}
	next.Epoch = t.Epoch // what comes of the change is of the next, and the sets are of that
	return next, given, nil
}

// settle ends the way of a bucket that can never end as it should, with the set of
// which more is left: what both have accepted either holds. It reports whether there
// is no other way.
func (t *Topology) settle(s *Set, out func(unkai.Seat) bool) bool {
	now, was := !t.lost(s.Replicas, out), !t.lost(s.Leaving, out)
	stay, leave := s.Replicas, s.Leaving
	switch {
	case now && was:
		return false
	case was, !now && alive(s.Leaving, out) > alive(s.Replicas, out):
		stay, leave = leave, stay
	}
	*s = Set{Epoch: t.Epoch, Replicas: stay, Strays: s.Strays}
	s.Strays = t.strays(s, leave)
	return true
}

// allHeld says whether there is a bucket that nobody holds.
func (t *Topology) allHeld() error {
	if slices.ContainsFunc(t.Sets, func(s Set) bool { return len(s.Replicas) == 0 }) {
		return fmt.Errorf("topology: nothing is left of some buckets: %w", ErrForgetting)
	}
	return nil
}
