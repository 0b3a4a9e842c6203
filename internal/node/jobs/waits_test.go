package jobs

import (
	"slices"
	"strings"
	"testing"

	"unkai"
	"unkai/internal/core/topology"
)

// What a job waits for that is somebody, and not only time, is told by name, and then
// nobody tells how long the rest takes.
func TestNobodyKnowsHowLongWhatIsStuckTakes(t *testing.T) {
	now := int64(1_000_000)
	c := company{
		here: map[unkai.NodeID]bool{1: true, 2: true, 3: true}, full: map[unkai.NodeID]bool{},
		peers: map[unkai.NodeID]string{3: "10.0.0.3:11011"},
	}
	o := New(Config{Nodes: c, Now: func() int64 { return now }})
	top := topology.New(1, 16, 2, 1, 2, topology.Node{ID: 1, Weight: 1})
	become := becoming(t, &top)
	move := func() {
		for range 4 {
			o.Note(&top)
			now += 1000
			b := slices.IndexFunc(top.Sets, func(s topology.Set) bool {
				return len(s.Joining) > 0 && len(s.Joining) != len(s.Replicas) || len(s.Joining) == 2
			})
			become(top.Proceed([]unkai.Bucket{unkai.Bucket(b)}, nil, 16, func(unkai.Bucket) int64 { return 10 }), nil)
		}
	}
	become(top.Join(topology.Node{ID: 2, Weight: 1}))
	become(top.Join(topology.Node{ID: 3, Weight: 1}))
	become(top.Begin(topology.Change{Kind: topology.KindAttach, Nodes: []unkai.NodeID{2, 3}}, nil, now))
	become(top.Proceed(nil, nil, 16, nil), nil)
	move()
	if j := o.describeJob(&top, top.Job); j.Left == 0 || j.Rate == 0 || !strings.Contains(strings.Join(j.Waits, "\n"), "to be brought") {
		t.Fatalf("it moves: %+v", j)
	}
	for what, test := range map[string]struct {
		begin, end func()
		says       string
	}{
		"full": {func() { c.full[3] = true }, func() { c.full[3] = false },
			"room at node 0000000000000003 (10.0.0.3:11011), which is full (make room there, or unkai job cancel)"},
		"away":   {func() { c.here[3] = false }, func() { c.here[3] = true }, "that are away: 0000000000000003 (10.0.0.3:11011)"},
		"few":    {func() { top.Managers = []unkai.NodeID{1, 8, 9} }, func() { top.Managers = []unkai.NodeID{1} }, "more managers"},
		"paused": {func() { become(top.Pause(now)) }, func() { become(top.Resume(now)) }, "an operator"},
	} {
		test.begin()
		j := o.describeJob(&top, top.Job)
		if j.Left != 0 || !strings.Contains(strings.Join(j.Waits, "\n"), test.says) {
			t.Errorf("%s: %v s left, it waits for %q", what, j.Left, j.Waits)
		}
		test.end()
		if what == "paused" {
			now += 300
			move() // it is seen anew
		}
		if j := o.describeJob(&top, top.Job); j.Left == 0 || len(j.Waits) > 2 {
			t.Errorf("after %s: %v s left, it waits for %q", what, j.Left, j.Waits)
		}
	}
	c.full[3] = true // everything goes there
	for _, w := range o.describeJob(&top, top.Job).Waits {
		if strings.Contains(w, "12 buckets to be brought") {
			t.Errorf("what is refused is said to be on its way: %q", w)
		}
	}
	c.full[1] = true // nothing is brought to it
	if full := Crammed(&top, c.Full); !slices.Equal(full, []unkai.NodeID{3}) {
		t.Errorf("%v are full and get something", full)
	}
}

// Of a job that began by itself it is said for how long it waits for a node that is to get
// buckets, and of one that was cancelled for its sake, for whose.
func TestHowLongAJobOfItsOwnWaits(t *testing.T) {
	c := company{here: map[unkai.NodeID]bool{1: true}, full: map[unkai.NodeID]bool{}, peers: map[unkai.NodeID]string{2: "10.0.0.2:11011"}}
	o := New(Config{Nodes: c, Now: func() int64 { return 1 }})
	top := topology.New(1, 16, 2, 1, 2, topology.Node{ID: 1, Weight: 1})
	become := becoming(t, &top)
	become(top.Join(topology.Node{ID: 2, Weight: 1}))
	become(top.Begin(topology.Change{Kind: topology.KindAttach, Nodes: []unkai.NodeID{2}}, nil, 1))
	says := func(want bool) {
		t.Helper()
		text := strings.Join(o.describeJob(&top, top.Job).Waits, "\n")
		if !strings.Contains(text, "16 buckets that are away: 0000000000000002 (10.0.0.2:11011)") && !top.Job.Paused {
			t.Error(text)
		}
		if got := strings.Contains(text, "; it is cancelled by itself when one that gets buckets has been silent for 5m0s"); got != want {
			t.Error(text)
		}
	}
	says(false)
	top.Job.Auto = true
	says(true)
	c.here[2] = true
	if text := strings.Join(o.describeJob(&top, top.Job).Waits, "\n"); strings.Contains(text, "by itself") {
		t.Error(text)
	}
	c.here[2] = false
	become(top.Abandon([]unkai.NodeID{2}))
	if j := o.describeJob(&top, top.Job); !slices.Equal(j.Missed, []string{"0000000000000002 (10.0.0.2:11011)"}) {
		t.Errorf("%+v", j)
	}
}
