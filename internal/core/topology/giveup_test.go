package topology

import (
	"errors"
	"slices"
	"testing"

	"unkai"
)

// Two of three nodes are dead for good. To give up what they held, in so many words,
// is the way out; the one that is left serves, and brings all to new ones.
func TestGiveUpWhatIsLost(t *testing.T) {
	top := three(t)
	for id := unkai.NodeID(4); id <= 5; id++ {
		top = sealed(t)(top.Join(Node{ID: id, Weight: 1}))
	}
	top.Managers = []unkai.NodeID{3}
	c := Change{Kind: KindDetach, Nodes: []unkai.NodeID{1, 2}}
	loads := []Load{{Node: 1}, {Node: 2}, {Node: 3, Alive: true}, {Node: 4, Alive: true}, {Node: 5, Alive: true}}
	p, err := top.Plan(c, loads)
	if err != nil || p.During >= 0 || p.GivenUp != 0 {
		t.Errorf("without giving up: %d may fail while it runs, %d given up (%v)", p.During, p.GivenUp, err)
	}
	c.GiveUp = true
	if p, err = top.Plan(c, loads); err != nil || p.GivenUp != 16 || p.During != 0 {
		t.Errorf("%d may fail while it runs, %d given up (%v)", p.During, p.GivenUp, err)
	}
	next := sealed(t)(top.Begin(c, nil, 1, Away(loads)...))
	if next.Epoch != top.Epoch+1 {
		t.Errorf("from epoch %d to %d", top.Epoch, next.Epoch)
	}
	for b := range next.Sets {
		if s := next.Sets[b]; !slices.Equal(s.Replicas, []unkai.Seat{3}) || s.Epoch != next.Epoch {
			t.Fatalf("bucket %d: %+v", b, s)
		}
	}
	next = run(t, next)
	next = run(t, sealed(t)(next.Begin(Change{Kind: KindAttach, Nodes: []unkai.NodeID{4, 5}}, nil, 1)))
	whole(t, next)
	if len(next.Nodes) != 3 {
		t.Errorf("%+v", next.Nodes)
	}
}

// Only dead nodes are given up, and only where nothing else helps.
func TestGiveUpNoMoreThanThat(t *testing.T) {
	top := three(t)
	top = sealed(t)(top.Join(Node{ID: 4, Weight: 1}))
	one := Change{Kind: KindDetach, Nodes: []unkai.NodeID{1}, GiveUp: true}
	if _, err := top.Begin(one, nil, 1); err == nil {
		t.Error("what a node holds that is alive was given up")
	}
	if _, err := top.Begin(Change{Kind: KindAttach, Nodes: []unkai.NodeID{4}, GiveUp: true}, nil, 1); err == nil {
		t.Error("to attach gives something up")
	}
	next := sealed(t)(top.Begin(one, nil, 1, 1))
	for b := range next.Sets {
		if s := next.Sets[b]; len(s.Replicas) != 3 || !slices.Contains(s.Replicas, 1) {
			t.Fatalf("bucket %d has its quorum and was cut: %+v", b, s)
		}
	}
	if _, err := next.Begin(Change{Kind: KindRebalance, GiveUp: true}, nil, 1); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
}

// Incarnations that have passed need not be named; buckets that lost them do not set
// out, and nobody has to wait for them.
func TestGiveUpIncarnationsThatHavePassed(t *testing.T) {
	top := three(t)
	top = sealed(t)(top.Reborn(1))
	top = sealed(t)(top.Reborn(2))
	top = sealed(t)(top.Begin(Change{Kind: KindAttach, Nodes: []unkai.NodeID{1, 2}}, nil, 1))
	if top.Moving() != 0 || top.Lost() != 16 {
		t.Fatalf("%d buckets are on a way without an end, %d lost", top.Moving(), top.Lost())
	}
	top = run(t, top)
	if top.Job != nil {
		t.Fatalf("%+v", top.Job)
	}
	top = sealed(t)(top.Begin(Change{Kind: KindRebalance, GiveUp: true}, nil, 1))
	whole(t, run(t, top))
}

// A job was cancelled, and buckets that were switched cannot leave their old set,
// which is dead. They end where they went.
func TestGiveUpALeavingSet(t *testing.T) {
	top := three(t)
	for id := unkai.NodeID(4); id <= 6; id++ {
		top = sealed(t)(top.Join(Node{ID: id, Weight: 1}))
	}
	top = sealed(t)(top.Attach(4, 5, 6))
	for b := range top.Sets {
		top.Sets[b] = Set{Epoch: top.Epoch, Replicas: []unkai.Seat{4, 5, 6}, Leaving: []unkai.Seat{1, 2, 3}}
	}
	top.Job, top.Jobs = &Job{ID: 1, Change: Change{Kind: KindRebalance}, Outcome: Cancelled}, 1
	c := Change{Kind: KindDetach, Nodes: []unkai.NodeID{1, 2}, GiveUp: true}
	p, err := top.Plan(c, []Load{{Node: 1}, {Node: 2}})
	if err != nil || p.GivenUp != 0 {
		t.Errorf("%d buckets may have lost something (%v)", p.GivenUp, err)
	}
	next := sealed(t)(top.Begin(c, nil, 7, 1, 2))
	if next.Job.ID != 2 || len(next.History) != 1 || next.History[0].Outcome != Cancelled || next.History[0].Ended != 7 {
		t.Errorf("%+v, %+v", next.Job, next.History)
	}
	for b := range next.Sets {
		if s := next.Sets[b]; len(s.Leaving) > 0 || !sameMembers(s.Replicas, []unkai.Seat{4, 5, 6}) {
			t.Fatalf("bucket %d: %+v", b, s)
		}
	}
	whole(t, run(t, next))
}

// Of some buckets nothing is left: others hold them, empty.
func TestGiveUpEverything(t *testing.T) {
	top := three(t)
	top = sealed(t)(top.Join(Node{ID: 4, Weight: 1}))
	top = sealed(t)(top.Attach(4))
	for b := range top.Sets {
		top.Sets[b] = Set{Epoch: top.Epoch, Replicas: []unkai.Seat{1, 2, 3}}
	}
	top.Managers = []unkai.NodeID{4}
	next := sealed(t)(top.Begin(Change{Kind: KindDetach, Nodes: []unkai.NodeID{1, 2, 3}, GiveUp: true}, nil, 1, 1, 2, 3))
	for b := range next.Sets {
		if s := next.Sets[b]; !slices.Equal(s.Replicas, []unkai.Seat{4}) || next.Moving() > 0 {
			t.Fatalf("bucket %d: %+v", b, s)
		}
	}
}
