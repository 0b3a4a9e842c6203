package steward

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"unkai"
	"unkai/internal/core/topology"
)

// replaceDead has others hold what a node held that has been silent for as long as the
// cluster waits: one that has just joined, or all that are there.
func (s *Steward) replaceDead(ctx context.Context, top *topology.Topology) {
	if c, loads, ok := s.replacement(ctx, top); ok {
		s.cfg.Log.Warn("a dead node is replaced by itself", "change", string(c.Kind), "nodes", ids(c.Nodes), "silent_for", time.Since(s.silent[c.Nodes[0]]).Round(time.Second))
		s.begin(ctx, top, c, loads)
	}
}

// dead are the nodes with a share that have been silent for longer than the cluster
// waits, if it does.
func (s *Steward) dead(top *topology.Topology) []unkai.NodeID {
	if top.AutoReplace == 0 {
		return nil
	}
	return slices.DeleteFunc(s.silentFor(top, Patience(top)), func(id unkai.NodeID) bool {
		m, _ := top.Node(id)
		return m.State != topology.Attached
	})
}

// Patience is how long a node may be silent before it counts as dead.
func Patience(top *topology.Topology) time.Duration {
	return time.Duration(top.AutoReplace) * time.Millisecond
}

// replacement is the change that replaces a dead node, if there is one and it is certainly
// a help: when one node is dead, and no more, nobody reaches it, and there is room.
func (s *Steward) replacement(ctx context.Context, top *topology.Topology) (topology.Change, []topology.Load, bool) {
	dead := s.dead(top)
	if len(dead) == 0 {
		s.refused = ""
		s.choose(ctx, top)
		return topology.Change{}, nil, false
	}
	if !s.replace.due() {
		return topology.Change{}, nil, false
	}
	defer s.replace.took(time.Now())
	said := s.cfg.Nodes.Loads(ctx, top)
	loads := plain(said)
	err := s.certain(top, dead, said)
	if err == nil {
		var c topology.Change
		if c, err = s.successor(top, dead[0], loads); err == nil {
			s.refused = ""
			return c, loads, true
		}
	}
	if s.refused != err.Error() {
		s.refused = err.Error()
		s.cfg.Log.Warn("a dead node is not replaced by itself", "node", dead[0].String(), "err", err)
	}
	return topology.Change{}, nil, false
}

// certain says why these nodes, which this one does not reach, may not be dead, or not be
// the only ones.
func (s *Steward) certain(top *topology.Topology, dead []unkai.NodeID, said []Load) error {
	for i, l := range said {
		switch m := top.Nodes[i]; {
		case l.Alive || slices.Contains(dead, m.ID):
		case m.State == topology.Recognised && s.givenUp(top, m.ID) != nil:
			// It was there when the other one was found dead, or died alone.
		case m.State == topology.Recognised:
			return fmt.Errorf("node %v is silent too, though it holds nothing: bring it back, or unkai detach it", m.ID)
		default:
			return fmt.Errorf("node %v is silent too; when several are, an operator has to decide", m.ID)
		}
	}
	if len(dead) > 1 {
		return fmt.Errorf("%d nodes are dead; when several are, an operator has to decide", len(dead))
	}
	for i, l := range said {
		switch id := top.Nodes[i].ID; {
		case !l.Alive, id == s.cfg.Self:
		case id == dead[0]:
			return errors.New("it has just answered")
		case !slices.Contains(l.Away, dead[0]):
			return fmt.Errorf("node %v reaches it", id)
		}
	}
	return nil
}

// successor is the change by which others hold what a dead node held: one node in its
// place, so that nothing else moves, or all that are left.
func (s *Steward) successor(top *topology.Topology, dead unkai.NodeID, loads []topology.Load) (topology.Change, error) {
	c, why := s.heir(top, dead, loads)
	if c.Kind != "" {
		return c, nil
	}
	c = topology.Change{Kind: topology.KindDetach, Nodes: []unkai.NodeID{dead}}
	if left := len(top.Attached()) - 1; left < top.N {
		why = append(why, fmt.Sprintf("without it %d nodes are left, too few for %d replicas of each key", left, top.N))
	} else if c, err := mayReplace(top, c, loads); err != nil {
		why = append(why, err.Error())
	} else {
		return c, nil
	}
	for _, m := range top.Nodes {
		if m.State == topology.Recognised && m.Manual && s.cfg.Nodes.Here(m.ID) {
			why = append(why, fmt.Sprintf("node %v waits, but nothing is done with it by itself (--attach manual): unkai replace %v %v", m.ID, dead, m.ID))
		}
	}
	return topology.Change{}, errors.New(strings.Join(why, "; "))
}

// chosen is who was found to take the place of a dead node.
type chosen struct {
	dead, by unkai.NodeID // by 0: nobody
	spares   []unkai.NodeID
	at       time.Time
}

// heir is the change by which one node takes the place of a dead one: the first of the
// spares that can. None: why not. It is what is done, and what is foretold.
func (s *Steward) heir(top *topology.Topology, dead unkai.NodeID, loads []topology.Load) (topology.Change, []string) {
	var why []string
	s.chosen = chosen{dead: dead, spares: s.spares(top, dead), at: time.Now()}
	for _, by := range s.chosen.spares {
		c := topology.Change{Kind: topology.KindReplace, Nodes: []unkai.NodeID{dead, by}}
		c, err := mayReplace(top, c, loads)
		if err == nil {
			s.chosen.by = by
			return c, nil
		}
		why = append(why, fmt.Sprintf("node %v cannot take its place: %v", by, err))
	}
	return topology.Change{}, why
}

// chooseEvery is how often it is looked who would take the place of a node that is not yet
// dead for long enough, when there are no others to choose from than before.
const chooseEvery = 10 * time.Second

// choose looks who would take the place of a node that is silent, if nobody else is, so that
// it can be foretold.
func (s *Steward) choose(ctx context.Context, top *topology.Topology) {
	dead := s.mourned(top)
	if dead == 0 || len(s.spares(top, dead)) == 0 {
		s.chosen = chosen{}
		return
	}
	if dead == s.chosen.dead && slices.Equal(s.chosen.spares, s.spares(top, dead)) && time.Since(s.chosen.at) < chooseEvery {
		return
	}
	s.heir(top, dead, plain(s.cfg.Nodes.Loads(ctx, top)))
}

// spares are the nodes that would be attached by themselves, were nobody dead: those in
// the zone of the dead one first.
func (s *Steward) spares(top *topology.Topology, dead unkai.NodeID) (out []unkai.NodeID) {
	old, _ := top.Node(dead)
	far := map[unkai.NodeID]int{} // for looking up only
	for _, m := range top.Nodes {
		if since, ok := s.joined[m.ID]; ok && time.Since(since) >= attachAfter {
			out = append(out, m.ID)
			if m.Zone != old.Zone {
				far[m.ID] = 1
			}
		}
	}
	slices.SortStableFunc(out, func(a, b unkai.NodeID) int { return cmp.Compare(far[a], far[b]) })
	return out
}

// mayReplace is the change as it may replace a dead node by itself, or why it must not.
func mayReplace(top *topology.Topology, c topology.Change, loads []topology.Load) (topology.Change, error) {
	c, plan, err := sparing(top, c, loads)
	switch {
	case err != nil:
		return c, err
	case plan.Before < 0 || plan.During < 0:
		return c, fmt.Errorf("%d buckets have lost too many replicas to be brought elsewhere", plan.Waiting)
	case plan.After < 0 || plan.Stopped > 0:
		return c, errors.New("some buckets would be without a quorum afterwards")
	case len(plan.Roomless) > 0:
		return c, fmt.Errorf("node %v has no room for what it would get", plan.Roomless[0])
	}
	return c, nil
}

func ids(list []unkai.NodeID) []string {
	out := make([]string, len(list))
	for i, id := range list {
		out[i] = id.String()
	}
	return out
}
