package topology

import (
	"slices"

	"unkai"
)

// Advance is the next topology of a job of which nothing is on its way: either
// buckets set out that had to wait, or the job has ended. False: there is no such
// job, or it still waits. For gone see Apply.
func (t *Topology) Advance(size func(unkai.Bucket) int64, now int64, gone ...unkai.NodeID) (Topology, bool) {
	j := t.Job
	if j == nil || t.Moving() > 0 {
		return Topology{}, false
	}
	if j.Outcome == Running && (j.Held || t.holdsLeaving()) {
		return t.resend(size, gone)
	}
	next, ok := t.Depart()
	if !ok {
		next = t.next()
	}
	next.end(now)
	return next, true
}

// resend sends buckets on their way that could not set out before, or have lost the
// node to which they were.
func (t *Topology) resend(size func(unkai.Bucket) int64, gone []unkai.NodeID) (Topology, bool) {
	next := t.next()
	back := next.reattach(gone)
	if t.Job.Kind == KindReplace {
		to, _ := next.Node(t.Job.Nodes[1])
		for _, from := range append(slices.Clone(t.Job.Passed), t.Job.Before[0].Seat) { // the old node may have another by now
			next.handOver(from, to.Seat)
		}
	} else {
		next.full = t.Job.Full
		next.move()
	}
	if back {
		next.elect(gone)
	}
	j := next.Job
	j.Held = next.held > 0
	j.Planned = j.Moved // what was dropped is not to come
	next.plan(size)
	next.queue(t)
	return next, next.Moving() > 0 || !j.Held && t.Job.Held
}

// Back is how many buckets were sent back, or could not set out with the others, and are
// sent on their way by the job that runs when nothing else is. For gone see Apply.
func (t *Topology) Back(gone ...unkai.NodeID) (n int) {
	if t.Job == nil || t.Job.Outcome != Running || !t.Job.Held {
		return 0
	}
	then := t.arrived()
	then, _ = then.resend(nil, gone)
	for b := range then.Sets {
		if len(then.Sets[b].Due) > 0 {
			n++
		}
	}
	return n + then.held
}

// reattach gives nodes a share again that had one when the job began, or were to get
// one by it, and have been reborn since: else it would go to others, only to come
// back. It reports whether there are such nodes.
func (t *Topology) reattach(gone []unkai.NodeID) (any bool) {
	for i := range t.Nodes {
		n := &t.Nodes[i]
		if n.State != Recognised {
			continue
		}
		if t.Job.Kind == KindReplace {
			if n.ID != t.Job.Nodes[1] {
				continue
			}
			if from, ok := t.Node(t.Job.Nodes[0]); ok {
				n.Weight = from.Weight
			}
		} else if n.Manual || n.Incarnation == 1 || slices.Contains(gone, n.ID) {
			continue
		}
		n.State, n.Manual, any = Attached, false, true
	}
	return any
}

// holdsLeaving reports whether a leaving node is still named by a set.
func (t *Topology) holdsLeaving() bool {
	named := t.named()
	return slices.ContainsFunc(t.Nodes, func(n Node) bool { return n.State == Leaving && named[n.Seat] })
}
