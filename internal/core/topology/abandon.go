package topology

import (
	"errors"
	"slices"

	"unkai"
)

// maxForbearance is the longest that a job which nobody has asked for waits for a node that
// is silent, in milliseconds: five minutes.
const maxForbearance = 5 * 60 * 1000

// Forbearance is for how many milliseconds a job that nobody has asked for waits for a node
// that is to get buckets and is silent: as long as for any node before another takes its
// place, if that is wanted, but not for long, since such a node holds nothing yet that
// would have to be brought back.
func (t *Topology) Forbearance() int64 {
	if t.AutoReplace == 0 {
		return maxForbearance
	}
	return min(t.AutoReplace, maxForbearance)
}

// Awaited are the nodes for each of which the job that runs waits should it be away: those
// to whom some bucket comes, or is due to come, that were no replicas of it before; and when
// nothing else is left to do, those with a share who have to forget what they held before
// they can be sent more. Who has none is sent nothing.
func (t *Topology) Awaited() (out []unkai.NodeID) {
	if t.Job == nil {
		return nil
	}
	wanted, strays := make([]bool, t.Seats+1), make([]bool, t.Seats+1)
	forget := t.Job.Held && t.Moving() == 0
	for b := range t.Sets {
		s := &t.Sets[b]
		for _, seat := range newcomers(s.Replicas, slices.Concat(s.Joining, s.Due)) {
			wanted[seat] = true
		}
		for _, seat := range s.Strays {
			strays[seat] = forget
		}
	}
	for _, n := range t.Nodes {
		if wanted[n.Seat] || strays[n.Seat] && n.State == Attached {
			out = append(out, n.ID)
		}
	}
	return out
}

// Abandon is Cancel by the cluster itself, of a job that nobody has asked for, since it waits
// for these nodes in vain. Nobody has said that they are not wanted: who holds nothing gets
// its share when it is back, as when it joined. For gone see Apply.
func (t *Topology) Abandon(missed []unkai.NodeID, gone ...unkai.NodeID) (Topology, error) {
	if t.Job != nil && !t.Job.Auto {
		return Topology{}, errors.New("topology: an operator wants this job, and has to cancel it")
	}
	return t.cancel(missed, gone)
}

// GivenUp is the job that the cluster has cancelled by itself since it waited for a node in
// vain, if no job was about that node since; nil: there is none.
func (t *Topology) GivenUp(id unkai.NodeID) *Job {
	for i := len(t.History) - 1; i >= 0; i-- {
		switch j := &t.History[i]; {
		case slices.Contains(j.Missed, id):
			return j
		case slices.Contains(j.Nodes, id):
			return nil
		}
	}
	return nil
}
