package node

import (
	"cmp"
	"fmt"
	"sync"
	"time"

	"unkai"
	"unkai/internal/admin"
	"unkai/internal/core/topology"
)

// foretoldFor is for how long a node goes by what the steward has told it last, which may
// be trying to have something decided meanwhile.
const foretoldFor = changeLimit + 5*greetEvery

// prospects is what the steward, wherever it is, will do by itself: it tells all others
// with its greetings, so that any node can be asked. The zero value has heard nothing.
type prospects struct {
	mu   sync.Mutex
	from unkai.NodeID
	at   time.Time
	list []admin.Prospect
}

// told notes what the steward says that it will do.
func (p *prospects) told(from unkai.NodeID, list []admin.Prospect) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.from, p.at, p.list = from, time.Now(), list
}

// of is what a steward has told of late, with what is left of the time until then.
func (p *prospects) of(steward unkai.NodeID) []admin.Prospect {
	p.mu.Lock()
	defer p.mu.Unlock()
	passed := time.Since(p.at)
	if p.from != steward || passed > foretoldFor {
		return nil
	}
	out := make([]admin.Prospect, len(p.list))
	for i, x := range p.list {
		x.Seconds = max(0, x.Seconds-passed.Seconds())
		out[i] = x
	}
	return out
}

// leader is the node whose steward works, as far as this one knows; 0: no manager is alive.
func (n *Node) leader(top *topology.Topology) unkai.NodeID {
	for _, id := range top.Managers {
		if n.here(id) {
			return id
		}
	}
	return 0
}

// foretell notes what another node says that it will do, if it is the steward.
func (n *Node) foretell(from unkai.NodeID, list []admin.Prospect) {
	if top := n.topology(); top != nil && n.leader(top) == from {
		n.prospects.told(from, list)
	}
}

// foretold is what the steward will do by itself.
func (n *Node) foretold(top *topology.Topology) []admin.Prospect {
	return n.prospects.of(n.leader(top))
}

// foresee is what this steward will do by itself, and why it does not now. It goes by what
// the last step has found.
func (s *steward) foresee(top *topology.Topology) (out []admin.Prospect) {
	hindered := s.hindered(top)
	dead := s.mourned(top)
	var heir unkai.NodeID
	if dead != 0 {
		if all := s.spares(top, dead); len(all) > 0 {
			heir = all[0]
		}
	}
	var latest time.Time // that joined
	for _, since := range s.joined {
		if since.After(latest) {
			latest = since
		}
	}
	for _, m := range top.Nodes {
		p := admin.Prospect{Node: m.ID.String()}
		since, silent := s.silent[m.ID]
		switch {
		case m.State == topology.Attached && silent && top.AutoReplace > 0:
			p.Do = "replace"
			p.Seconds = (patience(top) - time.Since(since)).Seconds()
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
		default:
			continue
		}
		out = append(out, p)
	}
	return out
}

// hindered is why the steward begins nothing by itself now, whatever it is; "": it does.
func (s *steward) hindered(top *topology.Topology) string {
	alive := 0
	for _, id := range top.Managers {
		if s.n.here(id) {
			alive++
		}
	}
	switch {
	case 2*alive <= len(top.Managers):
		return fmt.Sprintf("%d of %d managers answer, too few to decide anything", alive, len(top.Managers))
	case top.Job != nil && top.Job.Paused:
		return fmt.Sprintf("job %d (%s) has to end first, and is paused", top.Job.ID, top.Job.Kind)
	case top.Job != nil:
		return fmt.Sprintf("job %d (%s) has to end first", top.Job.ID, top.Job.Kind)
	}
	return ""
}

// mourned is the only node with a share that is silent, if it is to be replaced some time;
// else 0.
func (s *steward) mourned(top *topology.Topology) (dead unkai.NodeID) {
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
