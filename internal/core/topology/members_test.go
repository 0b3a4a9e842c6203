package topology_test

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"unkai"
	"unkai/internal/core/topology"
)

// done is the topology in which every bucket has arrived, and who was leaving
// has left.
func done(t interface{ Fatal(...any) }, top topology.Topology) topology.Topology {
	for range 100 {
		if err := top.Seal(); err != nil {
			t.Fatal(err)
		}
		if top.Moving() > 0 {
			top = top.Proceed(all(top), nil, 1<<16, nil)
			top = top.Proceed(nil, all(top), 1<<16, nil)
			continue
		}
		top = forgotten(top)
		leaving := slices.ContainsFunc(top.Nodes, func(n topology.Node) bool { return n.State == topology.Leaving })
		next, ok := top.Depart()
		if !ok && leaving { // somebody had something left to forget
			var err error
			if next, err = top.Apply(topology.Change{Kind: topology.KindRebalance, GiveUp: top.Lost() > 0}); err != nil {
				t.Fatal(err)
			}
		} else if !ok {
			return top
		}
		top = next
	}
	t.Fatal("a change does not come to its end")
	return top
}

// forgotten is the topology in which nobody has anything left to forget.
func forgotten(top topology.Topology) topology.Topology {
	said := map[unkai.Seat][]unkai.Bucket{}
	for _, n := range top.Nodes {
		said[n.Seat] = top.Strayed(n.Seat)
	}
	return top.Forgot(said)
}

func joined(t interface{ Fatal(...any) }, top topology.Topology, n topology.Node) topology.Topology {
	next, err := top.Join(n)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// holds is how many buckets name a seat.
func holds(top topology.Topology, seat unkai.Seat) (n int) {
	for _, s := range top.Sets {
		if slices.Contains(s.Replicas, seat) {
			n++
		}
	}
	return n
}

func TestDetach(t *testing.T) {
	top := grown(t, first(t, 3, 2, 2), 11, 12, 13)
	seats := top.Seats
	gone, _ := top.Node(11)
	next, err := top.Detach(11)
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := next.Node(11); n.State != topology.Leaving || next.Moving() == 0 || slices.Contains(next.Managers, 11) || len(next.Managers) != 3 {
		t.Fatalf("%+v, managers %v", n, next.Managers)
	}
	if _, ok := next.Depart(); ok {
		t.Error("a node left before its share had arrived elsewhere")
	}
	if _, err := next.Attach(11); !errors.Is(err, topology.ErrMoving) {
		t.Error(err)
	}
	next = done(t, next)
	if _, ok := next.Node(11); ok || len(next.Nodes) != 3 || holds(next, gone.Seat) != 0 || next.Moving() != 0 {
		t.Fatalf("after it: %+v", next.Nodes)
	}
	for id, f := range map[unkai.NodeID]func() error{
		11: func() error { _, err := next.Join(topology.Node{ID: 11, Weight: 1}); return err },
		1:  func() error { _, err := next.Reborn(11); return err },
		2:  func() error { _, err := next.Attach(11); return err },
	} {
		if err := f(); !errors.Is(err, topology.ErrRemoved) {
			t.Errorf("%d: a removed node may come back: %v", id, err)
		}
	}
	next = joined(t, next, topology.Node{ID: 14, Weight: 1})
	if n, _ := next.Node(14); n.Seat != seats+1 {
		t.Errorf("a seat was given again: %+v", n)
	}
	if _, err := next.Detach(10, 12, 13); err == nil {
		t.Error("nobody is left to hold the buckets")
	}
	if _, err := next.Detach(99); err == nil {
		t.Error("a node that is not there was detached")
	}
}

// A node that holds nothing leaves at once; so does one whose new incarnation
// does not hold anything yet, when others have got what its old one had.
func TestDetachWhatHoldsNothing(t *testing.T) {
	top := joined(t, grown(t, first(t, 3, 2, 2), 11, 12), topology.Node{ID: 13, Weight: 1, Manual: true})
	next, err := top.Detach(13)
	if err != nil || next.Moving() != 0 {
		t.Fatal(next.Moving(), err)
	}
	if next = done(t, next); len(next.Nodes) != 3 {
		t.Errorf("%+v", next.Nodes)
	}
	if next, err = next.Reborn(12); err != nil {
		t.Fatal(err)
	}
	if next, err = next.Detach(12); err != nil || next.Moving() == 0 {
		t.Fatal(next.Moving(), err)
	}
	again, err := next.Reborn(12)
	if n, _ := again.Node(12); err != nil || n.State != topology.Leaving {
		t.Errorf("a node that is leaving came back as %v: %v", n.State, err)
	}
	if next = done(t, next); len(next.Nodes) != 2 || len(next.Sets[0].Replicas) != 2 {
		t.Errorf("%+v", next.Nodes)
	}
}

func TestReplaceMovesNothingElse(t *testing.T) {
	top := grown(t, first(t, 3, 2, 2), 11, 12, 13)
	top = joined(t, top, topology.Node{ID: 14, Weight: 7, Manual: true})
	old, _ := top.Node(12)
	by, _ := top.Node(14)
	next, err := top.Replace(12, 14)
	if err != nil {
		t.Fatal(err)
	}
	if next.Moving() != holds(top, old.Seat) || slices.Contains(next.Managers, 12) {
		t.Errorf("%d buckets move, the old node holds %d", next.Moving(), holds(top, old.Seat))
	}
	next = done(t, next)
	if n, _ := next.Node(14); n.State != topology.Attached || n.Weight != old.Weight || n.Manual {
		t.Errorf("%+v", n)
	}
	for b := range top.Sets {
		want := slices.Clone(top.Sets[b].Replicas)
		if i := slices.Index(want, old.Seat); i >= 0 {
			want[i] = by.Seat
		}
		if !slices.Equal(next.Sets[b].Replicas, want) {
			t.Fatalf("bucket %d is at %v, want %v", b, next.Sets[b].Replicas, want)
		}
	}
	if _, ok := next.Node(12); ok {
		t.Error("the old node is still there")
	}
	for _, pair := range [][2]unkai.NodeID{{10, 11}, {12, 10}, {10, 99}, {99, 10}} {
		if _, err := next.Replace(pair[0], pair[1]); err == nil {
			t.Errorf("%v", pair)
		}
	}
}

// Who was in a set and is not any more may not come back before it has
// forgotten what it held there.
func TestStraysDoNotJoin(t *testing.T) {
	top := grown(t, first(t, 3, 2, 2), 11, 12)
	top = joined(t, top, topology.Node{ID: 13, Weight: 1})
	top, err := top.Attach(13)
	if err != nil {
		t.Fatal(err)
	}
	top = top.Proceed(all(top), nil, 1<<16, nil)
	top = top.Proceed(nil, all(top), 1<<16, nil)
	var strays []unkai.Bucket
	n11, _ := top.Node(11)
	if strays = top.Strayed(n11.Seat); len(strays) == 0 {
		t.Fatal("node 11 gave nothing away")
	}
	next, err := top.Detach(13)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range strays {
		if s := next.Sets[b]; slices.Contains(s.Joining, n11.Seat) {
			t.Fatalf("bucket %d: %+v", b, s)
		}
	}
	next = next.Proceed(all(next), nil, 1<<16, nil)
	next = next.Proceed(nil, all(next), 1<<16, nil)
	if _, ok := next.Depart(); ok {
		t.Error("a node left that still holds what another could not join")
	}
	next = forgotten(next)
	next, err = next.Rebalance()
	if err != nil {
		t.Fatal(err)
	}
	if next = done(t, next); len(next.Nodes) != 3 || holds(next, n11.Seat) != next.Buckets {
		t.Errorf("%+v", next.Nodes)
	}
}

// Whatever is asked for in whatever order: no bucket is without replicas, every
// change comes to its end, and the shares are as the weights want them.
func TestChangesOfAllKinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		top := topology.New(1, 64, rapid.IntRange(1, 3).Draw(t, "n"), 1, 1, topology.Node{ID: 1, Weight: 1})
		top.R, top.W = top.N/2+1, top.N/2+1
		last := unkai.NodeID(1)
		for range rapid.IntRange(1, 12).Draw(t, "changes") {
			pick := func(what string) unkai.NodeID {
				return top.Nodes[rapid.IntRange(0, len(top.Nodes)-1).Draw(t, what)].ID
			}
			before := top.Seats
			var next topology.Topology
			var err error
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0, 1:
				last++
				next = joined(t, top, topology.Node{ID: last, Weight: 1})
				next, err = next.Attach(last)
			case 2:
				next, err = top.Detach(pick("gone"))
			case 3:
				last++
				next = joined(t, top, topology.Node{ID: last, Weight: 1})
				next, err = next.Replace(pick("old"), last)
			case 4:
				next, err = top.Weigh(topology.Change{Nodes: []unkai.NodeID{pick("heavier")}, Weight: rapid.IntRange(1, 3).Draw(t, "weight")})
			case 5:
				if next, err = top.Reborn(pick("reborn")); err == nil {
					next, err = next.Attach(next.Nodes[len(next.Nodes)-1].ID)
				}
			}
			if err != nil {
				continue
			}
			if top = done(t, next); top.Seats < before {
				t.Fatal("seats were taken back")
			}
			for _, m := range top.Managers {
				if n, ok := top.Node(m); !ok || n.State == topology.Leaving {
					t.Fatalf("manager %v: %+v", m, n)
				}
			}
		}
		if top, err := top.Rebalance(); err != nil || top.Moving() > 0 && len(top.Attached()) == len(top.Nodes) {
			t.Fatalf("%d buckets are not where they belong: %v", top.Moving(), err)
		}
	})
}
