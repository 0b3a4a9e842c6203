package topology_test

import (
	"slices"
	"testing"

	"unkai"
	"unkai/internal/core/topology"
)

// A renewed bucket has the same replicas in a new epoch, once for each time that
// something was forgotten; nothing else changes.
func TestRenew(t *testing.T) {
	top := grown(t, first(t, 3, 2, 2), 2, 3)
	was := top.Route(3).Epoch
	next, ok := top.Renew([]topology.Renewal{{Bucket: 3, Epoch: was}, {Bucket: 5, Epoch: top.Route(5).Epoch - 1}, {Bucket: 60_000, Epoch: was}})
	if !ok {
		t.Fatal("it was not renewed")
	}
	if err := next.Seal(); err != nil {
		t.Fatal(err)
	}
	for b := range unkai.Bucket(top.Buckets) {
		old, now := top.Route(b), next.Route(b)
		if !slices.Equal(old.Members, now.Members) || (now.Epoch != old.Epoch) != (b == 3) {
			t.Errorf("bucket %d: %v in epoch %d, and then %v in %d", b, old.Members, old.Epoch, now.Members, now.Epoch)
		}
	}
	if next.Route(3).Epoch <= was || next.Epoch != top.Epoch+1 {
		t.Errorf("epoch %d of %d", next.Route(3).Epoch, next.Epoch)
	}
	if _, ok := next.Renew([]topology.Renewal{{Bucket: 3, Epoch: was}}); ok {
		t.Error("it was renewed twice for the same")
	}
	flushed := top.Flush()
	if _, ok := flushed.Renew([]topology.Renewal{{Bucket: 3, Epoch: was}}); ok {
		t.Error("a flush is a new epoch too")
	}
}

// A bucket that has been switched gets a new epoch anyway, and is left alone.
func TestRenewLeavesWhatHasArrived(t *testing.T) {
	top := forgotten(grown(t, first(t, 3, 2, 2), 11, 12))
	top = sent(begun(t, joined(t, top, topology.Node{ID: 13, Weight: 1}), attach(13)))
	top = top.Proceed(all(top), nil, 0, nil)
	for b := range top.Sets {
		if len(top.Sets[b].Leaving) > 0 {
			if _, ok := top.Renew([]topology.Renewal{{Bucket: unkai.Bucket(b), Epoch: top.Sets[b].Epoch}}); ok {
				t.Fatalf("bucket %d was renewed on its way", b)
			}
			return
		}
	}
	t.Fatal("nothing moves")
}

// A bucket that is on its way to a joining set goes back to where it came from, and again
// when who was to hold it has forgotten it; one that waits for its turn goes on waiting.
func TestRenewSendsBack(t *testing.T) {
	top := forgotten(grown(t, first(t, 3, 2, 2), 11, 12))
	top = begun(t, joined(t, top, topology.Node{ID: 13, Weight: 1}), attach(13))
	planned := top.Job.Planned
	top = top.Proceed(nil, nil, 1, nil)
	back := unkai.Bucket(slices.IndexFunc(top.Sets, func(s topology.Set) bool { return len(s.Joining) > 0 }))
	waits := unkai.Bucket(slices.IndexFunc(top.Sets, func(s topology.Set) bool { return len(s.Due) > 0 }))
	next, ok := top.Renew([]topology.Renewal{{Bucket: back, Epoch: top.Sets[back].Epoch}, {Bucket: waits, Epoch: top.Sets[waits].Epoch}})
	if !ok {
		t.Fatal("they were not renewed")
	}
	n13, _ := next.Node(13)
	if s := next.Sets[back]; s.Epoch != next.Epoch || len(s.Joining)+len(s.Due) > 0 || !slices.Equal(s.Strays, []unkai.Seat{n13.Seat}) || !slices.Equal(s.Replicas, top.Sets[back].Replicas) {
		t.Errorf("%+v", s)
	}
	if s := next.Sets[waits]; s.Epoch != next.Epoch || len(s.Due) == 0 {
		t.Errorf("%+v", s)
	}
	if was, is := top.Back(), next.Back(); was != 0 || is != 1 {
		t.Errorf("%d were sent back, and then %d", was, is)
	}
	next = ended(t, next, nil)
	if h := next.History[0]; h.Outcome != topology.Done || h.Moved != planned {
		t.Errorf("planned %+v: %+v", planned, h)
	}
}
