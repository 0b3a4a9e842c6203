package topology

import (
	"testing"

	"unkai"
)

// Where reading needs more than writing, a set that can be written but not read is
// none to go to.
func TestAJoiningSetHasToBeRead(t *testing.T) {
	top := New(1, 16, 3, 3, 2, Node{ID: 1, Weight: 1})
	for id := unkai.NodeID(2); id <= 4; id++ {
		top = sealed(t)(top.Join(Node{ID: id, Weight: 1}))
	}
	top = sealed(t)(top.Attach(2, 3))
	top = sealed(t)(top.arrived(), nil)
	loads := []Load{{Node: 1, Alive: true}, {Node: 2, Alive: true}, {Node: 3, Alive: true}, {Node: 4}}
	c := Change{Kind: KindReplace, Nodes: []unkai.NodeID{1, 4}}
	p, err := top.Plan(c, loads)
	if err != nil || p.Before != 0 || p.During != -1 || p.After != -1 || p.Waiting != 16 || p.Stopped != 16 {
		t.Errorf("before %d, while it runs %d, after %d; %d wait, %d stop; %v", p.Before, p.During, p.After, p.Waiting, p.Stopped, err)
	}
	next := sealed(t)(top.Begin(c, nil, 1))
	without := func(top *Topology) int {
		h := top.Health(func(id unkai.NodeID) bool { return id != 4 })
		return h.Unavailable()
	}
	rest := sealed(t)(next.Proceed(nil, nil, 16, nil, 4), nil)
	if n := without(&rest); n > 0 || setsThat(rest, joins) > 0 || setsThat(rest, due) != 16 {
		t.Errorf("%d buckets do not work, %d set out, %d wait: all are to wait while 4 is gone", n, setsThat(rest, joins), setsThat(rest, due))
	}
	next = sealed(t)(next.Proceed(nil, nil, 16, nil), nil)
	if n := without(&next); n != 0 {
		t.Errorf("%d buckets do not work where two of the others accept", n)
	}
	if !next.Arrived(0, []unkai.Seat{1, 2, 3}) || next.Serves(0, []unkai.Seat{1, 2, 3}) || !next.Serves(0, []unkai.Seat{2, 3, 4}) {
		t.Errorf("%+v", next.Sets[0])
	}
}

// Where the node that is new to a bucket is dead, the bucket stays though a quorum of all
// others would do: a plan tells, so that such a job does not begin unasked.
func TestPlanTellsWhoIsNewAndAway(t *testing.T) {
	top := three(t)
	for id := unkai.NodeID(4); id <= 5; id++ {
		top = sealed(t)(top.Join(Node{ID: id, Weight: 1}))
	}
	for _, change := range []Change{
		{Kind: KindAttach, Nodes: []unkai.NodeID{4}},
		{Kind: KindAttach, Nodes: []unkai.NodeID{4, 5}},
		{Kind: KindReplace, Nodes: []unkai.NodeID{1, 4}},
	} {
		for _, gone := range []unkai.NodeID{4, 1} {
			var loads []Load
			for _, n := range top.Nodes {
				loads = append(loads, Load{Node: n.ID, Alive: n.ID != gone})
			}
			p, err := top.Plan(change, loads)
			if err != nil {
				t.Fatal(err)
			}
			next := sealed(t)(top.Begin(change, nil, 1, gone))
			stay := next.Moving() - len(next.Turn(top.Buckets, gone))
			if p.Stopped != stay || p.Waiting != stay || gone == 4 && stay == 0 {
				t.Errorf("%s %v without node %d: %d stay where they are, and the plan says %d (%d wait)", change.Kind, change.Nodes, gone, stay, p.Stopped, p.Waiting)
			}
		}
	}
}
