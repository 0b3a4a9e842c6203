package steward

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"unkai"
	"unkai/internal/core/topology"
)

// Prospect is what becomes of a node though nobody asks for it, and when, or why not.
type Prospect struct {
	Node    string
	Do      string  // "attach" or "replace"
	By      string  // the node that takes its place; "": all others do
	Seconds float64 // until it is so
	Why     string  // not, as long as this is so
}

// foresee is what this steward will do by itself, and why it does not now. It goes by what
// the last step has found.
func (s *Steward) foresee(top *topology.Topology) (out []Prospect) {
	hindered := s.hindered(top)
	dead := s.mourned(top)
	var heir unkai.NodeID
	if dead != 0 && dead == s.chosen.dead && slices.Contains(s.spares(top, dead), s.chosen.by) {
		heir = s.chosen.by
	}
	var latest time.Time // that joined
	for _, since := range s.joined {
		if since.After(latest) {
			latest = since
		}
	}
	for _, m := range top.Nodes {
		p := Prospect{Node: m.ID.String()}
		since, silent := s.silent[m.ID]
		switch {
		case m.State == topology.Attached && silent && top.AutoReplace > 0:
			p.Do = "replace"
			p.Seconds = (Patience(top) - time.Since(since)).Seconds()
			if p.Seconds <= 0 {
				p.Seconds, p.Why = 0, cmp.Or(hindered, s.refused)
			}
			if m.ID == dead && heir != 0 {
				p.By = heir.String()
			}
		case m.State == topology.Recognised && !m.Manual && !silent:
			p.Do = "attach"
			p.Seconds = max(0, (attachAfter - time.Since(latest)).Seconds())
			if m.ID == heir {
				p.Seconds, p.Why = 0, fmt.Sprintf("it takes the place of node %v when that one is replaced", dead)
			} else if p.Why = cmp.Or(hindered, s.waiting); p.Why != "" {
				p.Seconds = 0
			}
		case m.State == topology.Recognised && !m.Manual && s.givenUp(top, m.ID) != nil:
			p.Do, p.Why = "attach", fmt.Sprintf("job %d was cancelled by itself since it was silent; it gets its share when it is back", s.givenUp(top, m.ID).ID)
		default:
			continue
		}
		out = append(out, p)
	}
	return out
}

// hindered is why the steward begins nothing by itself now, whatever it is; "": it does.
func (s *Steward) hindered(top *topology.Topology) string {
	switch alive := s.managersHere(top); {
	case 2*alive <= len(top.Managers):
		return fmt.Sprintf("%d of %d managers answer, too few to decide anything", alive, len(top.Managers))
	case top.Job != nil && top.Job.Paused:
		return fmt.Sprintf("job %d (%s) has to end first, and is paused", top.Job.ID, top.Job.Kind)
	case top.Job != nil:
		return fmt.Sprintf("job %d (%s) has to end first", top.Job.ID, top.Job.Kind)
	}
	return ""
}

// managersHere is how many managers answer.
func (s *Steward) managersHere(top *topology.Topology) (n int) {
	for _, id := range top.Managers {
		if s.cfg.Nodes.Here(id) {
			n++
		}
	}
	return n
}

// mourned is the only node with a share that is silent, if it is to be replaced some time;
// else 0.
func (s *Steward) mourned(top *topology.Topology) (dead unkai.NodeID) {
	for _, m := range top.Nodes {
		if _, silent := s.silent[m.ID]; !silent || m.State != topology.Attached {
			continue
		}
		if dead != 0 || top.AutoReplace == 0 {
			return 0
		}
		dead = m.ID
	}
	return dead
}
