package topology

import (
	"errors"
	"fmt"
	"slices"

	"unkai"
)

// changing is a copy with the next epoch in which buckets may set out.
func (t *Topology) changing() (Topology, error) {
	if t.Moving() > 0 {
		return Topology{}, ErrMoving
	}
	return t.next(), nil
}

// member finds a node that may be changed; only in a topology that next made.
func (t *Topology) member(id unkai.NodeID) (*Node, error) {
	i := slices.IndexFunc(t.Nodes, func(n Node) bool { return n.ID == id })
	if i < 0 {
		return nil, t.unknown(id)
	}
	return &t.Nodes[i], nil
}

// Attach is the topology in which these nodes get their share: the buckets that
// come to them are on their way.
func (t *Topology) Attach(ids ...unkai.NodeID) (Topology, error) {
	next, err := t.changing()
	if err != nil {
		return Topology{}, err
	}
	for _, id := range ids {
		n, err := next.member(id)
		if err != nil {
			return Topology{}, err
		}
		n.State, n.Manual = Attached, false
	}
	next.move()
	next.elect(nil)
	return next, nil
}

// Detach is the topology in which these nodes give their share away. Where they
// are alive they serve until it has arrived; where they are not, the other
// replicas bring it. A node that has nothing left can Depart.
func (t *Topology) Detach(ids ...unkai.NodeID) (Topology, error) {
	next, err := t.changing()
	if err != nil {
		return Topology{}, err
	}
	for _, id := range ids {
		n, err := next.member(id)
		switch {
		case err != nil:
			return Topology{}, err
		case n.State == Leaving:
			return Topology{}, fmt.Errorf("topology: node %v is leaving already", id)
		}
		n.State = Leaving
	}
	if len(next.Attached()) == 0 {
		return Topology{}, errors.New("topology: a cluster needs one attached node at least: nobody would hold the buckets")
	}
	next.move()
	next.elect(nil)
	return next, nil
}

// Replace is the topology in which a node that holds nothing yet takes over all
// that another one holds, and its weight. No other bucket moves.
func (t *Topology) Replace(old, by unkai.NodeID) (Topology, error) {
	next, err := t.changing()
	if err != nil {
		return Topology{}, err
	}
	from, err := next.member(old)
	if err != nil {
		return Topology{}, err
	}
	to, err := next.member(by)
	switch {
	case err != nil:
		return Topology{}, err
	case from.State != Attached:
		return Topology{}, fmt.Errorf("topology: node %v is %v and has no share that another could take over", old, from.State)
	case to.State != Recognised:
		return Topology{}, fmt.Errorf("topology: node %v is %v; only a node that holds nothing yet can take over the share of another: start one with --attach manual", by, to.State)
	}
	from.State, to.State = Leaving, Attached
	to.Weight, to.Manual = from.Weight, false
	next.handOver(from.Seat, to.Seat)
	next.elect(nil)
	return next, nil
}

// handOver sends every bucket of one seat on its way to another in its place.
func (t *Topology) handOver(from, to unkai.Seat) {
	for b := range t.Sets {
		if i := slices.Index(t.Sets[b].Replicas, from); i >= 0 {
			target := slices.Clone(t.Sets[b].Replicas)
			target[i] = to
			t.send(b, target)
		}
	}
}

// Weigh is the topology in which nodes have another weight or are in another
// zone, and their shares are by that.
func (t *Topology) Weigh(c Change) (Topology, error) {
	next, err := t.changing()
	if err != nil {
		return Topology{}, err
	}
	if c.Weight < 0 || c.Weight > MaxWeight || c.Weight == 0 && c.Zone == nil {
		return Topology{}, fmt.Errorf("topology: a weight is from 1 to %d, not %d", MaxWeight, c.Weight)
	}
	for _, id := range c.Nodes {
		n, err := next.member(id)
		if err != nil {
			return Topology{}, err
		}
		if c.Weight > 0 {
			n.Weight = c.Weight
		}
		if c.Zone != nil {
			n.Zone = *c.Zone
		}
	}
	next.move()
	return next, nil
}

// Rebalance is the topology in which every bucket is on its way to where the
// placement wants it.
func (t *Topology) Rebalance() (Topology, error) {
	next, err := t.changing()
	if err == nil {
		next.move()
	}
	return next, err
}

// Depart is the topology without the leaving nodes that no set names any more,
// if there are such nodes.
func (t *Topology) Depart() (Topology, bool) {
	departing := t.Departing()
	if len(departing) == 0 {
		return Topology{}, false
	}
	next := t.next()
	next.Removed = append(next.Removed, departing...)
	if more := len(next.Removed) - maxRemoved; more > 0 {
		next.Removed = next.Removed[more:]
	}
	next.Nodes = slices.DeleteFunc(next.Nodes, func(n Node) bool { return slices.Contains(departing, n.ID) })
	for b := range next.Sets { // nobody has their seats any more
		s := &next.Sets[b]
		s.Strays = next.strays(s, nil)
	}
	return next, true
}

// Departing are the leaving nodes that no set names any more.
func (t *Topology) Departing() (out []unkai.NodeID) {
	if !slices.ContainsFunc(t.Nodes, func(n Node) bool { return n.State == Leaving }) {
		return nil
	}
	named := t.named()
	for _, n := range t.Nodes {
		if n.State == Leaving && !named[n.Seat] {
			out = append(out, n.ID)
		}
	}
	return out
}

// named tells of each seat whether a set needs it.
func (t *Topology) named() []bool {
	named := make([]bool, t.Seats+1)
	for b := range t.Sets {
		s := &t.Sets[b]
		for _, list := range [][]unkai.Seat{s.Replicas, s.Joining, s.Leaving, s.Due} {
			for _, seat := range list {
				named[seat] = true
			}
		}
	}
	return named
}
