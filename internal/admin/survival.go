package admin

import (
	"fmt"
	"slices"
	"strings"

	"unkai"
	"unkai/internal/core/topology"
)

// Survival is what the cluster does and survives at this moment, as far as the
// node that tells it sees the others.
type Survival struct {
	Writes Endurance `json:"writes"`
	Reads  Endurance `json:"reads"`
	// Zones that have a name, and nodes that answer.
	Zones []string `json:"zones,omitempty"`
	// Away are the nodes that do not answer.
	Away  []string `json:"away"`
	Nodes int      `json:"nodes"` // with those
	// Full are the nodes whose stores refuse growth, and Growth what writes that make
	// data grow survive, for which they count as away; both only when there are such.
	Full   []string   `json:"full,omitempty"`
	Growth *Endurance `json:"growth,omitempty"`
	// Back are those of them that would help buckets without a quorum, and Lost is
	// how many of these buckets have none even when all nodes are back.
	Back []Return `json:"back,omitempty"`
	Lost int      `json:"lost"`
	// Holes are buckets with a replica that was lost; null: there are none.
	Holes *Holes `json:"holes,omitempty"`
	// Needed are the nodes without which some bucket cannot be written or read.
	// Any other may be restarted.
	Needed []string `json:"needed"`
	// Restart says whether any node, one after the other, may be restarted now.
	Restart  bool     `json:"restart_safe"`
	Managers Managers `json:"managers"`
	Buckets  int      `json:"buckets"`
	// Unavailable is how many cannot be written, or not be read, now.
	Unavailable int `json:"unavailable"`
	Moving      int `json:"moving"` // on their way to other replicas
}

// Endurance is what one kind of operation survives.
type Endurance struct {
	// Nodes is how many nodes may fail, whichever they are, before some bucket has
	// no quorum; -1: some has none now. Zones is the same for whole zones.
	Nodes int  `json:"nodes"`
	Zones *int `json:"zones,omitempty"`
	// NeededZones are those whose failure alone stops some bucket.
	NeededZones []string `json:"needed_zones,omitempty"`
	// Without is how many buckets have no quorum now; Buckets the first of them.
	Without int   `json:"without_quorum"`
	Buckets []int `json:"buckets,omitempty"`
}

// Return is what the return of a node would mean for buckets without a quorum.
type Return struct {
	Node    string `json:"node"`
	Buckets int    `json:"buckets"` // that miss it
	Enough  int    `json:"enough"`  // that need nobody else
}

// Managers are who decides the topology.
type Managers struct {
	Nodes []string `json:"nodes"`
	Alive int      `json:"alive"`
	// Spare is how many of them may fail before the topology cannot be changed;
	// below 0: it cannot be now.
	Spare int `json:"spare"`
}

// maxNamed is how many buckets without a quorum are named.
const maxNamed = 16

// NewSurvival gives what a topology survives its public names.
func NewSurvival(top *topology.Topology, alive, full func(unkai.NodeID) bool) *Survival {
	h := top.Health(alive)
	s := &Survival{
		Writes: endurance(&h, &h.Writes), Reads: endurance(&h, &h.Reads), Zones: h.Zones, Lost: h.Lost,
		Unavailable: h.Unavailable(), Nodes: len(top.Nodes), Away: []string{}, Needed: names(h.Needed), Buckets: top.Buckets, Moving: top.Moving(),
		Managers: Managers{Nodes: names(top.Managers), Alive: h.ManagersAlive, Spare: h.ManagersSpare},
	}
	for _, n := range top.Nodes {
		if !alive(n.ID) {
			s.Away = append(s.Away, n.ID.String())
		} else if full(n.ID) {
			s.Full = append(s.Full, n.ID.String())
		}
	}
	if len(s.Full) > 0 {
		g := top.Health(func(id unkai.NodeID) bool { return alive(id) && !full(id) })
		growth := endurance(&g, &g.Writes)
		s.Growth = &growth
		if growth.Without == 0 {
			s.Needed = names(g.Needed)
		}
	}
	s.Holes = newHoles(top, alive)
	for _, r := range h.Back {
		s.Back = append(s.Back, Return{Node: r.Node.String(), Buckets: r.Buckets, Enough: r.Enough})
	}
	s.Restart = len(s.Needed) == 0 && s.Unavailable == 0
	return s
}

func endurance(h *topology.Health, e *topology.Endurance) Endurance {
	out := Endurance{Nodes: e.Nodes, NeededZones: e.NeededZones, Without: len(e.Without)}
	if len(h.Zones) > 0 {
		out.Zones = &e.Zones
	}
	for _, b := range e.Without[:min(len(e.Without), maxNamed)] {
		out.Buckets = append(out.Buckets, int(b))
	}
	return out
}

func names(ids []unkai.NodeID) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = id.String()
	}
	return out
}

// Worst is how many nodes may fail before some bucket cannot be written, or not be
// read; -1: one cannot be now.
func (s *Survival) Worst() int { return min(s.Writes.Nodes, s.Reads.Nodes) }

// Say is what the cluster survives, in plain words: a word, and what is to be
// said of it.
func (s *Survival) Say() (lines [][2]string) {
	say := func(when bool, word, format string, args ...any) {
		if when {
			lines = append(lines, [2]string{word, fmt.Sprintf(format, args...)})
		}
	}
	for _, e := range []struct {
		*Endurance
		what string
	}{{&s.Writes, "written"}, {&s.Reads, "read"}} {
		say(e.Without > 0, "NO QUORUM", "%d of %d buckets cannot be %s now: too few of their replicas answer (%s)", e.Without, s.Buckets, e.what, listed(e.Buckets, e.Without))
	}
	for _, r := range s.Back {
		switch {
		case r.Enough == r.Buckets:
			say(true, "bring back", "node %s: that alone mends %d buckets", r.Node, r.Buckets)
		case r.Enough > 0:
			say(true, "bring back", "node %s: that alone mends %d buckets, and %d others need it too", r.Node, r.Enough, r.Buckets-r.Enough)
		default:
			say(true, "bring back", "node %s: %d buckets need it, and others too", r.Node, r.Buckets)
		}
	}
	say(len(s.Back) > 0, "what next", "bring them back with what they hold; if that can never be: unkai plan detach NODE… --give-up-lost shows what it means to go on without them")
	say(s.Lost > 0, "LOST", "%d buckets have no quorum even when all nodes are back: too many of their replicas have lost what they held", s.Lost)
	say(s.Lost > 0, "what next", "%s", s.lostNext())
	if h := s.Holes; h != nil && h.Buckets > s.Lost {
		say(true, "REPLICAS LOST", "%d buckets have fewer replicas than they should: one has lost what it held", h.Buckets)
		say(true, "what next", "%s", h.Remedy)
	}
	say(len(s.Away) > 0, "away", "%s", strings.Join(s.Away, ", "))
	say(true, "survives", "%s", s.failures())
	if g := s.Growth; g != nil {
		word := strings.Join(s.Full, ", ")
		say(g.Without > 0, "FULL", "%s: %d of %d buckets take no new data until there is room", word, g.Without, s.Buckets)
		say(g.Without == 0, "FULL", "%s: new data survives %s", word, loss(g.Nodes, "other node"))
	}
	if s.Writes.Zones != nil && s.Unavailable == 0 {
		say(true, "zones", "%s", s.zones())
	}
	say(true, "restart", "%s", s.restart())
	say(true, "managers", "%s", s.Managers.say())
	say(s.Moving > 0, "moving", "%d of %d buckets are on their way to other replicas", s.Moving, s.Buckets)
	return lines
}

func (s *Survival) failures() string {
	writes, reads := s.Writes.Nodes, s.Reads.Nodes
	switch {
	case writes < 0 && reads < 0:
		return "nothing more: some buckets are neither written nor read now"
	case writes < 0:
		return "reads survive " + loss(reads, "node") + "; some buckets cannot be written now"
	case reads < 0:
		return "writes survive " + loss(writes, "node") + "; some buckets cannot be read now"
	case writes == 0 && reads == 0:
		return "no node may fail: without one more, some buckets could not be read and written"
	case writes == reads:
		return loss(writes, "node") + ": all buckets would still be read and written"
	}
	return "writes survive " + loss(writes, "node") + ", reads " + loss(reads, "node")
}

// loss says how many of a thing may fail.
func loss(n int, thing string) string {
	switch n {
	case 0:
		return "the failure of no " + thing
	case 1:
		return "the failure of any one " + thing
	}
	return fmt.Sprintf("the failure of any %d %ss", n, thing)
}

func (s *Survival) zones() string {
	writes, reads := *s.Writes.Zones, *s.Reads.Zones
	needed := slices.Concat(s.Writes.NeededZones, s.Reads.NeededZones)
	slices.Sort(needed)
	needed = slices.Compact(needed)
	switch {
	case len(needed) == len(s.Zones):
		return fmt.Sprintf("none of the %d may fail", len(s.Zones))
	case len(needed) > 0:
		others := slices.DeleteFunc(slices.Clone(s.Zones), func(z string) bool { return slices.Contains(needed, z) })
		return fmt.Sprintf("%s may not fail; of %s any one may", strings.Join(needed, ", "), strings.Join(others, ", "))
	case writes == reads:
		return fmt.Sprintf("any %d of %d may fail at once", writes, len(s.Zones))
	}
	return fmt.Sprintf("of %d, any %d may fail at once for writes, any %d for reads", len(s.Zones), writes, reads)
}

func (s *Survival) restart() string {
	switch {
	case len(s.Back) > 0:
		return "not safe: bring back first what is away"
	case s.Unavailable > 0:
		return "not safe: some buckets are LOST, and no node that comes back mends them"
	case s.Restart:
		return "safe, one node at a time"
	case len(s.Needed)+len(s.Away) >= s.Nodes:
		return "not safe: each node that answers is needed for some bucket"
	case len(s.Needed) > 4:
		return fmt.Sprintf("not safe: %d nodes are each needed for some bucket", len(s.Needed))
	}
	return "not safe for " + strings.Join(s.Needed, ", ") + ", needed for some bucket; for others it is"
}

func (m *Managers) say() string {
	of := fmt.Sprintf("%d of %d answer", m.Alive, len(m.Nodes))
	switch {
	case m.Spare < 0:
		return of + ": the topology cannot be changed; reads and writes do not need that"
	case m.Spare == 0:
		return of + ": without one more the topology could not be changed"
	}
	return fmt.Sprintf("%s; %d may fail", of, m.Spare)
}

// listed names the first of some buckets.
func listed(buckets []int, all int) string {
	text := strings.Trim(fmt.Sprint(buckets), "[]")
	if all > len(buckets) {
		text += " …"
	}
	return text
}
