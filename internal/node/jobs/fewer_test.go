package jobs

import (
	"strings"
	"testing"

	"unkai"
	"unkai/internal/core/topology"
)

// A job by which nobody gets anything, and keys have fewer replicas, is told of in
// buckets: how far it is, what it waits for, and how long the rest takes.
func TestFewerReplicas(t *testing.T) {
	now := int64(1_000_000)
	c := company{here: map[unkai.NodeID]bool{1: true, 2: true, 3: true}, full: map[unkai.NodeID]bool{3: true}}
	o := New(Config{Nodes: c, Now: func() int64 { return now }})
	top := topology.New(1, 16, 3, 1, 3, topology.Node{ID: 1, Weight: 1})
	become := becoming(t, &top)
	become(top.Join(topology.Node{ID: 2, Weight: 1}))
	become(top.Join(topology.Node{ID: 3, Weight: 1}))
	become(top.Begin(topology.Change{Kind: topology.KindAttach, Nodes: []unkai.NodeID{2, 3}}, nil, now))
	for b := range top.Sets {
		s := &top.Sets[b]
		*s = topology.Set{Epoch: top.Epoch, Replicas: append(s.Joining, s.Due...)}
	}
	next, ok := top.Advance(nil, now)
	if !ok || next.Job != nil {
		t.Fatalf("%+v", next.Job)
	}
	become(next, nil)
	become(top.Begin(topology.Change{Kind: topology.KindDetach, Nodes: []unkai.NodeID{3}}, nil, now))
	become(top.Proceed(nil, nil, 16, nil), nil)
	o.Note(&top)
	j := o.describeJob(&top, top.Job)
	if said := strings.Join(j.Waits, "\n"); j.Progress != 0 || j.Left != 0 || j.Planned.Buckets != 16 || j.Planned.Replicas != 0 || said != "16 buckets whose replicas are compared before some of them go" {
		t.Errorf("%+v", j)
	}
	now += 1000
	become(top.Proceed([]unkai.Bucket{0, 1, 2, 3}, nil, 16, nil), nil)
	if j = o.describeJob(&top, top.Job); j.Progress != 0.25 || j.Left != 3 || !strings.HasPrefix(j.Waits[0], "12 buckets whose") {
		t.Errorf("%+v", j)
	}
	top.Job.Planned, top.Job.Moved = topology.Amount{}, topology.Amount{}
	if j = o.describeJob(&top, top.Job); j.Progress != 1 {
		t.Errorf("nothing moves: %+v", j)
	}
	top.Job.Held = true
	if j = o.describeJob(&top, top.Job); j.Progress != 0 {
		t.Errorf("nothing has set out yet: %+v", j)
	}
}
