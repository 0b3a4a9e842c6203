package topology

import (
	"fmt"

	"unkai"
)

// Cancel is the topology in which the buckets that were not switched yet stay
// where they are. Those that were stay where they went: their new replicas hold
// what was accepted since. The nodes are again what they were, except that one
// which holds buckets by now stays attached, with less than its share.
//
// Nothing is lost by dropping a joining set. As long as a bucket is joining, every
// promise is asked of the present set and everything accepted needs W of it: it
// has been a register of its own all the time, and the joining set only made it
// harder to have something chosen. For gone see Apply.
func (t *Topology) Cancel(gone ...unkai.NodeID) (Topology, error) { return t.cancel(nil, gone) }

// cancel does it for an operator, or, when nodes are missed, for the cluster itself.
func (t *Topology) cancel(missed, gone []unkai.NodeID) (Topology, error) {
	next, err := t.running()
	if err != nil {
		return Topology{}, err
	}
	for b := range next.Sets {
		if s := &next.Sets[b]; len(s.Joining) > 0 {
			*s = Set{Epoch: next.Epoch, Replicas: s.Replicas, Strays: next.strays(s, s.Joining)}
		} else {
			s.Due = nil
		}
	}
	named := next.named()
	for _, was := range next.Job.Before {
		n, err := next.member(was.ID)
		if err != nil {
			continue // it had nothing and has left
		}
		next.Job.takeBack(n, &was)
		if was.State == Recognised && n.State == Recognised && !next.Job.attaches(n.ID) {
			continue // it was weighed, and has its share to come as before
		}
		if n.State = Recognised; named[n.Seat] {
			n.State = Attached
		}
		// Or it would be attached again at once. One that is missed has to be back first.
		n.Manual = n.State == Recognised && was.State == Recognised && (len(missed) == 0 || was.Manual)
	}
	if len(next.Attached()) == 0 {
		return Topology{}, fmt.Errorf("topology: no node would be attached any more: nodes have lost what they held since the job began, and it attaches them again; let it go on, and resume it if it is paused: %w", ErrUndecidable)
	}
	next.Job.Outcome, next.Job.Paused, next.Job.Held, next.Job.Missed = Cancelled, false, false, missed
	return next, next.reelect(t.Managers, gone)
}

// takeBack gives a node the weight and zone that it had, unless it has others by now
// than the job gave it.
func (j *Job) takeBack(n, was *Node) {
	given := *was
	switch j.Kind {
	case KindWeigh:
		if j.Weight > 0 {
			given.Weight = j.Weight
		}
		if j.Zone != nil {
			given.Zone = *j.Zone
		}
	case KindReplace:
		if n.ID == j.Nodes[1] {
			given.Weight = j.Before[0].Weight
		}
	}
	if n.Weight == given.Weight {
		n.Weight = was.Weight
	}
	if n.Zone == given.Zone {
		n.Zone = was.Zone
	}
}

// attaches reports whether a node gets a share by the job that it did not have.
func (j *Job) attaches(id unkai.NodeID) bool {
	return j.Kind == KindAttach || j.Kind == KindReplace && j.Nodes[1] == id
}
