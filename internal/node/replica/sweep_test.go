package replica

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

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

// A record is not forgotten where its bucket's floor would rise higher than others believe.
func TestNoFloorOutOfReach(t *testing.T) {
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
	s := &Sweeper{
		Replica: r, Now: func() int64 { return 0 },
		Level: func(_ context.Context, _ unkai.Bucket, gone []Gone) []Hold { return make([]Hold, len(gone)) },
	}
	for _, c := range []struct {
		key     string
		counter uint64
		forgot  bool
	}{{"low", HighestFloor, true}, {"high", HighestFloor + 1, false}} {
		hash := top.Space().Hash([]byte(c.key))
		call := &Call{Epoch: top.Epoch, Bucket: top.Space().Bucket(hash), Hash: hash, Key: []byte(c.key), Ballot: unkai.MakeBallot(c.counter, 1)}
		if !r.Accept(call) || call.Status != OK {
			t.Fatalf("%+v", call)
		}
		if err := s.Sweep(t.Context(), call.Bucket); err != nil {
			t.Fatal(err)
		}
		if floor := e.Floor(call.Bucket); (floor != 0) != c.forgot {
			t.Errorf("%s: the floor is %v", c.key, floor)
		}
	}
}

// A tombstone that waits for a node is looked at again soon after that has come back, and
// not only when the sweeper, which comes less and less often, would.
func TestWhoComesBackIsNotWaitedForAnyLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, err := memory.Open(memory.Config{Buckets: 16})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = e.Close() }()
		top := threeNodes(t)
		r := New(e, 1, func() *topology.Topology { return top })
		hash := top.Space().Hash([]byte("key"))
		b := top.Space().Bucket(hash)
		if c := (&Call{Epoch: top.Route(b).Epoch, Bucket: b, Hash: hash, Key: []byte("key"), Ballot: 1 << 32}); !r.Accept(c) || c.Status != OK {
			t.Fatalf("%+v", c)
		}
		var alive atomic.Bool
		s := &Sweeper{
			Replica: r, Now: func() int64 { return 1 << 40 }, Alive: func(id unkai.NodeID) bool { return id != 2 || alive.Load() },
			Level: func(_ context.Context, _ unkai.Bucket, gone []Gone) []Hold {
				if alive.Load() {
					return make([]Hold, len(gone))
				}
				return slices.Repeat([]Hold{{HeldAway, 2}}, len(gone))
			},
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { s.Run(ctx); close(ended) }()
		time.Sleep(10*sweepLater + sweepAgain) // as rarely as can be, and not just before a sweep
		if w := s.Waiting(); len(w) != 1 || w[0].Hold != (Hold{HeldAway, 2}) || w[0].Items != 1 {
			t.Errorf("while it is away: %+v", w)
		}
		alive.Store(true)
		if w := s.Waiting(); len(w) != 1 || w[0].Held != HeldSoon {
			t.Errorf("when it is back: %+v", w)
		}
		time.Sleep(sweepAgain + 2*sweepEvery)
		if n := e.Stats().Tombstones; n != 0 {
			t.Errorf("%d tombstones are left", n)
		}
		stop()
		<-ended
	})
}

// threeNodes is a topology of three nodes that hold everything.
func threeNodes(t *testing.T) *topology.Topology {
	t.Helper()
	top := topology.New(7, 16, 3, 2, 2, topology.Node{ID: 1, Weight: 1})
	for id := unkai.NodeID(2); id <= 3; id++ {
		var err error
		if top, err = top.Join(topology.Node{ID: id, Weight: 1}); err != nil {
			t.Fatal(err)
		}
	}
	top, err := top.Attach(2, 3)
	if err != nil {
		t.Fatal(err)
	}
	all := make([]unkai.Bucket, top.Buckets)
	for b := range all {
		all[b] = unkai.Bucket(b)
	}
	top = top.Proceed(all, nil, len(all), nil)
	top = top.Proceed(nil, all, len(all), nil)
	if err := top.Seal(); err != nil {
		t.Fatal(err)
	}
	return &top
}
