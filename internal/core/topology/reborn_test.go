package topology

import (
	"testing"

	"unkai"
)

// three is a cluster of three whose buckets are all held by the seats 1, 2 and 3.
func three(t *testing.T) Topology {
	t.Helper()
	top := New(1, 16, 3, 2, 2, Node{ID: 1, Weight: 1})
	for id := unkai.NodeID(2); id <= 3; id++ {
		top = sealed(t)(top.Join(Node{ID: id, Weight: 1}))
	}
	top = sealed(t)(top.Attach(2, 3))
	for b := range top.Sets {
		top.Sets[b] = Set{Epoch: top.Epoch, Replicas: []unkai.Seat{1, 2, 3}}
	}
	return sealed(t)(top, nil)
}

func sealed(t *testing.T) func(Topology, error) Topology {
	return func(top Topology, err error) Topology {
		t.Helper()
		if err == nil {
			err = top.Seal()
		}
		if err != nil {
			t.Fatal(err)
		}
		return top
	}
}

// All nodes lose their memory, one after the other, and some are attached anew
// before the last comes: nothing waits for a seat that has passed.
func TestAllAreRebornOneByOne(t *testing.T) {
	top := three(t)
	top = sealed(t)(top.Reborn(1))
	top = sealed(t)(top.Reborn(2))
	top = sealed(t)(top.Attach(1, 2))
	top = sealed(t)(top.Reborn(3))
	if top.Moving() != 0 {
		t.Fatalf("%d buckets are on their way: %+v", top.Moving(), top.Sets[0])
	}
	all := make([]unkai.Bucket, top.Buckets)
	for b := range all {
		all[b] = unkai.Bucket(b)
	}
	top = sealed(t)(top.Forgot(map[unkai.Seat][]unkai.Bucket{4: all, 5: all}), nil)
	top = sealed(t)(top.Attach(1, 2, 3))
	for b := range top.Sets {
		if s := top.Sets[b]; len(s.Joining)+len(s.Leaving) > 0 || !sameMembers(s.Replicas, []unkai.Seat{4, 5, 6}) {
			t.Fatalf("bucket %d: %+v", b, s)
		}
	}
}

// A node that is reborn while buckets come to it holds up nobody.
func TestAJoiningNodeIsReborn(t *testing.T) {
	top := New(1, 16, 3, 2, 2, Node{ID: 1, Weight: 1})
	top = sealed(t)(top.Join(Node{ID: 2, Weight: 1}))
	top = sealed(t)(top.Attach(2))
	top = sealed(t)(top.Reborn(2))
	if r := top.Route(0); r.Moving || len(r.Members) != 1 || r.Epoch != top.Epoch {
		t.Errorf("%+v", r)
	}
	top = sealed(t)(top.Attach(2))
	if s := top.Sets[0]; !sameMembers(s.Joining, []unkai.Seat{1, 3}) {
		t.Errorf("%+v", s)
	}
}

// The only one of a leaving set is reborn: it has nothing to say any more.
func TestALeavingSetIsReborn(t *testing.T) {
	top := New(1, 16, 3, 2, 2, Node{ID: 1, Weight: 1})
	top = sealed(t)(top.Join(Node{ID: 2, Weight: 1}))
	top = sealed(t)(top.Attach(2))
	all := make([]unkai.Bucket, top.Buckets)
	for b := range all {
		all[b] = unkai.Bucket(b)
	}
	top = sealed(t)(top.Proceed(all, nil, 1<<16, nil), nil)
	top = sealed(t)(top.Reborn(1))
	if !top.Heard(0, []unkai.Seat{2}) {
		t.Errorf("%+v waits for a seat that has passed", top.Sets[0])
	}
	top = sealed(t)(top.Proceed(nil, all, 1<<16, nil), nil)
	if s := top.Sets[0]; len(s.Leaving) > 0 {
		t.Errorf("%+v", s)
	}
}

// What all replicas have lost the leaving set still has.
func TestTheLeavingSetStillHasIt(t *testing.T) {
	top := New(1, 16, 1, 1, 1, Node{ID: 1, Weight: 1})
	top = sealed(t)(top.Join(Node{ID: 2, Weight: 1}))
	top.Sets[0] = Set{Epoch: top.Epoch, Replicas: []unkai.Seat{2}, Leaving: []unkai.Seat{1}}
	top = sealed(t)(top, nil)
	top = sealed(t)(top.Reborn(2))
	if s := top.Sets[0]; !sameMembers(s.Replicas, []unkai.Seat{1}) || len(s.Leaving) > 0 || s.Epoch != top.Epoch {
		t.Errorf("%+v", s)
	}
}

// Two of the new replicas are reborn before the old ones have left: those hold all
// that was accepted, and the third must forget what it was brought.
func TestTheLeavingSetKeepsTheQuorum(t *testing.T) {
	top := three(t)
	for id := unkai.NodeID(4); id <= 6; id++ {
		top = sealed(t)(top.Join(Node{ID: id, Weight: 1}))
	}
	top.Sets[0] = Set{Epoch: top.Epoch, Replicas: []unkai.Seat{4, 5, 6}, Leaving: []unkai.Seat{1, 2, 3}}
	top = sealed(t)(top.Reborn(4))
	if s := top.Sets[0]; !sameMembers(s.Replicas, []unkai.Seat{4, 5, 6}) {
		t.Fatalf("one is reborn, and the others are a quorum: %+v", s)
	}
	top = sealed(t)(top.Reborn(5))
	if s := top.Sets[0]; !sameMembers(s.Replicas, []unkai.Seat{1, 2, 3}) || len(s.Leaving) > 0 || !sameMembers(s.Strays, []unkai.Seat{6}) || s.Epoch != top.Epoch {
		t.Errorf("%+v", s)
	}
}

// Neither set has its quorum any more: neither is released.
func TestNothingIsReleasedWithoutAQuorum(t *testing.T) {
	top := three(t)
	for id := unkai.NodeID(4); id <= 6; id++ {
		top = sealed(t)(top.Join(Node{ID: id, Weight: 1}))
	}
	top.Sets[0] = Set{Epoch: top.Epoch, Replicas: []unkai.Seat{4, 5, 6}, Leaving: []unkai.Seat{1, 2, 3}}
	for _, id := range []unkai.NodeID{1, 2, 4, 5} {
		top = sealed(t)(top.Reborn(id))
	}
	if s := top.Sets[0]; len(s.Leaving) == 0 || top.Heard(0, []unkai.Seat{3, 6}) {
		t.Errorf("%+v is released", s)
	}
}

// Where every replica had to accept, one that is left holds everything, and goes on
// alone until the other is attached again.
func TestOneOfTwoIsReborn(t *testing.T) {
	top := New(1, 16, 3, 2, 2, Node{ID: 1, Weight: 1})
	top = sealed(t)(top.Join(Node{ID: 2, Weight: 1}))
	top = sealed(t)(top.Attach(2))
	top = sealed(t)(top.arrived(), nil)
	top = sealed(t)(top.Reborn(1))
	for b := range top.Sets {
		if s := top.Sets[b]; !sameMembers(s.Replicas, []unkai.Seat{2}) || s.Epoch != top.Epoch || top.Lost() > 0 {
			t.Fatalf("bucket %d: %+v", b, s)
		}
	}
	top = sealed(t)(top.Attach(1))
	if s := top.Sets[0]; !sameMembers(s.Joining, []unkai.Seat{2, 3}) {
		t.Errorf("%+v", s)
	}
}

// Who is left holds everything, if a quorum of them meets whatever W had accepted.
func TestWhoIsLeftHoldsAll(t *testing.T) {
	for _, test := range []struct {
		n, w, left int
		want       bool
	}{{2, 2, 1, true}, {3, 3, 2, true}, {3, 3, 1, true}, {3, 2, 1, false}, {4, 3, 2, false}, {5, 4, 3, true}, {5, 5, 2, true}, {2, 2, 0, false}} {
		top := Topology{N: test.n, R: test.n, W: test.w}
		set := make([]unkai.Seat, test.n)
		for i := range set {
			set[i] = unkai.Seat(i + 1)
		}
		if got := top.whole(set, func(s unkai.Seat) bool { return int(s) > test.left }); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
}

// The last node that had a share loses what it held, and is gone when the job would go on:
// that waits, as there is nobody to send anything to.
func TestNobodyIsLeftToSendTo(t *testing.T) {
	top := New(1, 16, 2, 1, 2, Node{ID: 1, Weight: 1})
	top = sealed(t)(top.Join(Node{ID: 2, Weight: 1}))
	top = run(t, sealed(t)(top.Begin(Change{Kind: KindAttach, Nodes: []unkai.NodeID{2}}, nil, 1)))
	top = sealed(t)(top.Begin(Change{Kind: KindDetach, Nodes: []unkai.NodeID{1}}, nil, 1))
	top = sealed(t)(top.Reborn(2))
	top, _ = top.Advance(nil, 2, 2)
	if top = sealed(t)(top, nil); top.Moving() > 0 || top.Job == nil {
		t.Fatalf("%d buckets move, %+v", top.Moving(), top.Job)
	}
	if _, ok := top.Advance(nil, 2, 2); ok {
		t.Error("the job does not wait")
	}
	back := run(t, top)
	if n, _ := back.Node(2); back.Job != nil || len(back.Nodes) != 1 || n.State != Attached {
		t.Errorf("%+v, %+v", back.Job, back.Nodes)
	}
	alone := New(1, 16, 1, 1, 1, Node{ID: 1, Weight: 1})
	alone = sealed(t)(alone.Reborn(1))
	if alone = sealed(t)(alone.Begin(Change{Kind: KindRebalance}, nil, 1)); alone.Moving() > 0 {
		t.Errorf("%d buckets move", alone.Moving())
	}
}
