package topology

import (
	"cmp"
	"slices"

	"unkai"
)

// Health is what a cluster does and survives while some of its nodes are alive.
//
// A read needs as many of a bucket's present replicas as R and W ask for: R have
// to answer, and what W of them hold is known to be chosen. A write needs W of
// them, and while a bucket is on its way W of its other set too. What was
// written meanwhile may need the other set for reads as well.
type Health struct {
	Writes, Reads Endurance
	// Zones are those that have a name, and nodes that are alive.
	Zones []string
	// Back are the nodes that are away and would help buckets without a quorum to
	// have it again, the ones that help most buckets first.
	Back []Return
	// Lost are the buckets that have no quorum even when all nodes are back: too
	// many of their replicas have lost what they held.
	Lost int
	// Managers that there are and that are alive, and how many more of them may
	// fail before the topology cannot be changed; below 0: it cannot be now.
	Managers, ManagersAlive, ManagersSpare int
	// Needed are the nodes that are alive and without which some bucket that is
	// written or read now could not be, by ascending id. Any other one may be
	// restarted.
	Needed []unkai.NodeID
}

// Endurance is what one kind of operation survives.
type Endurance struct {
	// Without are the buckets that have no quorum for it now.
	Without []unkai.Bucket
	// Nodes is how many nodes may fail, whichever they are, before some bucket has
	// no quorum; -1: some has none now.
	Nodes int
	// Zones is the same for whole zones that have a name.
	Zones int
	// NeededZones are those whose failure alone stops a bucket that works now.
	NeededZones []string
}

// Return is what the return of a node would mean.
type Return struct {
	Node unkai.NodeID
	// Buckets without a quorum of which it is a replica that is missed.
	Buckets int
	// Enough is how many of them would have their quorums again by it alone.
	Enough int
}

// Unavailable is how many buckets cannot be written, or not be read, now.
func (h *Health) Unavailable() int {
	n := len(h.Writes.Without)
	for _, b := range h.Reads.Without {
		if _, too := slices.BinarySearch(h.Writes.Without, b); !too {
			n++
		}
	}
	return n
}

// group is a set of seats of which so many have to be alive.
type group struct {
	seats []unkai.Seat
	need  int
}

// groups are who has to be alive for reads and for writes of a set.
func (t *Topology) groups(s *Set, reads, writes []group) (_, _ []group) {
	r, w := t.needs(len(s.Replicas))
	reads = append(reads, group{s.Replicas, max(r, w)})
	writes = append(writes, group{s.Replicas, w})
	for _, other := range [...][]unkai.Seat{s.Joining, s.Leaving} {
		if len(other) > 0 {
			_, w := t.needs(len(other))
			writes = append(writes, group{other, w})
		}
	}
	return reads, writes
}

// examination is the work of one Health.
type examination struct {
	nodes []Node // by seat; of a seat that is nobody's the zero Node
	alive []bool // by seat
	zones []string
	zone  []int // by seat, into zones; -1: none

	neededNode []bool // by seat
	missed     []Return
	lost       int
	counts     []int // of each zone, for one group
}

// Health tells what the cluster survives when these nodes are alive.
func (t *Topology) Health(alive func(unkai.NodeID) bool) Health {
	x := t.examine(alive)
	h := Health{Zones: x.zones}
	writes, reads := x.endurance(), x.endurance()
	var forReads, forWrites []group
	for b := range t.Sets {
		forReads, forWrites = t.groups(&t.Sets[b], forReads[:0], forWrites[:0])
		bucket := unkai.Bucket(b)
		writable := x.weigh(&writes, bucket, forWrites)
		readable := x.weigh(&reads, bucket, forReads)
		if !writable || !readable {
			x.miss(forReads, forWrites)
		}
	}
	h.Writes, h.Reads = writes.result(x), reads.result(x)
	h.Lost = x.lost
	for _, n := range t.Nodes {
		if x.neededNode[n.Seat] {
			h.Needed = append(h.Needed, n.ID)
		}
		if m := x.missed[n.Seat]; m.Buckets > 0 {
			m.Node = n.ID
			h.Back = append(h.Back, m)
		}
	}
	slices.SortStableFunc(h.Back, func(a, b Return) int {
		return cmp.Or(cmp.Compare(b.Enough, a.Enough), cmp.Compare(b.Buckets, a.Buckets))
	})
	h.Managers = len(t.Managers)
	for _, id := range t.Managers {
		if alive(id) {
			h.ManagersAlive++
		}
	}
	h.ManagersSpare = h.ManagersAlive - (h.Managers/2 + 1)
	return h
}

func (t *Topology) examine(alive func(unkai.NodeID) bool) *examination {
	size := int(t.Seats) + 1
	x := &examination{
		nodes: make([]Node, size), alive: make([]bool, size), zone: make([]int, size),
		neededNode: make([]bool, size), missed: make([]Return, size),
	}
	for i := range x.zone {
		x.zone[i] = -1
	}
	for _, n := range t.Nodes {
		x.nodes[n.Seat], x.alive[n.Seat] = n, alive(n.ID)
		if n.Zone != "" && x.alive[n.Seat] && !slices.Contains(x.zones, n.Zone) {
			x.zones = append(x.zones, n.Zone)
		}
	}
	slices.Sort(x.zones)
	for _, n := range t.Nodes {
		x.zone[n.Seat] = slices.Index(x.zones, n.Zone)
	}
	x.counts = make([]int, len(x.zones))
	return x
}

// enduring is an Endurance that is being found.
type enduring struct {
	Endurance
	needed []bool // zones
}

func (x *examination) endurance() enduring {
	return enduring{Endurance{Nodes: len(x.nodes), Zones: len(x.zones)}, make([]bool, len(x.zones))}
}

func (e *enduring) result(x *examination) Endurance {
	for z, needed := range e.needed {
		if needed {
			e.NeededZones = append(e.NeededZones, x.zones[z])
		}
	}
	return e.Endurance
}

// spare is how many of a group may fail.
func (x *examination) spare(g group) int {
	spare := -g.need
	for _, s := range g.seats {
		if x.alive[s] {
			spare++
		}
	}
	return spare
}

// weigh notes what one bucket survives, and reports whether it has its quorum.
func (x *examination) weigh(e *enduring, b unkai.Bucket, groups []group) bool {
	for _, g := range groups {
		if x.spare(g) < 0 {
			e.Without = append(e.Without, b)
			e.Nodes, e.Zones = -1, -1
			return false
		}
	}
	for _, g := range groups {
		spare := x.spare(g)
		e.Nodes = min(e.Nodes, spare)
		if spare == 0 {
			for _, s := range g.seats {
				x.neededNode[s] = x.neededNode[s] || x.alive[s]
			}
		}
		x.weighZones(e, g, spare)
	}
	return true
}

// weighZones notes how many zones may fail before a group has no quorum: the
// ones with most of its members first.
func (x *examination) weighZones(e *enduring, g group, spare int) {
	if len(x.zones) == 0 {
		return
	}
	clear(x.counts)
	for _, s := range g.seats {
		if z := x.zone[s]; z >= 0 && x.alive[s] {
			x.counts[z]++
		}
	}
	for z, n := range x.counts {
		e.needed[z] = e.needed[z] || n > spare
	}
	slices.SortFunc(x.counts, func(a, b int) int { return b - a })
	for fail, n := range x.counts {
		if spare -= n; spare < 0 {
			e.Zones = min(e.Zones, fail)
			return
		}
	}
}

// miss notes who could bring a bucket back that has no quorum.
func (x *examination) miss(lists ...[]group) {
	var away []unkai.Seat
	lost := false
	most := 0 // that are missing in one group
	for _, groups := range lists {
		for _, g := range groups {
			spare := x.spare(g)
			if spare >= 0 {
				continue
			}
			most = max(most, -spare)
			there := 0
			for _, s := range g.seats {
				if x.nodes[s].ID != 0 && !x.alive[s] {
					there++
					if !slices.Contains(away, s) {
						away = append(away, s)
					}
				}
			}
			lost = lost || there+spare < 0
		}
	}
	if lost {
		x.lost++
	}
	for _, s := range away {
		x.missed[s].Buckets++
		if most == 1 && x.alone(s, lists) {
			x.missed[s].Enough++
		}
	}
}

// alone reports whether every group would have its quorum if that seat was alive.
func (x *examination) alone(s unkai.Seat, lists [][]group) bool {
	for _, groups := range lists {
		for _, g := range groups {
			if spare := x.spare(g); spare < -1 || spare == -1 && !slices.Contains(g.seats, s) {
				return false
			}
		}
	}
	return true
}
