package topology_test

import (
	"slices"
	"testing"

	"unkai"
	"unkai/internal/core/topology"
)

// itself is the topology in which a job has begun that nobody has asked for.
func itself(t *testing.T, top topology.Topology, c topology.Change) topology.Topology {
	t.Helper()
	next := begun(t, top, c)
	next.Job.Auto = true
	return next
}

// abandoned is that in which the cluster has cancelled it for the sake of a node, and it has
// come to its end without that one.
func abandoned(t *testing.T, top topology.Topology, id unkai.NodeID) topology.Topology {
	t.Helper()
	if got := top.Awaited(); !slices.Equal(got, []unkai.NodeID{id}) {
		t.Fatalf("it waits for %v, want %v", got, id)
	}
	next, err := top.Abandon([]unkai.NodeID{id}, id)
	if err != nil {
		t.Fatal(err)
	}
	for b := range next.Sets {
		if s := &next.Sets[b]; len(s.Joining)+len(s.Due) > 0 {
			t.Fatalf("bucket %d goes on: %+v", b, s)
		}
	}
	for range 4 {
		if err := next.Seal(); err != nil {
			t.Fatal(err)
		}
		var heard []unkai.Seat
		for _, n := range next.Nodes {
			if n.ID != id {
				heard = append(heard, n.Seat)
			}
		}
		var free []unkai.Bucket
		for b := range unkai.Bucket(next.Buckets) {
			if next.Heard(b, heard) {
				free = append(free, b)
			}
		}
		if next.Moving() > 0 {
			next = next.Proceed(nil, free, 0, nil, id)
		} else if then, ok := next.Advance(nil, 1); ok {
			next = then
		}
	}
	if next.Job != nil {
		t.Fatalf("it has not ended: %+v, %d on their way", next.Job, next.Moving())
	}
	last := next.History[len(next.History)-1]
	if last.Outcome != topology.Cancelled || !slices.Equal(last.Missed, []unkai.NodeID{id}) {
		t.Errorf("%+v", last)
	}
	if j := next.GivenUp(id); j == nil || j.ID != last.ID {
		t.Errorf("by %+v it was given up, want job %d", j, last.ID)
	}
	return next
}

// A job that nobody has asked for and that its newcomer lets down ends. The newcomer holds
// nothing, and waits for nobody to say that it is wanted; when an operator has cancelled the
// job it does.
func TestANewcomerThatIsMissed(t *testing.T) {
	top := joined(t, forgotten(grown(t, first(t, 3, 2, 2), 11, 12)), topology.Node{ID: 13, Weight: 1})
	for _, c := range []topology.Change{attach(13), {Kind: topology.KindReplace, Nodes: []unkai.NodeID{11, 13}}} {
		for what, at := range map[string]func(topology.Topology) topology.Topology{"due": func(t topology.Topology) topology.Topology { return t }, "joining": sent} {
			job := at(itself(t, top, c))
			next := abandoned(t, job, 13)
			if n, _ := next.Node(13); n.State != topology.Recognised || n.Manual || holds(next, n.Seat) != 0 {
				t.Errorf("%s, %s: %+v", c.Kind, what, n)
			}
			if n, _ := next.Node(11); n.State != topology.Attached {
				t.Errorf("%s, %s: %+v", c.Kind, what, n)
			}
			byHand, err := job.Cancel()
			if n, _ := byHand.Node(13); err != nil || !n.Manual || byHand.Job.Missed != nil {
				t.Errorf("%s, %s, by an operator: %+v, %v", c.Kind, what, n, err)
			}
			again := ended(t, begun(t, forgotten(next), c), nil)
			if j := again.GivenUp(13); j != nil || len(again.Awaited()) != 0 {
				t.Errorf("it has got its share, and was given up by %+v", j)
			}
		}
	}
	asked := begun(t, top, attach(13))
	if next, err := asked.Abandon([]unkai.NodeID{13}); err == nil {
		t.Errorf("what an operator has asked for: %+v", next.Job)
	}
}

// What was switched to a newcomer before it died is its share.
func TestANewcomerThatIsMissedKeepsItsShare(t *testing.T) {
	top := joined(t, forgotten(grown(t, first(t, 3, 2, 2), 11, 12)), topology.Node{ID: 13, Weight: 1})
	for _, c := range []topology.Change{attach(13), {Kind: topology.KindReplace, Nodes: []unkai.NodeID{11, 13}}} {
		job := sent(itself(t, top, c))
		var some []unkai.Bucket
		for b := range job.Sets {
			if len(job.Sets[b].Joining) > 0 && len(some) < 3 {
				some = append(some, unkai.Bucket(b))
			}
		}
		next := abandoned(t, job.Proceed(some, nil, 0, nil), 13)
		if n, _ := next.Node(13); n.State != topology.Attached || holds(next, n.Seat) != 3 {
			t.Errorf("%s: %+v holds %d", c.Kind, n, holds(next, n.Seat))
		}
		if n, _ := next.Node(11); n.State != topology.Attached {
			t.Errorf("%s: %+v", c.Kind, n)
		}
	}
}

// A job that waits only for a node to forget what it held waits for that one.
func TestWhoHasToForgetIsAwaited(t *testing.T) {
	top := joined(t, forgotten(grown(t, first(t, 3, 2, 2), 11, 12)), topology.Node{ID: 13, Weight: 1})
	top = sent(itself(t, top, attach(13)))
	if err := top.Seal(); err != nil {
		t.Fatal(err)
	}
	var back []topology.Renewal
	for b := range top.Sets {
		if len(top.Sets[b].Joining) > 0 {
			back = append(back, topology.Renewal{Bucket: unkai.Bucket(b), Epoch: top.Epoch})
		}
	}
	top, _ = top.Renew(back)
	if top.Moving() != 0 {
		t.Fatalf("%d move", top.Moving())
	}
	if _, ok := top.Advance(nil, 1); ok {
		t.Fatal("it waits for nobody")
	}
	abandoned(t, top, 13)
}

// A node that is to get a bucket is waited for as long as a dead one before it is replaced,
// and five minutes at most.
func TestForbearance(t *testing.T) {
	for after, want := range map[int64]int64{0: 300_000, 2000: 2000, 300_001: 300_000} {
		if got := (&topology.Topology{AutoReplace: after}).Forbearance(); got != want {
			t.Errorf("replaced after %d: %d, want %d", after, got, want)
		}
	}
}
