package replica_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"unkai"
	"unkai/internal/core/merkle"
	"unkai/internal/core/ring"
	"unkai/internal/core/topology"
	"unkai/internal/node/replica"
	"unkai/internal/store"
	"unkai/internal/store/disk"
	"unkai/internal/store/memory"
)

// houses are a replica over each engine.
func houses(t *testing.T, run func(*testing.T, *house)) {
	t.Run("memory", func(t *testing.T) { run(t, open(t)) })
	t.Run("disk", func(t *testing.T) {
		e, err := disk.Open(disk.Config{Dir: t.TempDir() + "/store", Buckets: buckets, Sync: disk.Off, Cache: 8 << 20})
		if err != nil {
			t.Fatal(err)
		}
		run(t, openOver(t, e))
	})
}

type heard chan struct{}

func (h heard) CallAnswered(*replica.Call) { close(h) }

// wait asks something and waits for the answer.
func wait(c *replica.Call, ask func(*replica.Call) bool) *replica.Call {
	h := make(heard)
	c.Answered = h
	if !ask(c) {
		<-h
	}
	return c
}

// scanned is what a bucket's tree has to be, counted with nothing else going on.
func (h *house) scanned(t *testing.T, b unkai.Bucket, depth int) *merkle.Tree {
	t.Helper()
	tree := merkle.New(4, depth)
	s, err := h.engine.Snapshot(b)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	for e, err := range s.All() {
		if err != nil {
			t.Fatal(err)
		}
		tree.Change(e.Hash, 0, e.Record.Ballot)
	}
	return tree
}

func (h *house) checkTrees(t *testing.T) {
	t.Helper()
	for b := range unkai.Bucket(buckets) {
		tree := h.Tree(b)
		if !tree.Known {
			t.Fatalf("bucket %d is not known", b)
		}
		want := h.scanned(t, b, tree.Depth)
		if tree.Root != want.Root() || tree.Records != want.Records() {
			t.Errorf("bucket %d: %d records and %x, a scan says %d and %x", b, tree.Records, tree.Root, want.Records(), want.Root())
		}
		sums, ok := h.Sums(nil, b, tree.Depth, func(yield func(uint32) bool) {
			for n := range uint32(1) << tree.Depth {
				if !yield(n) {
					return
				}
			}
		})
		if !ok {
			t.Fatalf("bucket %d: no leaves", b)
		}
		for n, s := range sums {
			if s != want.Sum(tree.Depth, uint32(n)) {
				t.Errorf("bucket %d: leaf %d differs from a scan", b, n)
			}
		}
	}
}

// Whatever is written, promised, deleted and purged by many at once while buckets
// are counted again and again: their trees are what a scan says.
func TestTreeIsWhatAScanSays(t *testing.T) {
	houses(t, func(t *testing.T, h *house) {
		for b := range unkai.Bucket(buckets) {
			if err := h.Count(t.Context(), b); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		var writers, others sync.WaitGroup
		for w := range 4 {
			writers.Go(func() {
				r := rand.New(rand.NewPCG(uint64(w), 5))
				for n := uint64(1); ctx.Err() == nil; n++ {
					c := h.call(fmt.Sprint("key", r.IntN(100)))
					c.Ballot = unkai.MakeBallot(n*1000+r.Uint64N(10_000), unkai.Seat(w+1))
					if r.IntN(3) > 0 {
						c.Item = unkai.Item{Value: []byte("v"), CAS: uint64(c.Ballot)}
					}
					if r.IntN(5) == 0 {
						wait(c, h.Prepare)
					} else {
						wait(c, h.Accept)
					}
				}
			})
		}
		var expired []string
		s := h.sweeper(0, true, &expired)
		others.Go(func() {
			for ctx.Err() == nil {
				for b := range unkai.Bucket(buckets) {
					if err := s.Sweep(ctx, b); err != nil && ctx.Err() == nil {
						t.Error(err)
					}
				}
			}
		})
		for range 40 {
			for b := range unkai.Bucket(buckets) {
				if err := h.Count(ctx, b); err != nil {
					t.Error(err)
				}
			}
		}
		cancel()
		writers.Wait()
		others.Wait()
		h.checkTrees(t)
		for i := range 2000 { // and kept without a scan
			h.acceptWait(t, fmt.Sprint("late", i), unkai.MakeBallot(1<<41, 1))
		}
		h.checkTrees(t)
	})
}

func (h *house) acceptWait(t *testing.T, key string, b unkai.Ballot) {
	t.Helper()
	c := h.call(key)
	c.Ballot, c.Item = b, unkai.Item{Value: []byte("v"), CAS: uint64(b)}
	if wait(c, h.Accept); c.Status != replica.OK {
		t.Fatalf("%s: %+v", key, c)
	}
}

// A write that the store refuses is not counted.
func TestRefusedWriteIsNotCounted(t *testing.T) {
	h := openOver(t, &refusing{Engine: memoryEngine(t)})
	h.acceptWait(t, "k", ballot(1))
	c := h.call("k")
	b := c.Bucket
	if err := h.Count(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	before := h.Tree(b)
	h.engine.(*refusing).refuse.Store(true)
	c.Ballot, c.Item = ballot(2), unkai.Item{CAS: 2}
	if wait(c, h.Accept); c.Status != replica.Failed {
		t.Fatalf("%+v", c)
	}
	if got := h.Tree(b); got != before {
		t.Errorf("%+v, before it %+v", got, before)
	}
}

// refusing is a store that becomes full.
type refusing struct {
	store.Engine
	refuse atomic.Bool
}

func (e *refusing) Write(w *store.Write) {
	if !e.refuse.Load() {
		e.Engine.Write(w)
		return
	}
	w.Err = store.ErrFull
	w.Done.WriteDone(w)
}

// A tree grows with its bucket, and takes at most two bytes for each record.
func TestTreeGrows(t *testing.T) {
	h := open(t)
	for b := range unkai.Bucket(buckets) {
		if err := h.Count(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20_000 {
		h.acceptWait(t, fmt.Sprint("key", i), ballot(1))
	}
	grown := 0
	for b := range unkai.Bucket(buckets) {
		if h.Unfit(b) {
			grown++
			if err := h.Count(t.Context(), b); err != nil {
				t.Fatal(err)
			}
		}
		if tree := h.Tree(b); int64(8)<<tree.Depth > 2*tree.Records || h.Unfit(b) {
			t.Errorf("bucket %d: depth %d for %d records", b, tree.Depth, tree.Records)
		}
	}
	if grown != buckets {
		t.Errorf("%d buckets had to grow", grown)
	}
	h.checkTrees(t)
}

// Of a bucket that was dropped it is known that it holds nothing, and what comes later
// is counted; also by a deeper tree, which costs nothing then.
func TestDroppedBucketHoldsNothing(t *testing.T) { houses(t, dropOne) }

func dropOne(t *testing.T, h *house) {
	h.acceptWait(t, "k", ballot(1))
	b := h.call("k").Bucket
	if err := h.Count(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	top := topology.New(7, buckets, 3, 2, 2, topology.Node{ID: 2, Weight: 1})
	if err := top.Seal(); err != nil {
		t.Fatal(err)
	}
	mine := h.top.Load()
	h.top.Store(&top)
	if err := h.Drop(b); err != nil {
		t.Fatal(err)
	}
	h.top.Store(mine)
	if tree := h.Tree(b); !tree.Known || tree.Records != 0 || tree.Root != 0 {
		t.Errorf("%+v", tree)
	}
	if err := h.CountTo(t.Context(), b, 7); err != nil {
		t.Fatal(err)
	}
	h.acceptWait(t, "k", ballot(2))
	if tree, want := h.Tree(b), h.scanned(t, b, 7); tree.Depth != 7 || tree.Records != 1 || tree.Root != want.Root() {
		t.Errorf("%+v, and should have the root %x", tree, want.Root())
	}
}

func TestTreeAllocatesNothing(t *testing.T) {
	h := open(t)
	c := h.call("k")
	if err := h.Count(t.Context(), c.Bucket); err != nil {
		t.Fatal(err)
	}
	n := uint64(0)
	if a := testing.AllocsPerRun(1000, func() {
		n++
		c.Ballot, c.Item = ballot(n), unkai.Item{CAS: n}
		if !h.Accept(c) || c.Status != replica.OK {
			t.Fatal(c)
		}
	}); a != 0 {
		t.Errorf("an accept allocates %v times", a)
	}
}

func BenchmarkAccept(b *testing.B) {
	e, err := memory.Open(memory.Config{Buckets: 1024})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	top := topology.New(7, 1024, 3, 2, 2, topology.Node{ID: 1, Weight: 1})
	if err := top.Seal(); err != nil {
		b.Fatal(err)
	}
	r := replica.New(e, 1, func() *topology.Topology { return &top })
	space := ring.NewSpace(7, 1024)
	const keys = 1 << 16
	calls := make([]replica.Call, keys)
	value := make([]byte, 100)
	for i := range calls {
		key := []byte(fmt.Sprint("a key of some length ", i))
		hash := space.Hash(key)
		calls[i] = replica.Call{Epoch: top.Epoch, Bucket: space.Bucket(hash), Hash: hash, Key: key, Item: unkai.Item{Value: value}}
	}
	n := 0
	accept := func() {
		c := &calls[n%keys]
		n++
		c.Ballot = unkai.MakeBallot(uint64(n), 1)
		c.Item.CAS = uint64(c.Ballot)
		if !r.Accept(c) || c.Status != replica.OK {
			b.Fatal(c)
		}
	}
	for range keys {
		accept()
	}
	countAll(b, r)
	for b.Loop() {
		accept()
	}
}

func countAll(b *testing.B, r *replica.Local) {
	for i := range 1024 {
		if err := r.Count(context.Background(), unkai.Bucket(i)); err != nil {
			b.Fatal(err)
		}
	}
}

// A write that the engine has applied and that is not counted yet when the snapshot
// is taken counts once.
func TestSnapshotAmidAWrite(t *testing.T) {
	e := &pausing{Engine: memoryEngine(t)}
	h := openOver(t, e)
	b := h.call("k").Bucket
	for i := range uint64(200) {
		e.applied, e.resume = make(chan struct{}), make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			h.acceptWait(t, "k", ballot(i+1))
		}()
		<-e.applied
		if err := h.Count(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		<-done
		if tree := h.Tree(b); tree.Records != 1 || tree.Root != h.scanned(t, b, tree.Depth).Root() {
			t.Fatalf("round %d: %+v", i, tree)
		}
	}
}

// pausing is a store in which each write stops after it was applied, until a
// snapshot is taken.
type pausing struct {
	store.Engine
	applied, resume chan struct{}
}

func (e *pausing) Write(w *store.Write) {
	resume := e.resume
	e.Engine.Write(w)
	close(e.applied)
	<-resume
}

func (e *pausing) Snapshot(b unkai.Bucket) (store.Snapshot, error) {
	s, err := e.Engine.Snapshot(b)
	if e.resume != nil {
		close(e.resume)
		e.resume = nil
	}
	return s, err
}
