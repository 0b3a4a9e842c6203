package disk

import (
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"unkai"
	"unkai/internal/store"
)

func mustDrop(t testing.TB, e *Engine, b unkai.Bucket) {
	t.Helper()
	if err := e.Drop(b); err != nil {
		t.Fatal(err)
	}
}

// A drop of what holds nothing writes nothing; of whatever there is it leaves nothing, also
// where that is only a floor, or not durable yet, or cannot be read.
func TestDropOfNothing(t *testing.T) {
	const bucket = 3
	key, at := []byte("k"), unkai.MakeBallot(1, 1)
	write := func(t *testing.T, e *Engine, r store.Record) {
		d := newWaiter()
		e.Write(&store.Write{Bucket: bucket, Hash: 7, Key: key, Record: r, Done: d})
		if err := d.wait(); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name  string
		make  func(*testing.T, *Engine)
		wrote bool
	}{
		{"nothing", func(*testing.T, *Engine) {}, false},
		{"dropped before", func(t *testing.T, e *Engine) { write(t, e, benchRecord(at, key)); mustDrop(t, e, bucket) }, false},
		{"a value", func(t *testing.T, e *Engine) { write(t, e, benchRecord(at, key)) }, true},
		{"a tombstone", func(t *testing.T, e *Engine) { write(t, e, store.Record{Ballot: at, Promise: at, Tombstone: true}) }, true},
		{"a promise", func(t *testing.T, e *Engine) { write(t, e, store.Record{Promise: at}) }, true},
		{"a floor", func(t *testing.T, e *Engine) {
			if err := e.RaiseFloor(bucket, at); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"the floor of a purge", func(t *testing.T, e *Engine) {
			write(t, e, benchRecord(at, key))
			if err := e.Purge(bucket, 7, key, at); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"a damaged record", func(t *testing.T, e *Engine) {
			if err := e.db.Set(appendRecordKey(nil, bucket, 7, key), []byte("?"), pebble.Sync); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"what is no key", func(t *testing.T, e *Engine) {
			from, _ := bucketRange(bucket)
			if err := e.db.Set(append(from, 255), nil, pebble.Sync); err != nil {
				t.Fatal(err)
			}
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			mem := vfs.NewCrashableMem()
			e := mustOpen(t, small(mem))
			c.make(t, e)
			syncs, log := e.Stats().Syncs, e.db.Metrics().WAL.BytesWritten
			mustDrop(t, e, bucket)
			if wrote := e.Stats().Syncs > syncs || e.db.Metrics().WAL.BytesWritten > log; wrote != c.wrote {
				t.Errorf("the drop wrote something: %v", wrote)
			}
			crashed := mem.CrashClone(vfs.CrashCloneCfg{})
			mustClose(t, e)
			e = mustOpen(t, small(crashed))
			defer mustClose(t, e)
			for x, err := range e.Scan(bucket) {
				t.Errorf("left is %+v, %v", x, err)
			}
			if f := e.Floor(bucket); f != 0 {
				t.Errorf("left is the floor %v", f)
			}
			checkCounts(t, e)
		})
	}
}

// What was written before a drop is not there after it, whichever way it was on.
func TestDropAfterWrites(t *testing.T) {
	for _, tables := range []bool{false, true} {
		t.Run(fmt.Sprint("tables=", tables), func(t *testing.T) {
			e := mustOpen(t, small(vfs.NewMem()))
			defer mustClose(t, e)
			if tables {
				eager(e)
			}
			l := newLedger()
			all, d := brought(l, 3, 0, 50)
			dropped := make(chan error, 1)
			held(e, func() {
				if left := e.WriteNew(3, all[1:], nil, &store.Write{Done: d}); len(left) > 0 {
					t.Error(left)
				}
				e.Write(&store.Write{Bucket: 3, Hash: all[0].Hash, Key: all[0].Key, Record: all[0].Record, Done: l})
				go func() { dropped <- e.Drop(3) }()
				for e.gates[3].Load() == nil && len(dropped) == 0 {
					runtime.Gosched()
				}
			})
			if err := <-dropped; err != nil {
				t.Fatal(err)
			}
			if made := e.tables.made.Load() > 0; made != tables || l.failed != nil {
				t.Errorf("tables were made: %v, %v", made, l.failed)
			}
			for x, err := range e.Scan(3) {
				t.Fatalf("%s is left, %v", x.Key, err)
			}
			if f, err := e.Head(3, all[0].Hash, all[0].Key); err != nil || f.Record.Ballot != 0 {
				t.Errorf("%+v, %v", f, err)
			}
			checkCounts(t, e)
		})
	}
}

// A drop comes wholly after a floor that was raised before it.
func TestDropAfterRaisedFloor(t *testing.T) {
	e := mustOpen(t, small(vfs.NewMem()))
	defer mustClose(t, e)
	queued := func(n int) {
		for {
			e.mu.Lock()
			have := len(e.jobs)
			e.mu.Unlock()
			if have >= n {
				return
			}
			runtime.Gosched()
		}
	}
	for n := range 100 {
		at := unkai.MakeBallot(uint64(n+1), 1)
		ended := make(chan error, 2)
		var seen unkai.Ballot
		held(e, func() {
			go func() { ended <- e.RaiseFloor(3, at) }()
			queued(1)
			go func() { ended <- e.exclusive(func() error { seen = e.Floor(3); return nil }) }()
			queued(2)
		})
		for range 2 {
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
		}
		if seen != at {
			t.Fatalf("what came next saw the floor %v, want %v", seen, at)
		}
	}
}

// slowReads lets nobody read a table until it is told to.
type slowReads struct {
	armed   atomic.Bool
	reading chan struct{}
	goOn    chan struct{}
}

func (s *slowReads) String() string { return "slow reads" }

func (s *slowReads) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsRead && strings.HasSuffix(op.Path, ".sst") && s.armed.CompareAndSwap(true, false) {
		close(s.reading)
		<-s.goOn
	}
	return nil
}

// While a drop looks at what there is, others write, but not to its bucket.
func TestDropHoldsNobodyUp(t *testing.T) {
	s := &slowReads{reading: make(chan struct{}), goOn: make(chan struct{})}
	mem, l := vfs.NewMem(), newLedger()
	e := eager(mustOpen(t, small(mem)))
	all, d := brought(l, 3, 0, 50)
	e.WriteNew(3, all, nil, &store.Write{Done: d})
	barrier(t, e)
	mustClose(t, e)
	e = mustOpen(t, small(errorfs.Wrap(mem, s)))
	defer mustClose(t, e)
	s.armed.Store(true)
	dropped, into, beside := make(chan error, 1), newWaiter(), newWaiter()
	go func() { dropped <- e.Drop(3) }()
	<-s.reading
	e.Write(&store.Write{Bucket: 9, Hash: 1, Key: []byte("k"), Record: benchRecord(1<<16, nil), Done: beside})
	select {
	case err := <-beside:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("a write elsewhere waits for it")
	}
	go e.Write(&store.Write{Bucket: 3, Hash: all[0].Hash, Key: all[0].Key, Record: benchRecord(1<<16, nil), Done: into})
	if len(dropped) > 0 {
		t.Error("it was not looked at")
	}
	close(s.goOn)
	if err := <-dropped; err != nil {
		t.Error(err)
	}
	if err := into.wait(); err != nil { // it finds nothing there
		t.Error(err)
	}
	checkCounts(t, e)
}

// BenchmarkDrop drops buckets that hold nothing, as every start does, and large ones. Of
// these the time counts for which somebody waits who writes elsewhere meanwhile.
func BenchmarkDrop(b *testing.B) {
	b.Run("nothing", func(b *testing.B) {
		cfg := small(nil)
		cfg.Dir, cfg.Buckets = b.TempDir(), 1024
		e := mustOpen(b, cfg)
		defer mustClose(b, e)
		syncs := e.Stats().Syncs
		for i := range b.N {
			mustDrop(b, e, unkai.Bucket(i%cfg.Buckets))
		}
		b.ReportMetric(float64(e.Stats().Syncs-syncs)/float64(b.N), "syncs/op")
	})
	b.Run("large", func(b *testing.B) {
		cfg := small(nil)
		cfg.Dir, cfg.Cache = b.TempDir(), 64<<20
		e := mustOpen(b, cfg)
		defer mustClose(b, e)
		var waited time.Duration
		for b.Loop() {
			b.StopTimer()
			copyBucket(b, e, 1, 200_000, 100, noise(1<<17))
			if err := e.db.Flush(); err != nil {
				b.Fatal(err)
			}
			var stop atomic.Bool
			longest := make(chan time.Duration)
			go func() { longest <- writesElsewhere(b, e, &stop) }()
			b.StartTimer()
			mustDrop(b, e, 1)
			b.StopTimer()
			stop.Store(true)
			waited += <-longest
			b.StartTimer()
		}
		b.ReportMetric(float64(waited.Milliseconds())/float64(b.N), "longest-wait-ms")
	})
}

// writesElsewhere writes to another bucket until it is stopped, and tells how long the
// longest write took.
func writesElsewhere(b *testing.B, e *Engine, stop *atomic.Bool) (longest time.Duration) {
	d := newWaiter()
	for n := uint64(1); !stop.Load(); n++ {
		began := time.Now()
		at := e.Stats().Writes
		e.Write(&store.Write{Bucket: 2, Hash: n, Key: copyKey(2, uint64(at)<<20|n), Record: benchRecord(1<<16, nil), Done: d})
		if err := d.wait(); err != nil {
			b.Error(err)
		}
		longest = max(longest, time.Since(began))
	}
	return longest
}
