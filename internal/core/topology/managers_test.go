package topology

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"unkai"
)

// Node 1 is dead and manages. Whatever is done to the others, it is not left as
// the only one that decides.
func TestADeadNodeIsNotLeftToDecide(t *testing.T) {
	top := three(t)
	for _, leaves := range []unkai.NodeID{1, 2, 3} {
		next, err := top.Begin(Change{Kind: KindDetach, Nodes: []unkai.NodeID{leaves}}, nil, 1, 1)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(next.Managers, 1) {
			t.Errorf("detach %d: managers %v", leaves, next.Managers)
		}
		if next = sealed(t)(next.Cancel(1)); len(next.Managers) != 3 {
			t.Errorf("cancelled: managers %v", next.Managers)
		}
	}
}

// A change after which too few managers are alive is refused, and so is to cancel
// one.
func TestTooFewManagersAlive(t *testing.T) {
	top := New(1, 16, 3, 2, 2, Node{ID: 1, Weight: 1})
	top = sealed(t)(top.Join(Node{ID: 2, Weight: 1, Manual: true}))
	replace := Change{Kind: KindReplace, Nodes: []unkai.NodeID{1, 2}}
	if _, err := top.Begin(replace, nil, 1, 2); !errors.Is(err, ErrUndecidable) {
		t.Errorf("a dead node shall decide alone: %v", err)
	}
	if _, err := top.Plan(replace, []Load{{Node: 1, Alive: true}, {Node: 2}}); !errors.Is(err, ErrUndecidable) {
		t.Errorf("a plan for that: %v", err)
	}
	three := three(t)
	weigh := sealed(t)(three.Begin(Change{Kind: KindWeigh, Nodes: []unkai.NodeID{3}, Weight: 2}, nil, 1))
	if _, err := weigh.Cancel(1, 3); !errors.Is(err, ErrUndecidable) {
		t.Errorf("one of three managers would be alive: %v", err)
	}
}

// A plan tells of buckets that would stop.
func TestPlanTellsWhatStops(t *testing.T) {
	top := three(t)
	loads := []Load{{Node: 1}, {Node: 2, Alive: true}, {Node: 3, Alive: true}}
	for leaves, want := range map[unkai.NodeID]int{1: 0, 3: 16} {
		p, err := top.Plan(Change{Kind: KindDetach, Nodes: []unkai.NodeID{leaves}}, loads)
		if err != nil || p.Stopped != want {
			t.Errorf("detach %d: %d buckets stop, want %d (%v)", leaves, p.Stopped, want, err)
		}
	}
}

// When all who would hold something after a cancellation have been reborn, nobody would be
// left to decide anything: the job is to go on, and it says so. Then it comes to its end.
func TestNobodyLeftToCancelFor(t *testing.T) {
	top := New(1, 16, 1, 1, 1, Node{ID: 1, Weight: 1})
	top = sealed(t)(top.Join(Node{ID: 2, Weight: 1}))
	top = sealed(t)(top.Begin(Change{Kind: KindReplace, Nodes: []unkai.NodeID{1, 2}}, nil, 1))
	top = sealed(t)(top.Reborn(2))
	top = sealed(t)(top.Reborn(1))
	_, err := top.Cancel()
	if !errors.Is(err, ErrUndecidable) || !strings.Contains(err.Error(), "let it go on") {
		t.Errorf("%v of %+v", err, top.Nodes)
	}
	for i := 0; top.Job != nil && i < 10; i++ {
		var all []unkai.Bucket
		for b := range unkai.Bucket(top.Buckets) {
			all = append(all, b)
		}
		next, ok := top.Advance(nil, 2)
		if !ok {
			next = top.Proceed(all, all, 16, nil)
		}
		top = sealed(t)(next, nil)
	}
	if top.Job != nil || len(top.Attached()) != 1 {
		t.Errorf("%+v, %+v", top.Job, top.Nodes)
	}
}
