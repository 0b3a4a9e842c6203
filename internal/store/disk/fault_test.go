package disk

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"unkai"
	"unkai/internal/store"
	"unkai/internal/store/storetest"
)

// trap fails the n-th operation of some kinds, and all of them from then on if
// it lasts.
type trap struct {
	kinds  func(errorfs.Op) bool
	at     int64
	lasts  bool
	err    error
	passed atomic.Int64
	armed  atomic.Bool
	sprung atomic.Bool
}

func (p *trap) String() string { return "trap" }

func (p *trap) MaybeError(op errorfs.Op) error {
	if !p.armed.Load() || !p.kinds(op) {
		return nil
	}
	n := p.passed.Add(1)
	if n == p.at || p.lasts && n > p.at {
		p.sprung.Store(true)
		return p.err
	}
	return nil
}

func syncs(op errorfs.Op) bool {
	switch op.Kind {
	case errorfs.OpFileSync, errorfs.OpFileSyncData:
		return true
	}
	return false
}

func fileWrites(op errorfs.Op) bool { return op.Kind == errorfs.OpFileWrite }

func anyWrite(op errorfs.Op) bool { return op.Kind.ReadOrWrite() == errorfs.OpIsWrite }

func manifests(op errorfs.Op) bool { return anyWrite(op) && strings.Contains(op.Path, "MANIFEST") }

// TestFaults lets every write, and every sync, of a small workload fail in its
// turn. Each write ends; what was acknowledged is there; the owner is told.
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name  string
		kinds func(errorfs.Op) bool
		err   error
		every int64
	}{
		{"EIO on sync", syncs, syscall.EIO, 1},
		{"EIO on write", fileWrites, syscall.EIO, 1},
		{"ENOSPC on write", fileWrites, syscall.ENOSPC, 1},
		{"EIO on anything", anyWrite, syscall.EIO, 3},
		{"EIO on manifest", manifests, syscall.EIO, 1},
	} {
		for _, lasts := range []bool{false, true} {
			name := c.name
			if lasts {
				name += ", lasting"
			}
			t.Run(name, func(t *testing.T) {
				for at := int64(1); ; at += c.every {
					p := &trap{kinds: c.kinds, at: at, lasts: lasts, err: c.err}
					testFault(t, p)
					if t.Failed() {
						t.Fatalf("at the %dth", at)
					}
					if !p.sprung.Load() {
						return
					}
				}
			})
		}
	}
}

func testFault(t *testing.T, p *trap) {
	mem := vfs.NewCrashableMem()
	told := make(chan error, 2)
	cfg := small(errorfs.Wrap(mem, p))
	cfg.Failed = func(err error) { told <- err }
	e := mustOpen(t, cfg)
	p.armed.Store(true)
	rng := rand.New(rand.NewPCG(uint64(p.at), 9))

	acked := map[string]unkai.Ballot{}
	written := map[string]unkai.Ballot{}
	done := make(waiter, 1)
	var failure error
	for i := 0; i < 24 && failure == nil; i++ {
		key := fmt.Sprintf("key-%d", rng.IntN(5))
		old := written[key]
		b := unkai.MakeBallot(old.Counter()+1, 1)
		written[key] = b
		h := testHash(key)
		e.Write(&store.Write{
			Bucket: unkai.Bucket(h % storetest.Buckets), Hash: h, Key: []byte(key),
			Expect: old, Promised: old, Record: crashRecord(key, b), Done: done,
		})
		if failure = done.wait(); failure == nil {
			acked[key] = b
		}
		if i == 11 && failure == nil {
			// A flush, for the tables and the manifest. It does not come back
			// when the disk fails for good.
			go func() {
				defer func() { _ = recover() }() // it may come so late that the store is closed
				_, _ = e.db.AsyncFlush()
			}()
		}
	}
	if failure != nil {
		if !errors.Is(failure, store.ErrBroken) {
			t.Errorf("a write failed with %v", failure)
		}
		if err := <-told; !errors.Is(err, store.ErrBroken) {
			t.Errorf("the owner was told %v", err)
		}
		// Everything ends, and with the same word.
		e.Write(&store.Write{Key: []byte("k"), Record: benchRecord(1<<16, nil), Done: done})
		barred := make(waiter, 1)
		e.Barrier(&store.Write{Done: barred})
		_, _, get := e.Get(0, 1, []byte("k"), nil, 0)
		_, snap := e.Snapshot(0)
		_, head := e.Head(0, 1, []byte("k"))
		for what, err := range map[string]error{
			"write": done.wait(), "barrier": barred.wait(), "get": get, "head": head, "snapshot": snap,
			"drop": e.Drop(1), "purge": e.Purge(0, 1, []byte("k"), 0), "checkpoint": e.Checkpoint("copy"),
			"close": e.Close(),
		} {
			if !errors.Is(err, store.ErrBroken) {
				t.Errorf("%s of a broken store: %v", what, err)
			}
		}
		if len(told) != 0 {
			t.Error("the owner was told twice")
		}
	} else if err := e.Close(); err != nil && !p.sprung.Load() {
		t.Errorf("close: %v", err)
	}
	p.armed.Store(false)
	r := mustOpen(t, small(mem.CrashClone(vfs.CrashCloneCfg{})))
	checkSurvivors(t, r, acked, written)
	mustClose(t, r)
}

// TestFaultsInOpen lets every write fail in its turn while a store is opened
// that a crash has left behind: it opens, or says why not, and opens later.
func TestFaultsInOpen(t *testing.T) {
	mem := vfs.NewCrashableMem()
	e := mustOpen(t, small(mem))
	l := newLedger()
	scribble(t, e, l, rand.New(rand.NewPCG(1, 1)), 200)
	barrier(t, e)
	left := mem.CrashClone(vfs.CrashCloneCfg{})
	mustClose(t, e)
	for at := int64(1); ; at++ {
		p := &trap{kinds: anyWrite, at: at, lasts: at%2 == 0, err: syscall.EIO}
		p.armed.Store(true)
		mem := left.CrashClone(vfs.CrashCloneCfg{})
		if e, err := Open(small(errorfs.Wrap(mem, p))); err == nil {
			_ = e.Close() // it may break only now
		}
		sprung := p.sprung.Load()
		p.armed.Store(false)
		e := mustOpen(t, small(mem.CrashClone(vfs.CrashCloneCfg{})))
		checkSurvivors(t, e, l.acked, l.written)
		mustClose(t, e)
		if t.Failed() {
			t.Fatalf("at the %dth", at)
		}
		if !sprung {
			return
		}
	}
}

// TestFaultUnderLoad breaks the disk while many wait: each is told, once.
func TestFaultUnderLoad(t *testing.T) {
	p := &trap{kinds: syncs, at: 20, lasts: true, err: syscall.EIO}
	e := mustOpen(t, small(errorfs.Wrap(vfs.NewCrashableMem(), p)))
	p.armed.Store(true)
	const writers = 16
	ended := make(chan error, writers)
	for i := range writers {
		go func() {
			d := newWaiter()
			for n := uint64(1); ; n++ {
				key := fmt.Sprintf("%d-%d", i, n)
				h := testHash(key)
				e.Write(&store.Write{
					Bucket: unkai.Bucket(h % storetest.Buckets), Hash: h, Key: []byte(key),
					Record: crashRecord(key, unkai.MakeBallot(1, 1)), Done: d,
				})
				if err := d.wait(); err != nil {
					ended <- err
					return
				}
			}
		}()
	}
	for range writers {
		if err := <-ended; !errors.Is(err, store.ErrBroken) {
			t.Error(err)
		}
	}
	if err := e.Close(); !errors.Is(err, store.ErrBroken) {
		t.Errorf("close: %v", err)
	}
}

// shortFS writes half of what it is given, once.
type shortFS struct {
	vfs.FS
	armed atomic.Bool
}

func (s *shortFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := s.FS.Create(name, c)
	return &shortFile{f, s}, err
}

type shortFile struct {
	vfs.File
	fs *shortFS
}

func (f *shortFile) Write(p []byte) (int, error) {
	if f.fs.armed.CompareAndSwap(true, false) {
		n, _ := f.File.Write(p[:len(p)/2])
		return n, syscall.EIO
	}
	return f.File.Write(p)
}

func TestShortWrite(t *testing.T) {
	mem := vfs.NewCrashableMem()
	short := &shortFS{FS: mem}
	e := mustOpen(t, small(short))
	l := newLedger()
	scribble(t, e, l, rand.New(rand.NewPCG(1, 1)), 50)
	barrier(t, e)
	acked := l.snapshot()
	short.armed.Store(true)
	d := newWaiter()
	e.Write(&store.Write{Key: []byte("torn"), Hash: testHash("torn"), Record: crashRecord("torn", 1<<16), Done: d})
	if err := d.wait(); !errors.Is(err, store.ErrBroken) {
		t.Fatalf("a torn write ended with %v", err)
	}
	if err := e.Close(); !errors.Is(err, store.ErrBroken) {
		t.Errorf("close: %v", err)
	}
	for _, percent := range []int{0, 100} {
		r := mustOpen(t, small(mem.CrashClone(vfs.CrashCloneCfg{
			UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(1, 1)),
		})))
		checkSurvivors(t, r, acked, l.written)
		mustClose(t, r)
	}
}

// TestNoRoomAhead: a log that cannot have all its room at once is written all the same.
func TestNoRoomAhead(t *testing.T) {
	ahead := &trap{kinds: func(op errorfs.Op) bool { return op.Kind == errorfs.OpFilePreallocate }, at: 1, lasts: true, err: syscall.ENOSPC}
	ahead.armed.Store(true)
	cfg := small(errorfs.Wrap(vfs.Default, ahead)) // in memory nothing is
	cfg.Dir = filepath.Join(t.TempDir(), "store")
	e := mustOpen(t, cfg)
	l := newLedger()
	scribble(t, e, l, rand.New(rand.NewPCG(1, 1)), 50)
	barrier(t, e)
	acked := l.snapshot()
	if !ahead.sprung.Load() {
		t.Error("nothing was asked for ahead of time")
	}
	mustClose(t, e)
	cfg.FS = vfs.Default
	e = mustOpen(t, cfg)
	checkSurvivors(t, e, acked, l.written)
	mustClose(t, e)
}

// TestFull: little free disk refuses growth and nothing else, and it passes.
func TestFull(t *testing.T) {
	mem := vfs.NewMem()
	const reserve = 1 << 30
	free := func(n uint64) { mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: n, TotalBytes: 10 * reserve}) }
	free(5 * reserve)
	cfg := small(mem)
	cfg.Reserve = reserve
	e := mustOpen(t, cfg)
	defer mustClose(t, e)
	d := newWaiter()
	write := func(key string, expect unkai.Ballot, r store.Record) error {
		e.Write(&store.Write{Key: []byte(key), Hash: testHash(key), Expect: expect, Promised: expect, Record: r, Done: d})
		return d.wait()
	}
	value := func(ballot unkai.Ballot, n int) store.Record {
		return benchRecord(ballot, make([]byte, n))
	}
	if err := write("k", 0, value(1, 100)); err != nil {
		t.Fatal(err)
	}
	if e.Stats().Full {
		t.Error("full with room")
	}

	free(reserve - 1)
	e.space.sample()
	if err := write("new", 0, value(1, 1)); !errors.Is(err, store.ErrFull) {
		t.Errorf("a new record: %v", err)
	}
	if err := write("k", 1, value(2, 101)); !errors.Is(err, store.ErrFull) {
		t.Errorf("a longer value: %v", err)
	}
	if err := write("k", 1, value(2, 100)); err != nil {
		t.Errorf("a value as long: %v", err)
	}
	if err := write("gone", 0, store.Record{Ballot: 1, Promise: 1, Tombstone: true}); err != nil {
		t.Errorf("a tombstone: %v", err)
	}
	if err := e.Purge(0, testHash("gone"), []byte("gone"), 1); err != nil {
		t.Errorf("a purge: %v", err)
	}
	if f, _, err := e.Get(0, testHash("k"), []byte("k"), nil, 0); err != nil || f.Record.Ballot != 2 {
		t.Errorf("a read: %v %v", f.Record.Ballot, err)
	}
	if left := e.WriteNew(1, []store.Entry{{Key: []byte("i"), Record: value(1, 1)}}, nil, &store.Write{Done: d}); len(left) != 1 || d.wait() != nil {
		t.Error("new records at once were written")
	}
	if !e.Stats().Full {
		t.Error("not full")
	}

	free(reserve / 4) // now even a value as long is too much for the log
	e.space.sample()
	if err := write("k", 2, value(3, 100)); !errors.Is(err, store.ErrFull) {
		t.Errorf("a value as long with nearly nothing left: %v", err)
	}

	free(reserve + reserve/8) // not enough to begin again
	e.space.sample()
	if err := write("new", 0, value(1, 1)); !errors.Is(err, store.ErrFull) {
		t.Errorf("growth within the hysteresis: %v", err)
	}
	free(2 * reserve)
	// Nobody calls sample now: it is seen by itself.
	for write("new", 0, value(1, 1)) != nil {
	}
	checkCounts(t, e)
}

// TestFailedMayClose: who is told that the store broke may close it there.
func TestFailedMayClose(t *testing.T) {
	p := &trap{kinds: syncs, at: 1, err: syscall.EIO}
	closed := make(chan error, 1)
	var e *Engine
	cfg := small(errorfs.Wrap(vfs.NewMem(), p))
	cfg.Failed = func(error) { closed <- e.Close() }
	e = mustOpen(t, cfg)
	p.armed.Store(true)
	d := newWaiter()
	e.Write(&store.Write{Key: []byte("k"), Record: benchRecord(1<<16, nil), Done: d})
	if err := d.wait(); !errors.Is(err, store.ErrBroken) {
		t.Error(err)
	}
	if err := <-closed; !errors.Is(err, store.ErrBroken) {
		t.Error(err)
	}
}
