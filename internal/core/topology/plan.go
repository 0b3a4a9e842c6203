package topology

import (
	"fmt"
	"math"
	"slices"

	"unkai"
)

// Load is what a node says of itself; of one that does not answer only that.
type Load struct {
	Node  unkai.NodeID
	Alive bool
	Bytes int64 // keys and values
	// Used is what they take, and Limit what they may take; 0: nobody knows. Full says
	// that nothing more may come, whatever the limit is.
	Used, Limit int64
	Full        bool
}

// Plan is what a change would do.
type Plan struct {
	Change
	Epoch  unkai.Epoch `json:"-"` // of the topology it was made for
	Amount Amount      // that moves
	Flows  []Flow
	Nodes  []Share // by ascending id
	// Before, During and After are how many more nodes may fail, whichever they
	// are, before some bucket cannot be read and written.
	Before, During, After int
	Zones                 *ZoneSpan // nil: there are no zones
	// Waiting are the buckets of which too few replicas are alive, or not all that are
	// new to them: they do not move until these are back. Stopped are those of them that can be read and
	// written now, and could not be on their way: as long as the nodes are seen to be
	// gone they stay where they are (Turn).
	Waiting, Stopped int
	// GivenUp are the buckets that may lose acknowledged writes, because the change
	// gives up replicas without which there is no quorum.
	GivenUp int
	// Milliseconds that it takes, about, and by what that is known; 0: it is not.
	Milliseconds int64
	Pace         Pace
	// Roomless are nodes that have too little room for what they would get.
	Roomless []unkai.NodeID

	next Topology
}

// Share is what a plan means for a node.
type Share struct {
	Node          unkai.NodeID
	State         State // afterwards
	Weight        int   // afterwards
	Zone          string
	Before, After int // replicas
	Fresh         int // those that it does not hold yet
	// Ideal is how many replicas a node of its weight should hold afterwards, and
	// IdealBefore before.
	Ideal, IdealBefore float64
	// Bytes of keys and values before and after it, and the most that it holds meanwhile:
	// what leaves is dropped last.
	BytesBefore, BytesPeak, BytesAfter int64
	// Used is what its store takes for them, by what it takes now; 0: nobody knows.
	UsedBefore, UsedPeak, UsedAfter int64
}

// Sizes estimates what each bucket holds: a node's bytes are spread over its
// buckets evenly, and what its replicas say of a bucket is averaged.
func (t *Topology) Sizes(loads []Load) func(unkai.Bucket) int64 {
	each := make([]float64, t.Seats+1) // bytes of one bucket, by seat
	for b := range t.Sets {
		for _, seat := range t.Sets[b].Replicas {
			each[seat]++
		}
	}
	for seat := range each {
		n, ok := t.Seated(unkai.Seat(seat))
		i := slices.IndexFunc(loads, func(l Load) bool { return l.Node == n.ID && l.Alive })
		if !ok || i < 0 || each[seat] == 0 {
			each[seat] = -1
			continue
		}
		each[seat] = float64(loads[i].Bytes) / each[seat]
	}
	return func(b unkai.Bucket) int64 {
		sum, n := 0.0, 0
		for _, seat := range t.Sets[b].Replicas {
			if each[seat] >= 0 {
				sum += each[seat]
				n++
			}
		}
		return int64(math.Round(sum / float64(max(n, 1))))
	}
}

// Plan tells what a change would do. It is made of the very topology that the
// change begins with, so that nothing else can happen.
func (t *Topology) Plan(c Change, loads []Load) (Plan, error) {
	next, err := t.Apply(c, Away(loads)...)
	if err != nil {
		return Plan{}, err
	}
	if next.held > 0 && !c.GiveUp { // which is the only way for some to come to forget
		return Plan{}, fmt.Errorf("topology: %d buckets cannot set out yet: %w", next.held, ErrForgetting)
	}
	size := t.Sizes(loads)
	p := Plan{Change: c, Epoch: t.Epoch, next: next}
	dead := func(seat unkai.Seat) bool {
		n, ok := t.Seated(seat)
		return !ok || slices.ContainsFunc(loads, func(l Load) bool { return l.Node == n.ID && !l.Alive })
	}
	after := next.arrived()
	p.Before, _ = t.survives(dead)
	p.During, p.Waiting = next.survives(dead)
	p.After, _ = after.survives(dead)
	p.Zones = zoneSpan(t, &next, &after, loads)
	p.GivenUp = next.given
	p.Stopped = t.stopped(&next, dead)
	p.Flows, p.Amount = next.flows(size, dead)
	p.Milliseconds, p.Pace = next.lasts(p.Flows)
	p.shares(t, &after, loads, size)
	return p, nil
}

// Quorum is the effective N, R and W afterwards.
func (p *Plan) Quorum() (n, r, w int) { return p.next.Quorum() }

// arrived is the topology when everything has come to where it is on its way, or due.
func (t *Topology) arrived() Topology {
	next := t.next()
	for b := range next.Sets {
		if s := &next.Sets[b]; len(s.Joining)+len(s.Due) > 0 {
			*s = Set{Epoch: next.Epoch, Replicas: slices.Concat(s.Joining, s.Due), Strays: s.Strays}
		}
	}
	return next
}

func (p *Plan) shares(before, after *Topology, loads []Load, size func(unkai.Bucket) int64) {
	p.Nodes = make([]Share, len(after.Nodes))
	at := map[unkai.Seat]*Share{} // for looking up only
	for i, n := range after.Nodes {
		p.Nodes[i] = Share{Node: n.ID, State: n.State, Weight: n.Weight, Zone: n.Zone, Ideal: after.ideal(n)}
		if was, ok := before.Node(n.ID); ok {
			p.Nodes[i].IdealBefore = before.ideal(was)
		}
		at[n.Seat] = &p.Nodes[i]
	}
	for b := range after.Sets {
		old, now := before.Sets[b].Replicas, after.Sets[b].Replicas
		bytes := size(unkai.Bucket(b))
		for _, seat := range old {
			if s := at[seat]; s != nil {
				s.Before++
				s.BytesBefore, s.BytesPeak = s.BytesBefore+bytes, s.BytesPeak+bytes
			}
		}
		for _, seat := range now {
			if s := at[seat]; s != nil {
				s.After++
				s.BytesAfter += bytes
			}
		}
		for _, seat := range without(now, old) {
			if s := at[seat]; s != nil {
				s.Fresh++
				s.BytesPeak += bytes
			}
		}
	}
	p.store(loads)
}

// store says what the stores take for what the nodes hold, and which have too little room.
func (p *Plan) store(loads []Load) {
	for i := range p.Nodes {
		s := &p.Nodes[i]
		k := slices.IndexFunc(loads, func(l Load) bool { return l.Node == s.Node && l.Alive })
		if k < 0 {
			continue
		}
		l, each := loads[k], dearness(loads, k)
		if l.Used > 0 || l.Bytes == 0 {
			s.UsedBefore = l.Used
			s.UsedPeak = l.Used + int64(each*float64(s.BytesPeak-s.BytesBefore))
			s.UsedAfter = max(0, l.Used+int64(each*float64(s.BytesAfter-s.BytesBefore)))
		}
		gains := max(1, each) * float64(s.BytesPeak-s.BytesBefore) // or what is compressed might not be so well there
		if l.Full && s.Fresh > 0 || l.Limit > 0 && gains > 0 && float64(l.Used)+gains > float64(l.Limit) {
			p.Roomless = append(p.Roomless, s.Node)
		}
	}
}

// dearness is how many bytes a node's store takes for a byte of keys and values, or all
// stores if it holds too little to tell.
func dearness(loads []Load, of int) float64 {
	if l := loads[of]; l.Bytes >= telling && l.Used > 0 {
		return float64(l.Used) / float64(l.Bytes)
	}
	used, bytes := int64(0), int64(0)
	for _, l := range loads {
		if l.Bytes >= telling && l.Used > 0 {
			used, bytes = used+l.Used, bytes+l.Bytes
		}
	}
	if bytes == 0 {
		return 1
	}
	return float64(used) / float64(bytes)
}

// ideal is how many replicas a node should hold, by its weight. Nobody can hold
// more than one of each bucket, and what is more goes to the others.
func (t *Topology) ideal(n Node) float64 {
	nodes := t.Attached()
	left := float64(t.Buckets * min(t.N, len(nodes)))
	if n.State != Attached {
		return 0
	}
	full := make([]bool, len(nodes))
	for {
		weight, more := 0, false
		for i, m := range nodes {
			if !full[i] {
				weight += m.Weight
			}
		}
		for i, m := range nodes {
			if !full[i] && left*float64(m.Weight) > float64(t.Buckets*weight) {
				full[i], more = true, true
				if m.ID == n.ID {
					return float64(t.Buckets)
				}
			}
		}
		if !more {
			return left * float64(n.Weight) / float64(weight)
		}
		left = float64(t.Buckets * min(t.N, len(nodes)))
		for _, f := range full {
			if f {
				left -= float64(t.Buckets)
			}
		}
	}
}
