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
// joining sets at once.
func (t *Topology) Turn(room int) (out []unkai.Bucket) {
	if t.Job == nil || t.Job.Paused {
		return nil
	}
	for b := range t.Sets {
		if len(t.Sets[b].Joining) > 0 {
			room--
		}
	}
	for b := range t.Sets {
		if len(out) < room && len(t.Sets[b].Due) > 0 {
			out = append(out, unkai.Bucket(b))
		}
	}
	return out
}

// setOut sends buckets on their way whose turn has come.
func (t *Topology) setOut(room int) {
	for _, b := range t.Turn(room) {
		s := &t.Sets[b]
		to := s.Due
		if s.Due = nil; !t.lost(s.Replicas, t.passed) { // else it would never arrive; see Change.GiveUp
			s.Joining, s.Epoch = to, t.Epoch
		}
	}
}
