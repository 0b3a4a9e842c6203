package topology

import (
	"slices"
	"testing"

	"unkai"
)

// run takes a job to its end, or as far as it goes.
func run(t *testing.T, top Topology) Topology {
	t.Helper()
	all := make([]unkai.Bucket, top.Buckets)
	for b := range all {
		all[b] = unkai.Bucket(b)
	}
	for range 10 {
		for range 4 { // they set out, arrive, and are heard of
			top = sealed(t)(top.Proceed(all, all, top.Buckets/2, nil), nil)
		}
		forgot := map[unkai.Seat][]unkai.Bucket{}
		for _, n := range top.Nodes {
			forgot[n.Seat] = top.Strayed(n.Seat)
		}
		top = sealed(t)(top.Forgot(forgot), nil)
		next, ok := top.Advance(nil, 2)
		if !ok {
			break
		}
		if top = sealed(t)(next, nil); top.Job == nil {
			break
		}
	}
	return top
}

// whole says what is wrong with sets of three that should all be seated.
func whole(t *testing.T, top Topology) {
	t.Helper()
	if top.Job != nil || len(top.History) == 0 || top.History[len(top.History)-1].Outcome != Done {
		t.Fatalf("the job is not done: %+v, %+v", top.Job, top.History)
	}
	for b := range top.Sets {
		if s := top.Sets[b]; len(s.Replicas) != 3 || slices.ContainsFunc(s.Replicas, top.passed) {
			t.Fatalf("bucket %d: %+v of %+v", b, s, top.Nodes)
		}
	}
}

// The node that shall take the place of another restarts without its memory: it
// takes it all the same, and nothing else moves.
func TestReplaceGoesOnWhenTheNewNodeIsReborn(t *testing.T) {
	top := three(t)
	top = sealed(t)(top.Join(Node{ID: 4, Weight: 1, Manual: true}))
	top = sealed(t)(top.Begin(Change{Kind: KindReplace, Nodes: []unkai.NodeID{1, 4}}, nil, 1))
	planned := top.Job.Planned
	top = sealed(t)(top.Proceed(nil, nil, top.Buckets, nil), nil)
	top = sealed(t)(top.Proceed([]unkai.Bucket{0, 1, 2}, nil, 0, nil), nil)
	top = sealed(t)(top.Reborn(4))
	top = run(t, top)
	whole(t, top)
	for b := range top.Sets {
		if !sameMembers(top.Sets[b].Replicas, []unkai.Seat{2, 3, 5}) {
			t.Errorf("bucket %d: %+v", b, top.Sets[b])
		}
	}
	if h := top.History[0]; h.Moved.Buckets < planned.Buckets || h.Moved.Replicas != h.Planned.Replicas {
		t.Errorf("%+v", h)
	}
	if _, ok := top.Node(1); ok {
		t.Error("the old node is there still")
	}
}

// The old one is reborn while a bucket has to wait: that bucket, too, is handed over.
func TestReplaceGoesOnWhenTheOldNodeIsReborn(t *testing.T) {
	top := three(t)
	top = sealed(t)(top.Join(Node{ID: 4, Weight: 1, Manual: true}))
	top.Sets[0].Strays = []unkai.Seat{4}
	top = sealed(t)(top.Begin(Change{Kind: KindReplace, Nodes: []unkai.NodeID{1, 4}}, nil, 1))
	top = sealed(t)(top.Reborn(1))
	whole(t, run(t, top))
}

// A node that is weighed, or another one, is reborn: the job does what it said, with
// that node.
func TestAJobGoesOnWhenANodeIsReborn(t *testing.T) {
	for _, c := range []Change{
		{Kind: KindWeigh, Nodes: []unkai.NodeID{4}, Weight: 3},
		{Kind: KindAttach, Nodes: []unkai.NodeID{5}},
		{Kind: KindDetach, Nodes: []unkai.NodeID{1}},
	} {
		for _, lost := range []unkai.NodeID{4, 5} {
			top := three(t)
			top = sealed(t)(top.Join(Node{ID: 4, Weight: 1}))
			top = run(t, sealed(t)(top.Begin(Change{Kind: KindAttach, Nodes: []unkai.NodeID{4}}, nil, 1)))
			top = sealed(t)(top.Join(Node{ID: 5, Weight: 1}))
			if c.Kind != KindAttach {
				top = run(t, sealed(t)(top.Begin(Change{Kind: KindAttach, Nodes: []unkai.NodeID{5}}, nil, 1)))
			}
			top = sealed(t)(top.Begin(c, nil, 1))
			top = sealed(t)(top.Reborn(lost))
			top = run(t, top)
			whole(t, top)
			if n, _ := top.Node(lost); n.State != Attached {
				t.Errorf("%s: node %v is %v", c.Kind, lost, n.State)
			}
			if h := top.History[len(top.History)-1]; h.Moved.Buckets == 0 || h.Moved.Replicas != h.Planned.Replicas {
				t.Errorf("%s, %v reborn: planned %+v, moved %+v", c.Kind, lost, h.Planned, h.Moved)
			}
		}
	}
}
