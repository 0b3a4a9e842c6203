package replica

import (
	"context"
	"testing"

	"unkai"
	"unkai/internal/core/topology"
	"unkai/internal/store/memory"
)

// A tombstone that may be forgotten, but not while its bucket is counted or brought,
// waits for the next sweep.
func TestWhoMayNotPurgeNowComesAgain(t *testing.T) {
	e, err := memory.Open(memory.Config{Buckets: 16})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	top := topology.New(7, 16, 3, 2, 2, topology.Node{ID: 1, Weight: 1})
	if err := top.Seal(); err != nil {
		t.Fatal(err)
	}
	r := New(e, 1, func() *topology.Topology { return &top })
	hash := top.Space().Hash([]byte("key"))
	b := top.Space().Bucket(hash)
	if c := (&Call{Epoch: top.Epoch, Bucket: b, Hash: hash, Key: []byte("key"), Ballot: 1 << 32}); !r.Accept(c) || c.Status != OK {
		t.Fatalf("%+v", c)
	}
	s := &Sweeper{
		Replica: r, Now: func() int64 { return 0 },
		Level: func(_ context.Context, _ unkai.Bucket, gone []Gone) []Hold { return make([]Hold, len(gone)) },
	}
	sweep := func() {
		t.Helper()
		if err := s.Sweep(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if !r.trees[b].mayBulk() {
		t.Fatal("nothing is being purged")
	}
	if sweep(); e.Stats().Tombstones != 1 || r.due[b].Load() == 0 {
		t.Errorf("%d tombstones, due at %d", e.Stats().Tombstones, r.due[b].Load())
	}
	r.trees[b].bulkDone(nil, nil)
	if sweep(); e.Stats().Tombstones != 0 || r.due[b].Load() != 0 {
		t.Errorf("%d tombstones, due at %d", e.Stats().Tombstones, r.due[b].Load())
	}
}

// Of a bucket that is not held nothing is to be healed, also if it was empty already.
func TestDropForgetsTheWounds(t *testing.T) {
	e, err := memory.Open(memory.Config{Buckets: 16})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	top := topology.New(7, 16, 3, 2, 2, topology.Node{ID: 1, Weight: 1})
	if err := top.Seal(); err != nil {
		t.Fatal(err)
	}
	r := New(e, 2, func() *topology.Topology { return &top }) // holds nothing
	r.wounded(3, []byte("key"), 1)
	if err := r.Drop(3); err != nil || r.Wounded() != 0 {
		t.Errorf("%v, %d wounds", err, r.Wounded())
	}
	// Nor is there anything to sweep. Of what a sweep has seen before the next one tells.
	r.due[4].Store(1)
	if err := r.Drop(4); err != nil || r.due[3].Load() != 0 || r.due[4].Load() != 1 || r.due[5].Load() == 0 {
		t.Errorf("%v, due at %d, %d, %d", err, r.due[3].Load(), r.due[4].Load(), r.due[5].Load())
	}
}
