package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"unkai"
	"unkai/internal/store"
	"unkai/internal/store/storetest"
)

// TestNoStaleReads: with a cache that is much too small, so that records go out
// of it and come back all the time, no reader ever sees a ballot older than one
// whose write had returned before the read began, nor takes an unsynced record
// for a durable one.
func TestNoStaleReads(t *testing.T) {
	cfg := small(vfs.NewMem())
	cfg.Cache = 1 // the smallest there is
	e := mustOpen(t, cfg)
	defer mustClose(t, e)
	const keys, writers, readers, rounds = 24, 4, 4, 400
	var applied, durable [keys]atomic.Uint64
	filler := make([]byte, 1500) // a few fill a shard
	var stop atomic.Bool
	var wg, rg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			d := newWaiter()
			for n := uint64(1); n <= rounds; n++ {
				for k := w; k < keys; k += writers {
					h := uint64(k)
					// The value repeats the ballot.
					r := benchRecord(unkai.Ballot(n<<16), binary.LittleEndian.AppendUint64(filler[:len(filler):len(filler)], n))
					e.Write(&store.Write{
						Bucket: unkai.Bucket(k % storetest.Buckets), Hash: h, Key: fmt.Append(nil, k),
						Expect: unkai.Ballot((n - 1) << 16), Promised: unkai.Ballot((n - 1) << 16), Record: r, Done: d,
					})
					applied[k].Store(n)
					if err := d.wait(); err != nil {
						t.Error(err)
						return
					}
					durable[k].Store(n)
				}
			}
		})
	}
	for range readers {
		rg.Go(func() {
			var dst []byte
			for i := 0; !stop.Load(); i++ {
				k := i * 7 % keys
				least := applied[k].Load()
				f, v, err := e.Get(unkai.Bucket(k%storetest.Buckets), uint64(k), fmt.Append(nil, k), dst[:0], 1)
				if err != nil {
					t.Error(err)
					return
				}
				dst = v
				got := f.Record.Ballot.Counter()
				if got < least {
					t.Errorf("key %d is at %d; the write of %d had returned", k, got, least)
					return
				}
				if got != 0 && binary.LittleEndian.Uint64(v[len(v)-8:]) != got {
					t.Errorf("key %d: the value is not that of its ballot", k)
					return
				}
			}
		})
	}
	wg.Wait()
	stop.Store(true)
	rg.Wait()
	if st := e.Stats(); st.CacheMiss == 0 {
		t.Error("the cache was never missed: nothing was tested")
	}
}

// TestSlowRead lets a write, and a purge, and a drop overtake a read from the
// disk between the read and the moment it is believed.
func TestSlowRead(t *testing.T) {
	key := []byte("k")
	for _, c := range []struct {
		name     string
		overtake func(e *Engine) error
		want     unkai.Ballot
	}{
		{"write", func(e *Engine) error {
			d := newWaiter()
			e.Write(&store.Write{Bucket: 1, Hash: 4, Key: key, Expect: 1 << 16, Promised: 1 << 16, Record: benchRecord(2<<16, []byte("new")), Done: d})
			return d.wait()
		}, 2 << 16},
		{"purge", func(e *Engine) error { return e.Purge(1, 4, key, 1<<16) }, 0},
		{"drop", func(e *Engine) error { return e.Drop(1) }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			mem := vfs.NewMem()
			e := mustOpen(t, small(mem))
			d := newWaiter()
			e.Write(&store.Write{Bucket: 1, Hash: 4, Key: key, Record: benchRecord(1<<16, []byte("old")), Done: d})
			if err := d.wait(); err != nil {
				t.Fatal(err)
			}
			mustClose(t, e)
			e = mustOpen(t, small(mem)) // with nothing in the cache
			defer func() { mustClose(t, e) }()
			overtaken := false
			e.loaded = func() {
				if !overtaken {
					overtaken = true
					if err := c.overtake(e); err != nil {
						t.Error(err)
					}
				}
			}
			for range 2 { // and nothing old was remembered
				f, _, err := e.Get(1, 4, key, nil, 0)
				if err != nil || f.Record.Ballot != c.want {
					t.Errorf("found %v, want %v (%v)", f.Record.Ballot, c.want, err)
				}
			}
			if !overtaken {
				t.Error("the record did not come from the disk")
			}
			// A write that reads the state it replaces is as careful.
			mustClose(t, e)
			e = mustOpen(t, small(mem))
			overtaken = false
			e.loaded = func() {
				if !overtaken {
					overtaken = true
					w := newWaiter()
					e.Write(&store.Write{Bucket: 1, Hash: 4, Key: key, Expect: c.want, Promised: c.want, Record: benchRecord(3<<16, nil), Done: w})
					if err := w.wait(); err != nil {
						t.Error(err)
					}
				}
			}
			e.Write(&store.Write{Bucket: 1, Hash: 4, Key: key, Expect: c.want, Promised: c.want, Record: benchRecord(4<<16, nil), Done: d})
			if err := d.wait(); !errors.Is(err, store.ErrConflict) {
				t.Errorf("two writes replaced the same record: %v", err)
			}
			checkCounts(t, e)
		})
	}
}

// heldFS holds back every sync while it is told to.
type heldFS struct {
	vfs.FS
	gate atomic.Pointer[chan struct{}]
}

func (h *heldFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := h.FS.Create(name, c)
	return &heldFile{f, h}, err
}

func (h *heldFS) ReuseForWrite(a, b string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := h.FS.ReuseForWrite(a, b, c)
	return &heldFile{f, h}, err
}

type heldFile struct {
	vfs.File
	h *heldFS
}

func (f *heldFile) SyncData() error {
	if g := f.h.gate.Load(); g != nil {
		<-*g
	}
	return f.File.SyncData()
}

// TestUnsynced holds the disk in the middle of a sync and looks around.
func TestUnsynced(t *testing.T) {
	held := &heldFS{FS: vfs.NewCrashableMem()}
	cfg := small(held)
	cfg.Cache = 1
	e := mustOpen(t, cfg)
	defer mustClose(t, e)
	gate := make(chan struct{})
	held.gate.Store(&gate)

	first, second, barred := newWaiter(), newWaiter(), newWaiter()
	write := func(d waiter, expect unkai.Ballot, r store.Record) {
		e.Write(&store.Write{Bucket: 1, Hash: 4, Key: []byte("k"), Expect: expect, Promised: expect, Record: r, Done: d})
	}
	look := func(ballot unkai.Ballot, unsynced bool) {
		t.Helper()
		f, _, err := e.Get(1, 4, []byte("k"), nil, store.NoAccess)
		if err != nil || f.Record.Ballot != ballot || f.Unsynced != unsynced {
			t.Fatalf("found %v unsynced %v (%v), want %v %v", f.Record.Ballot, f.Unsynced, err, ballot, unsynced)
		}
	}
	write(first, 0, benchRecord(1<<16, make([]byte, 4000)))
	look(1<<16, true)
	// Until the group is in the pebble too, and only the sync is missing.
	for e.db.Metrics().WAL.BytesIn == 0 || e.waiting.Load() == 0 {
	}
	look(1<<16, true)
	write(second, 1<<16, benchRecord(2<<16, []byte("new")))
	look(2<<16, true)
	write(second, 1<<16, benchRecord(2<<16, nil))
	if err := second.wait(); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("a write against what is pending: %v", err)
	}
	e.Barrier(&store.Write{Done: barred})
	if len(first)+len(second)+len(barred) != 0 {
		t.Fatal("something is durable that is not")
	}
	held.gate.Store(nil)
	close(gate)
	for _, d := range []waiter{first, second, barred} {
		if err := d.wait(); err != nil {
			t.Fatal(err)
		}
	}
	look(2<<16, false)
}

// TestBackPressure: what waits is bounded, and flows again.
func TestBackPressure(t *testing.T) {
	held := &heldFS{FS: vfs.NewMem()}
	e := mustOpen(t, small(held))
	defer mustClose(t, e)
	gate := make(chan struct{})
	held.gate.Store(&gate)
	value := make([]byte, 1<<20)
	const n = 2 * maxWaiting >> 20
	d := make(waiter, n)
	for i := range n {
		e.Write(&store.Write{Hash: uint64(i), Key: fmt.Append(nil, i), Record: benchRecord(1<<16, value), Done: d})
	}
	busy := len(d)
	for range busy {
		if err := d.wait(); !errors.Is(err, store.ErrBusy) {
			t.Fatal(err)
		}
	}
	if busy == 0 || busy > n*2/3 {
		t.Errorf("%d of %d were refused", busy, n)
	}
	held.gate.Store(nil)
	close(gate)
	for range n - busy {
		if err := d.wait(); err != nil {
			t.Fatal(err)
		}
	}
	if left := e.waiting.Load(); left != 0 {
		t.Errorf("%d bytes wait for ever", left)
	}
	checkCounts(t, e)
}

func TestAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	e := mustOpen(t, small(vfs.NewMem()))
	defer mustClose(t, e)
	key, value := []byte("some-key"), make([]byte, 100)
	d := newWaiter()
	w := &store.Write{Bucket: 1, Hash: 4, Key: key, Done: d}
	ballot := unkai.Ballot(0)
	write := func() {
		w.Expect, w.Promised, w.Record = ballot, ballot, benchRecord(ballot+1<<16, value)
		ballot += 1 << 16
		e.Write(w)
		if err := d.wait(); err != nil {
			t.Fatal(err)
		}
	}
	write()
	dst := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(1000, func() {
		if f, _, err := e.Get(1, 4, key, dst, 1); err != nil || f.Record.Ballot != ballot {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("a cached get allocates %v times", n)
	}
	if n := testing.AllocsPerRun(1000, func() {
		if f, err := e.Head(1, 4, key); err != nil || f.Record.Ballot != ballot {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("a cached head allocates %v times", n)
	}
	if n := testing.AllocsPerRun(5000, write); n > 0.5 {
		t.Errorf("a write allocates %v times", n)
	}
}
