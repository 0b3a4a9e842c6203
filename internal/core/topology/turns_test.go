package topology

import (
	"slices"
	"testing"

	"unkai"
)

// setsThat is in how many sets something is true.
func setsThat(top Topology, f func(*Set) bool) (n int) {
	for b := range top.Sets {
		if f(&top.Sets[b]) {
			n++
		}
	}
	return n
}

func joins(s *Set) bool { return len(s.Joining) > 0 }
func due(s *Set) bool   { return len(s.Due) > 0 }

// attaching is a cluster of three to which a fourth is being attached: nothing has set
// out, and all that will has its turn to come.
func attaching(t *testing.T) (top Topology, moving int) {
	t.Helper()
	top = three(t)
	top = sealed(t)(top.Join(Node{ID: 4, Weight: 1}))
	before := top
	top = sealed(t)(top.Begin(Change{Kind: KindAttach, Nodes: []unkai.NodeID{4}}, nil, 1))
	for b := range top.Sets {
		if top.Sets[b].Epoch != before.Sets[b].Epoch || top.Route(unkai.Bucket(b)).Moving {
			t.Fatalf("bucket %d is not at rest: %+v", b, top.Sets[b])
		}
	}
	if moving = setsThat(top, due); moving < 8 || moving != top.Moving() || moving != top.Job.Planned.Buckets {
		t.Fatalf("%d buckets have their turn to come, %d move, %d are planned", moving, top.Moving(), top.Job.Planned.Buckets)
	}
	return top, moving
}

// Not more than so many are on their way to joining sets at once, and each has the epoch
// in which it set out; those who wait are as they were.
func TestBucketsSetOutByTurns(t *testing.T) {
	top, moving := attaching(t)
	all := make([]unkai.Bucket, top.Buckets)
	for b := range all {
		all[b] = unkai.Bucket(b)
	}
	for top.Moving() > 0 {
		next := sealed(t)(top.Proceed(all, all, 3, nil), nil)
		for b := range next.Sets {
			was, is := &top.Sets[b], &next.Sets[b]
			changed := joins(was) != joins(is) || len(was.Leaving) != len(is.Leaving) || due(was) != due(is)
			if changed != (is.Epoch == next.Epoch) || !changed && is.Epoch != was.Epoch {
				t.Fatalf("bucket %d: %+v, and then %+v", b, was, is)
			}
		}
		if n := setsThat(next, joins); n > 3 || n != min(3, moving-next.Job.Moved.Buckets) {
			t.Fatalf("%d are on their way to joining sets, %d of %d have moved", n, next.Job.Moved.Buckets, moving)
		}
		if next.Epoch > 100 {
			t.Fatal("they do not arrive")
		}
		top = next
	}
	if top.Job.Moved.Buckets != moving {
		t.Errorf("%d of %d buckets have moved", top.Job.Moved.Buckets, moving)
	}
}

// A paused job sends nothing on its way, and a cancelled one has nobody forget what did
// not set out.
func TestNoTurnsInAPausedOrCancelledJob(t *testing.T) {
	top, moving := attaching(t)
	top = sealed(t)(top.Proceed(nil, nil, 3, nil), nil)
	paused := sealed(t)(top.Pause(1))
	if next := sealed(t)(paused.Proceed(nil, nil, 100, nil), nil); setsThat(next, joins) != 3 || len(paused.Turn(100)) > 0 {
		t.Errorf("%d buckets set out", setsThat(next, joins))
	}
	resumed := sealed(t)(paused.Resume(2))
	if n := len(resumed.Turn(100)); n != moving-3 || len(resumed.Turn(3)) > 0 || len(resumed.Turn(4)) != 1 {
		t.Errorf("%d of %d may set out", n, moving-3)
	}
	cancelled := sealed(t)(resumed.Cancel())
	n, _ := cancelled.Node(4)
	if got := len(cancelled.Strayed(n.Seat)); got != 3 || cancelled.Moving() > 0 || n.State != Recognised {
		t.Errorf("%d buckets to forget, %d move, the node is %v", got, cancelled.Moving(), n.State)
	}
}

// Whom they wait for has lost what it held: they are sent to its new incarnation.
func TestRebirthBeforeTheTurn(t *testing.T) {
	top, moving := attaching(t)
	top = sealed(t)(top.Proceed(nil, nil, 3, nil), nil)
	top = sealed(t)(top.Reborn(4))
	if setsThat(top, due)+setsThat(top, joins) > 0 || !top.Job.Held {
		t.Fatalf("%d wait for an incarnation that has passed", setsThat(top, due)+setsThat(top, joins))
	}
	top = run(t, top)
	whole(t, top)
	if h := top.History[0]; h.Moved.Buckets != moving || h.Planned != h.Moved {
		t.Errorf("planned %+v, moved %+v of %d", h.Planned, h.Moved, moving)
	}
}

// A set that has lost its quorum for good before its turn does not set out: nobody could
// bring what it held. One that has lost all begins where it was to go.
func TestLossBeforeTheTurn(t *testing.T) {
	top, _ := attaching(t)
	top = sealed(t)(top.Reborn(1))
	top = sealed(t)(top.Reborn(2))
	if next := sealed(t)(top.Proceed(nil, nil, 100, nil), nil); setsThat(next, joins) > 0 || setsThat(next, due) > 0 {
		t.Errorf("%d set out that have no quorum, %d wait", setsThat(next, joins), setsThat(next, due))
	}
	top = sealed(t)(top.Reborn(3))
	for b := range top.Sets {
		if s := &top.Sets[b]; due(s) {
			t.Fatalf("bucket %d: %+v", b, s)
		}
	}
}

// What would not arrive, because too many are away or the one to which it goes, does not
// set out: it can be written where it is. What is on its way already and does not arrive
// takes nobody's room.
func TestNobodySetsOutInVain(t *testing.T) {
	top := three(t)
	for id := unkai.NodeID(4); id <= 5; id++ {
		top = sealed(t)(top.Join(Node{ID: id, Weight: 1}))
	}
	top = sealed(t)(top.Begin(Change{Kind: KindAttach, Nodes: []unkai.NodeID{4, 5}}, nil, 1))
	moving := setsThat(top, due)
	gone := []unkai.NodeID{1, 4}
	doomed := func(s *Set, to []unkai.Seat) bool { // without the seats 1 and 4
		left := func(set []unkai.Seat) int { return len(without(set, []unkai.Seat{1, 4})) }
		return left(s.Replicas) < 2 || left(to) < 2 || slices.Contains(to, 4)
	}
	vain := setsThat(top, func(s *Set) bool { return due(s) && doomed(s, s.Due) })
	if vain == 0 || vain == moving {
		t.Fatalf("%d of %d do not arrive", vain, moving)
	}
	next := sealed(t)(top.Proceed(nil, nil, top.Buckets, nil, gone...), nil)
	if n := setsThat(next, due); n != vain || setsThat(next, func(s *Set) bool { return joins(s) && doomed(s, s.Joining) }) > 0 {
		t.Errorf("%d wait, and %d do not arrive", n, vain)
	}
	if out := top.Turn(top.Buckets, 1, 2); len(out) > 0 {
		t.Errorf("%d set out of which one replica is left", len(out))
	}
	if next = sealed(t)(next.Proceed(nil, nil, top.Buckets, nil), nil); setsThat(next, due) > 0 {
		t.Error("they wait though all are back")
	}
	// They have set out before somebody went away.
	stuck := top
	stuck.Sets = slices.Clone(top.Sets)
	for b := range stuck.Sets {
		if s := &stuck.Sets[b]; due(s) && doomed(s, s.Due) {
			s.Joining, s.Due, s.Epoch = s.Due, nil, stuck.Epoch
		}
	}
	if n := len(stuck.Turn(2, gone...)); n != 2 {
		t.Errorf("%d set out while %d others are stuck", n, vain)
	}
	if n := len(stuck.Turn(vain)); n != 0 {
		t.Errorf("%d set out though there is no room", n)
	}
}

// What is given up changes a set before its turn has come: that has a new epoch, or who
// was given up would still be asked.
func TestWhatIsGivenUpHasANewEpoch(t *testing.T) {
	top := three(t)
	for id := unkai.NodeID(4); id <= 5; id++ {
		top = sealed(t)(top.Join(Node{ID: id, Weight: 1}))
	}
	top = run(t, sealed(t)(top.Begin(Change{Kind: KindAttach, Nodes: []unkai.NodeID{4, 5}}, nil, 1)))
	before, cut := top, 0
	top = sealed(t)(top.Begin(Change{Kind: KindDetach, Nodes: []unkai.NodeID{1, 2}, GiveUp: true}, nil, 1, 1, 2))
	for b := range top.Sets {
		was, is := &before.Sets[b], &top.Sets[b]
		changed := !sameMembers(was.Replicas, is.Replicas)
		if changed != (is.Epoch == top.Epoch) || !changed && is.Epoch != was.Epoch {
			t.Errorf("bucket %d: %+v, and then %+v", b, was, is)
		}
		if changed && due(is) {
			cut++
		}
	}
	if cut == 0 {
		t.Error("no set was cut that waits for its turn")
	}
}

func TestOnlyABucketAtRestWaits(t *testing.T) {
	top, _ := attaching(t)
	b := slices.IndexFunc(top.Sets, func(s Set) bool { return due(&s) })
	top.Sets = slices.Clone(top.Sets)
	top.Sets[b].Joining = top.Sets[b].Due
	if err := top.Seal(); err == nil {
		t.Error("a bucket is on its way and waits for its turn")
	}
}
