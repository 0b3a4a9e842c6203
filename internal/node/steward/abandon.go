package steward

import (
	"context"
	"slices"
	"time"

	"unkai"
	"unkai/internal/core/topology"
)

// abandon cancels a job that nobody has asked for, when it waits for a node that has been
// silent for too long: nothing else is begun before it has ended, and nobody may be there to
// cancel it. It reports whether it has.
func (s *Steward) abandon(ctx context.Context, top *topology.Topology) bool {
	missed := s.missed(top)
	if len(missed) == 0 || 2*s.managersHere(top) <= len(top.Managers) {
		return false
	}
	var gone []unkai.NodeID
	for _, m := range top.Nodes {
		if !s.cfg.Nodes.Here(m.ID) {
			gone = append(gone, m.ID)
		}
	}
	if _, err := top.Abandon(missed, gone...); err != nil {
		return false // it has to go on, and waits
	}
	done := s.change(ctx, top, "cancel a job", func(t *topology.Topology) (topology.Topology, error) {
		return t.Abandon(missed, gone...)
	})
	if done {
		s.cfg.Log.Warn("a job that began by itself is cancelled by itself: it waits for nodes that have been silent for too long; those that got nothing get their share when they are back",
			"job", top.Job.ID, "kind", string(top.Job.Kind), "nodes", ids(missed), "silent_for", time.Since(s.silent[missed[0]]).Round(time.Second))
	}
	return done
}

// missed are the nodes for which the job that runs waits in vain, if it began by itself. One
// that is paused is in an operator's hands.
func (s *Steward) missed(top *topology.Topology) []unkai.NodeID {
	j := top.Job
	if j == nil || !j.Auto || j.Paused {
		return nil
	}
	silent := s.silentFor(top, time.Duration(top.Forbearance())*time.Millisecond)
	if len(silent) == 0 {
		return nil
	}
	awaited := top.Awaited()
	return slices.DeleteFunc(silent, func(id unkai.NodeID) bool { return !slices.Contains(awaited, id) })
}

// givenUp is the job that was cancelled since a node was silent that has not come back; nil:
// there is none, or this steward has not watched it since. Such a node was there when the job
// began, and holds nothing or counts by itself.
func (s *Steward) givenUp(top *topology.Topology, id unkai.NodeID) *topology.Job {
	j, since := top.GivenUp(id), s.silent[id]
	if j == nil || since.IsZero() || s.cfg.Now()-time.Since(since).Milliseconds() > j.Ended {
		return nil
	}
	return j
}

// cutShort reports whether the last job that has ended was cancelled by the cluster itself:
// others than those for whose sake it was may lack a part of their share, too.
func cutShort(top *topology.Topology) bool {
	j := lastJob(top)
	return j != nil && len(j.Missed) > 0
}
