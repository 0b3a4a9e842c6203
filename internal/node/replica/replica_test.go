package replica_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"unkai"
	"unkai/internal/core/ring"
	"unkai/internal/core/topology"
	"unkai/internal/node/replica"
	"unkai/internal/store"
	"unkai/internal/store/memory"
)

const buckets = 16

// house is a replica over a memory store, in a cluster of one.
type house struct {
	*replica.Local
	engine store.Engine
	top    atomic.Pointer[topology.Topology]
	space  ring.Space
}

func open(t *testing.T) *house {
	t.Helper()
	return openOver(t, memoryEngine(t))
}

func memoryEngine(t *testing.T) store.Engine {
	t.Helper()
	e, err := memory.Open(memory.Config{Buckets: buckets})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func openOver(t *testing.T, e store.Engine) *house {
	t.Helper()
	t.Cleanup(func() { _ = e.Close() })
	h := &house{engine: e, space: ring.NewSpace(7, buckets)}
	top := topology.New(7, buckets, 3, 2, 2, topology.Node{ID: 1, Weight: 1})
	if err := top.Seal(); err != nil {
		t.Fatal(err)
	}
	h.top.Store(&top)
	h.Local = replica.New(e, 1, h.top.Load)
	return h
}

func (h *house) call(key string) *replica.Call {
	hash := h.space.Hash([]byte(key))
	return &replica.Call{Epoch: h.top.Load().Epoch, Bucket: h.space.Bucket(hash), Hash: hash, Key: []byte(key)}
}

func (h *house) accept(t *testing.T, key, value string, b unkai.Ballot, expiry int64) *replica.Call {
	t.Helper()
	c := h.call(key)
	c.Ballot = b
	if value != "" {
		c.Item = unkai.Item{Value: []byte(value), CAS: uint64(b), Expiry: expiry}
	}
	if !h.Accept(c) {
		t.Fatal("a memory store answers at once")
	}
	return c
}

func (h *house) read(t *testing.T, key string) *replica.Call {
	t.Helper()
	c := h.call(key)
	if !h.Read(c) {
		t.Fatal("a memory store answers at once")
	}
	return c
}

func ballot(n uint64) unkai.Ballot { return unkai.MakeBallot(n, 1) }

func TestAcceptorsLaw(t *testing.T) {
	h := open(t)
	if c := h.accept(t, "k", "a", ballot(5), 0); c.Status != replica.OK {
		t.Fatalf("%+v", c)
	}
	if c := h.accept(t, "k", "late", ballot(4), 0); c.Status != replica.Refused || c.Seen != ballot(5) {
		t.Errorf("a lower ballot: status %d, seen %v", c.Status, c.Seen)
	}
	if c := h.accept(t, "k", "a", ballot(5), 0); c.Status != replica.OK {
		t.Errorf("the same message again: %d", c.Status)
	}
	if c := h.read(t, "k"); string(c.Buf) != "a" || c.Seen != ballot(5) {
		t.Errorf("%q, seen %v", c.Buf, c.Seen)
	}
}

// A promise keeps lower ballots out, tells what was accepted, and lasts.
func TestPrepare(t *testing.T) {
	h := open(t)
	prepare := func(key string, b unkai.Ballot) *replica.Call {
		c := h.call(key)
		c.Ballot = b
		if !h.Prepare(c) {
			t.Fatal("a memory store answers at once")
		}
		return c
	}
	if c := prepare("new", ballot(3)); c.Status != replica.OK || c.Found.Record.Ballot != 0 {
		t.Fatalf("%+v", c)
	}
	h.accept(t, "k", "a", ballot(5), 0)
	if c := prepare("k", ballot(7)); c.Status != replica.OK || c.Found.Record.Ballot != ballot(5) || string(c.Found.Record.Item.Value) != "a" {
		t.Fatalf("%+v", c)
	}
	for _, key := range []string{"new", "k"} {
		if c := h.accept(t, key, "late", ballot(2), 0); c.Status != replica.Refused {
			t.Errorf("%s: accepted below the promise: %d", key, c.Status)
		}
		if c := prepare(key, ballot(3)); c.Status != replica.Refused {
			t.Errorf("%s: promised less than before: %d", key, c.Status)
		}
	}
	if c := h.read(t, "k"); string(c.Buf) != "a" || c.Seen != ballot(7) {
		t.Errorf("%q, seen %v", c.Buf, c.Seen)
	}
	if c := h.read(t, "new"); c.Found.Record.Ballot != 0 || c.Seen != ballot(3) {
		t.Errorf("%+v", c.Found)
	}
	if c := h.accept(t, "new", "b", ballot(3), 0); c.Status != replica.OK {
		t.Errorf("the promised ballot: %d", c.Status)
	}
}

func TestFence(t *testing.T) {
	h := open(t)
	old := h.call("k")
	next := h.top.Load().Flush()
	if err := next.Seal(); err != nil {
		t.Fatal(err)
	}
	h.top.Store(&next)
	if h.Read(old); old.Status != replica.Fenced {
		t.Errorf("a read of the old epoch: %d", old.Status)
	}
	if old.Epoch != next.Epoch {
		t.Errorf("the answer names epoch %d", old.Epoch)
	}
	old.Epoch, old.Ballot, old.Item = 1, ballot(1), unkai.Item{CAS: 1}
	if h.Accept(old); old.Status != replica.Fenced {
		t.Errorf("an accept of the old epoch: %d", old.Status)
	}
	if n := h.Stats().Fenced; n != 2 {
		t.Errorf("%d fenced", n)
	}
}

func (h *house) sweeper(now int64, may bool, expired *[]string) *replica.Sweeper {
	return &replica.Sweeper{
		Replica: h.Local, Now: func() int64 { return now }, Level: func(_ context.Context, _ unkai.Bucket, gone []replica.Gone) []replica.Hold {
			if may {
				return make([]replica.Hold, len(gone))
			}
			return slices.Repeat([]replica.Hold{{Held: replica.HeldOther, Node: 1}}, len(gone))
		},
		Expire: func(keys [][]byte) {
			for _, k := range keys {
				*expired = append(*expired, string(k))
			}
		},
		Failed: func(unkai.Bucket, error) {},
	}
}

func (h *house) sweepAll(t *testing.T, s *replica.Sweeper) {
	t.Helper()
	for b := range buckets {
		if err := s.Sweep(t.Context(), unkai.Bucket(b)); err != nil {
			t.Fatal(err)
		}
	}
}

// What a purge forgets can neither come back nor lend its ballot to another.
func TestPurgeLeavesAFloor(t *testing.T) {
	h := open(t)
	for i := range 100 {
		h.accept(t, fmt.Sprint("gone", i), "x", ballot(1), 0)
		h.accept(t, fmt.Sprint("gone", i), "", ballot(9), 0)
		h.accept(t, fmt.Sprint("here", i), "x", ballot(1), 0)
	}
	var expired []string
	s := h.sweeper(1000, false, &expired)
	h.sweepAll(t, s)
	if s := h.engine.Stats(); s.Tombstones != 100 || s.Items != 100 {
		t.Fatalf("purged although it may not: %+v", s)
	}
	if w := s.Waiting(); len(w) != 1 || w[0].Held != replica.HeldOther || w[0].Node != 1 || w[0].Items != 100 || w[0].Bytes < 100*6 {
		t.Errorf("what waits is said to be %+v", w)
	}
	s.Level = h.sweeper(0, true, nil).Level
	h.sweepAll(t, s)
	if w := s.Waiting(); len(w) > 0 {
		t.Errorf("nothing waits any more but %+v", w)
	}
	if s := h.engine.Stats(); s.Tombstones != 0 || s.Items != 100 || h.Stats().Purged != 100 {
		t.Fatalf("%+v, %+v", s, h.Stats())
	}
	if c := h.accept(t, "gone7", "late", ballot(1), 0); c.Status != replica.Refused {
		t.Error("a late message brought a purged key back")
	}
	if c := h.read(t, "gone7"); c.Seen < ballot(9) {
		t.Errorf("the next ballot would be after %v only, and %v was used", c.Seen, ballot(9))
	}
	if c := h.accept(t, "gone7", "new", ballot(10), 0); c.Status != replica.OK {
		t.Errorf("a new write is refused: %+v", c)
	}
}

func TestSweepFindsTheExpired(t *testing.T) {
	h := open(t)
	h.accept(t, "soon", "x", ballot(1), 500)
	h.accept(t, "later", "x", ballot(1), 5000)
	var expired []string
	h.sweepAll(t, h.sweeper(499, true, &expired))
	if len(expired) != 0 {
		t.Fatalf("%q", expired)
	}
	h.sweepAll(t, h.sweeper(500, true, &expired))
	if len(expired) != 1 || expired[0] != "soon" {
		t.Fatalf("%q", expired)
	}
}

func TestSweepRemovesTheFlushed(t *testing.T) {
	h := open(t)
	h.accept(t, "old", "x", ballot(1), 0)
	next := h.top.Load().Flush()
	if err := next.Seal(); err != nil {
		t.Fatal(err)
	}
	h.top.Store(&next)
	h.accept(t, "new", "x", ballot(1), 0)
	var expired []string
	h.sweepAll(t, h.sweeper(0, true, &expired))
	if c := h.read(t, "old"); c.Found.Record.Ballot != 0 {
		t.Error("the flushed record is still there")
	}
	if c := h.read(t, "new"); c.Found.Record.Ballot == 0 {
		t.Error("what came after the flush is gone")
	}
}

// Who is brought what is left must hear that there was something else.
func TestEachLeavesTheFloorAboveTheFlushed(t *testing.T) {
	h := open(t)
	h.accept(t, "old", "x", ballot(5), 0)
	b := h.call("old").Bucket
	each := func() {
		t.Helper()
		if err := h.Each(b, func(*store.Entry) bool { return true }); err != nil {
			t.Fatal(err)
		}
	}
	if each(); h.Floor(b) != 0 {
		t.Errorf("the floor is %v before the flush", h.Floor(b))
	}
	next := h.top.Load().Flush()
	if err := next.Seal(); err != nil {
		t.Fatal(err)
	}
	h.top.Store(&next)
	if each(); h.Floor(b) < ballot(5) {
		t.Errorf("the floor is %v", h.Floor(b))
	}
}

// A sweep that purges while the same keys are written again and again.
func TestPurgeBesideWrites(t *testing.T) {
	h := open(t)
	var expired []string
	s := h.sweeper(0, true, &expired)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			for b := range buckets {
				if err := s.Sweep(ctx, unkai.Bucket(b)); err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}
		}
	}()
	highest := unkai.Ballot(0)
	for i := range uint64(20_000) {
		seen := h.read(t, "k").Seen
		if seen < highest {
			t.Fatalf("ballots went back from %v to %v", highest, seen)
		}
		value := ""
		if i%2 == 0 {
			value = "x"
		}
		b := unkai.MakeBallot(seen.Counter()+1, 1)
		if c := h.accept(t, "k", value, b, 0); c.Status != replica.OK {
			t.Fatalf("round %d: %+v", i, c)
		}
		highest = b
		if c := h.read(t, "k"); value != "" && string(c.Buf) != value {
			t.Fatalf("round %d: lost what was just written", i)
		}
	}
	cancel()
	<-done
}

// Left alone, the sweeper finds what is due by itself, and sleeps when nothing is.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		h.accept(t, "k", "x", ballot(1), 0)
		h.accept(t, "k", "", ballot(2), 0)
		var expired []string
		ctx, cancel := context.WithCancel(t.Context())
		s := h.sweeper(0, true, &expired)
		s.Now = func() int64 { return time.Now().UnixMilli() }
		done := make(chan struct{})
		go func() { s.Run(ctx); close(done) }()
		time.Sleep(3 * time.Second)
		if h.Stats().Purged != 1 {
			t.Error("the tombstone is still there")
		}
		cancel()
		<-done
	})
}
