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

// A bucket that is on its way gets a new epoch anyway, and is left alone.
func TestRenewLeavesWhatMoves(t *testing.T) {
	top := first(t, 3, 2, 2)
	top, err := top.Join(topology.Node{ID: 2, Weight: 1})
	if err != nil {
		t.Fatal(err)
	}
	if top, err = top.Attach(2); err != nil {
		t.Fatal(err)
	}
	if err := top.Seal(); err != nil {
		t.Fatal(err)
	}
	for b := range unkai.Bucket(top.Buckets) {
		if top.Route(b).Moving {
			if _, ok := top.Renew([]topology.Renewal{{Bucket: b, Epoch: top.Route(b).Epoch}}); ok {
				t.Fatalf("bucket %d was renewed on its way", b)
			}
			return
		}
	}
	t.Fatal("nothing moves")
}
