package topology

import (
	"math"

	"unkai"
)

// Away are the nodes that do not answer.
func Away(loads []Load) (ids []unkai.NodeID) {
	for _, l := range loads {
		if !l.Alive {
			ids = append(ids, l.Node)
		}
	}
	return ids
}

// survives is how many more nodes may fail before some bucket is without its
// quorums, and how many buckets on their way have none now, or wait for one that is new.
func (t *Topology) survives(dead func(unkai.Seat) bool) (failures, waiting int) {
	failures = math.MaxInt
	for b := range t.Sets {
		s := &t.Sets[b]
		spare := t.spare(s, dead)
		if len(s.Joining) > 0 && (spare < 0 || !t.arrives(s.Replicas, s.Joining, dead)) {
			waiting++
		}
		failures = min(failures, spare)
	}
	return failures, waiting
}

// spare is how many more replicas of a set may fail before it is without its
// quorums; less than none: it is now.
func (t *Topology) spare(s *Set, dead func(unkai.Seat) bool) int {
	spare := t.spareOf(s.Replicas, dead)
	if len(s.Joining) > 0 { // which is read, too, as soon as it is switched
		spare = min(spare, t.spareOf(s.Joining, dead))
	}
	return spare
}

func (t *Topology) spareOf(set []unkai.Seat, dead func(unkai.Seat) bool) int {
	read, write := t.needs(len(set))
	return alive(set, dead) - max(read, write)
}

// stopped is how many buckets have their quorums now, and do not in next or would not
// arrive where they are on their way to.
func (t *Topology) stopped(next *Topology, dead func(unkai.Seat) bool) (n int) {
	for b := range t.Sets {
		s := &next.Sets[b]
		if t.spare(&t.Sets[b], dead) >= 0 && (next.spare(s, dead) < 0 || len(s.Joining) > 0 && !next.arrives(s.Replicas, s.Joining, dead)) {
			n++
		}
	}
	return n
}

func alive(seats []unkai.Seat, dead func(unkai.Seat) bool) (n int) {
	for _, s := range seats {
		if !dead(s) {
			n++
		}
	}
	return n
}
