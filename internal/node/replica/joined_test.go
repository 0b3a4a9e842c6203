package replica_test

import (
	"fmt"
	"testing"

	"unkai"
	"unkai/internal/core/topology"
	"unkai/internal/node/replica"
)

// A sweep that began on a node alone removes no tombstone of a cluster that others
// have joined meanwhile: it may be all that says that the key was deleted.
func TestASweepEndsWhenOthersJoin(t *testing.T) {
	h := open(t)
	for i := range 3000 {
		h.accept(t, fmt.Sprint("old", i), "x", ballot(1), 500)
	}
	joined := false
	s := &replica.Sweeper{
		Replica: h.Local, Now: func() int64 { return 1000 }, Failed: func(unkai.Bucket, error) {},
		MayPurge: func(unkai.Bucket) bool { return len(h.top.Load().Nodes) == 1 },
		Expire: func([][]byte) {
			if joined {
				return
			}
			joined = true // meanwhile two nodes join and get everything
			top := *h.top.Load()
			var err error
			for id := unkai.NodeID(2); id <= 3; id++ {
				if top, err = top.Join(topology.Node{ID: id, Weight: 1}); err != nil {
					t.Fatal(err)
				}
			}
			if top, err = top.Attach(2, 3); err != nil {
				t.Fatal(err)
			}
			all := make([]unkai.Bucket, buckets)
			for b := range all {
				all[b] = unkai.Bucket(b)
			}
			top = top.Switch(all, nil)
			top = top.Release(all)
			if err := top.Seal(); err != nil {
				t.Fatal(err)
			}
			h.top.Store(&top)
			for i := range 3000 { // deleted in the cluster of three
				if c := h.accept(t, fmt.Sprint("del", i), "", ballot(9), 0); c.Status != replica.OK {
					t.Fatal(c.Status, c.Err)
				}
			}
		},
	}
	if err := s.Sweep(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	if n := h.Stats().Purged; n != 0 {
		t.Errorf("%d tombstones of a cluster of three were purged at one replica", n)
	}
}
