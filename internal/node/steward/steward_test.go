package steward

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"unkai"
	"unkai/internal/core/topology"
)

// While something is on its way the steward looks again soon, and less often the longer
// it lasts; else, or when a job is paused, it takes its time.
func TestStewardLooksSoonWhileSomethingMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := topology.New(1, 16, 1, 1, 1, topology.Node{ID: 1, Weight: 1})
		top, err := top.Join(topology.Node{ID: 2, Weight: 1})
		if err != nil {
			t.Fatal(err)
		}
		s := &Steward{epoch: 3, since: time.Now()}
		early := func() bool { return s.early(16, 15, 16, false) }
		if d := s.pause(&top); d != lookEvery {
			t.Errorf("at rest: %v", d)
		}
		if top, err = top.Begin(topology.Change{Kind: topology.KindAttach, Nodes: []unkai.NodeID{2}}, nil, 1); err != nil {
			t.Fatal(err)
		}
		if d := s.pause(&top); d != lookSoon || !early() {
			t.Errorf("something has just set out: %v, early %v", d, early())
		}
		time.Sleep(100 * time.Millisecond)
		if s.early(16, 8, 16, true) || !s.early(16, 7, 16, true) {
			t.Error("with clients it goes on when a half is ready")
		}
		if s.early(16, 16, 16, false) || !s.early(65536, 16, 16, false) || !s.early(65536, 16, 16, true) {
			t.Error("the more buckets there are, the less often it changes anything")
		}
		time.Sleep(300 * time.Millisecond)
		if d := s.pause(&top); d != 100*time.Millisecond || !early() {
			t.Errorf("some time later: %v, early %v", d, early())
		}
		time.Sleep(turnSoon)
		if early() || s.early(16, 1, 16, true) || s.early(65536, 1, 16, true) {
			t.Error("it waits for all that is on its way")
		}
		time.Sleep(time.Minute)
		if s.epoch = top.Epoch - 1; s.pause(&top) != lookSoon {
			t.Error("it takes its time though the topology has just changed")
		}
		s.epoch = top.Epoch
		if d := s.pause(&top); d != lookEvery || early() {
			t.Errorf("a minute later: %v, early %v", d, early())
		}
		s.since = time.Now()
		if top, err = top.Pause(1); err != nil {
			t.Fatal(err)
		}
		top.Sets = nil // nothing moves
		if d := s.pause(&top); d != lookEvery {
			t.Errorf("paused: %v", d)
		}
	})
}

// Of all the changes of a job two are told: that it begins, and that it ends.
func TestNotableChanges(t *testing.T) {
	top := topology.New(1, 16, 1, 1, 1, topology.Node{ID: 1, Weight: 1})
	told := []int{}
	step := 0
	then := func(next topology.Topology, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if notable(&top, &next) {
			told = append(told, step)
		}
		step++
		top = next
	}
	then(top.Join(topology.Node{ID: 2, Weight: 1}))
	then(top.Begin(topology.Change{Kind: topology.KindAttach, Nodes: []unkai.NodeID{2}}, nil, 1))
	for range 3 {
		then(top.Limit(5))
		then(top.Proceed(nil, nil, 1, nil), nil)
	}
	top.Sets = nil // nothing moves
	next, _ := top.Advance(nil, 2)
	then(next, nil)
	if !slices.Equal(told, []int{0, 1, 8}) {
		t.Errorf("told: %v", told)
	}
}

// Who leads is the first manager that serves, and not one that is only connected, unless
// no manager serves.
func TestWhoServesLeads(t *testing.T) {
	top := topology.Topology{Managers: []unkai.NodeID{2, 3, 5}}
	some := func(ids ...unkai.NodeID) func(unkai.NodeID) bool {
		return func(id unkai.NodeID) bool { return slices.Contains(ids, id) }
	}
	for _, test := range []struct {
		serve, here []unkai.NodeID
		want        unkai.NodeID
	}{
		{[]unkai.NodeID{1, 2, 3, 5}, []unkai.NodeID{1, 2, 3, 5}, 2},
		{[]unkai.NodeID{3, 5}, []unkai.NodeID{1, 2, 3, 5}, 3},
		{[]unkai.NodeID{1}, []unkai.NodeID{1, 3, 5}, 3},
		{nil, []unkai.NodeID{1}, 0},
	} {
		if got := Leader(&top, some(test.serve...), some(test.here...)); got != test.want {
			t.Errorf("of %v, of whom %v serve, %v leads, want %v", test.here, test.serve, got, test.want)
		}
	}
}
