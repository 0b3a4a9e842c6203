package disk

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"unkai"
	"unkai/internal/store"
	"unkai/internal/store/storetest"
)

// eager makes tables of whatever is brought.
func eager(e *Engine) *Engine {
	e.tables.least, e.tables.many = 1, 1
	return e
}

// brought are new records of one bucket, with the ledger's keys, in order.
func brought(l *ledger, b unkai.Bucket, from, n int) (all []store.Entry, d bringing) {
	first := unkai.MakeBallot(1, 1)
	d.l = l
	for i := from; len(all) < n; i++ {
		key := fmt.Sprint("new-", i)
		if h := testHash(key); unkai.Bucket(h%storetest.Buckets) == b {
			all = append(all, store.Entry{Hash: h, Key: []byte(key), Record: crashRecord(key, unkai.MakeBallot(1, 1))})
			d.keys = append(d.keys, key)
			l.written[key] = first
		}
	}
	slices.SortFunc(all, func(x, y store.Entry) int {
		if inOrder(&x, &y) {
			return -1
		}
		return 1
	})
	return all, d
}

// held runs f while nothing is committed: all that it writes is one group.
func held(e *Engine, f func()) {
	began, release, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		_ = e.exclusive(func() error { close(began); <-release; return nil })
	}()
	select {
	case <-began:
	case <-ended: // the store broke
	}
	f()
	close(release)
}

// writeNext writes the next record of a key.
func writeNext(e *Engine, l *ledger, key string) {
	h, old := testHash(key), l.written[key]
	next := unkai.MakeBallot(old.Counter()+1, 1)
	l.written[key] = next
	e.Write(&store.Write{
		Bucket: unkai.Bucket(h % storetest.Buckets), Hash: h, Key: []byte(key),
		Expect: old, Promised: old, Record: crashRecord(key, next), Done: l,
	})
}

// bringSome brings two buckets in two groups each, in parts that have keys among each other's,
// with writes to some of their keys in the same group and in later ones. In between one of the
// buckets is dropped; and at the end the other, and one that holds nothing, and some of it
// is brought anew.
func bringSome(e *Engine, l *ledger) {
	bringTwice(e, l, func() { _ = l.drop(e, 3) }) // it may be that the store breaks
	_ = l.drop(e, 5)
	_ = l.drop(e, 9)
	all, d := brought(l, 5, 5000, 20)
	bringPart(e, l, 5, all, d)
}

// bringPart notes of which keys nothing was written: it is told of the rest only.
func bringPart(e *Engine, l *ledger, b unkai.Bucket, part []store.Entry, d bringing) {
	left := e.WriteNew(b, part, nil, &store.Write{Done: d})
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, at := range left {
		delete(l.acked, string(part[at].Key))
	}
}

func bringTwice(e *Engine, l *ledger, between func()) {
	for round := range 2 {
		if round > 0 {
			between()
		}
		held(e, func() {
			for _, b := range []unkai.Bucket{3, 5} {
				all, d := brought(l, b, 1000*round, 40)
				odd, even := bringing{l: l}, bringing{l: l}
				var parts [2][]store.Entry
				for i, x := range all {
					parts[i%2] = append(parts[i%2], x)
					if i%2 == 0 {
						even.keys = append(even.keys, string(x.Key))
					} else {
						odd.keys = append(odd.keys, string(x.Key))
					}
				}
				for i, d := range []bringing{even, odd} {
					bringPart(e, l, b, parts[i], d)
				}
				for _, key := range d.keys[:5] {
					writeNext(e, l, key)
				}
			}
		})
		for i := range 5 {
			writeNext(e, l, fmt.Sprint("other-", i))
		}
	}
}

// stray are files of tables that were never taken.
func stray(t *testing.T, fs vfs.FS) (out []string) {
	t.Helper()
	names, err := fs.List("store")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if isIncoming(n) {
			out = append(out, n)
		}
	}
	return out
}

// cutter cuts the power before the n-th operation that changes something.
type cutter struct {
	mem   *vfs.MemFS
	at    int64
	rng   *rand.Rand
	keep  int
	l     *ledger
	n     atomic.Int64
	armed atomic.Bool
	once  sync.Once
	acked map[string]unkai.Ballot
	gone  map[string]bool
	left  *vfs.MemFS
}

func (c *cutter) String() string { return "cutter" }

func (c *cutter) MaybeError(op errorfs.Op) error {
	if c.armed.Load() && anyWrite(op) && c.n.Add(1) >= c.at {
		c.once.Do(func() {
			c.acked = c.l.snapshot() // first: what is told later is not asked for
			c.l.mu.Lock()
			c.gone = maps.Clone(c.l.dropped)
			c.l.mu.Unlock()
			c.left = c.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: c.keep, RNG: c.rng})
			c.l.mu.Lock()
			for key := range c.l.gone { // a drop may have begun meanwhile
				delete(c.acked, key)
			}
			c.l.mu.Unlock()
		})
	}
	return nil
}

// TestPowerCutWithTables cuts the power at each operation while tables are brought.
func TestPowerCutWithTables(t *testing.T) {
	for at := int64(1); ; at++ {
		cut := false
		for _, keep := range []int{0, 100, 50} {
			mem, l := vfs.NewCrashableMem(), newLedger()
			c := &cutter{mem: mem, at: at, keep: keep, l: l, rng: rand.New(rand.NewPCG(uint64(at), uint64(keep)))}
			e := eager(mustOpen(t, small(errorfs.Wrap(mem, c))))
			for i := range 5 {
				writeNext(e, l, fmt.Sprint("other-", i))
			}
			barrier(t, e)
			c.armed.Store(true)
			bringSome(e, l)
			barrier(t, e)
			c.armed.Store(false)
			if e.tables.made.Load() == 0 {
				t.Fatal("no table was made")
			}
			if l.failed != nil {
				t.Fatal(l.failed)
			}
			checkSurvivors(t, e, l.written, l.ever(l.dropped))
			if s := stray(t, mem); len(s) > 0 {
				t.Errorf("left over: %v", s)
			}
			mustClose(t, e)
			if c.left == nil {
				continue
			}
			cut = true
			for range 2 {
				e = mustOpen(t, small(c.left))
				checkSurvivors(t, e, c.acked, l.ever(c.gone))
				if s := stray(t, c.left); len(s) > 0 {
					t.Errorf("left over: %v", s)
				}
				mustClose(t, e)
			}
			if t.Failed() {
				t.Fatalf("at the %dth, %d%% of what was not synced", at, keep)
			}
		}
		if !cut {
			t.Logf("%d operations", at-1)
			return
		}
	}
}

// TestTablesFail lets each operation fail while tables are brought. Everybody is told once; of
// a full disk only the file of the table need know.
func TestTablesFail(t *testing.T) {
	incomingOnly := func(op errorfs.Op) bool {
		return anyWrite(op) && op.Kind != errorfs.OpRemove && strings.Contains(op.Path, incoming)
	}
	for _, c := range []struct {
		name   string
		kinds  func(errorfs.Op) bool
		err    error
		lasts  bool
		whole  bool // the store goes on
		unread bool // nothing is dropped: what cannot be read then need not be counted
	}{
		{"no room for tables", incomingOnly, syscall.ENOSPC, true, true, false},
		{"a bad place for tables", incomingOnly, syscall.EIO, false, false, false},
		{"links fail", func(op errorfs.Op) bool { return op.Kind == errorfs.OpLink }, syscall.EPERM, true, true, false},
		{"EIO on anything", anyWrite, syscall.EIO, false, false, false},
		{"EIO on anything, lasting", anyWrite, syscall.EIO, true, false, false},
		{"tables cannot be read", func(op errorfs.Op) bool {
			return op.Kind.ReadOrWrite() == errorfs.OpIsRead && strings.HasSuffix(op.Path, ".sst")
		}, syscall.EIO, true, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			for at := int64(1); ; at++ {
				p := &trap{kinds: c.kinds, at: at, lasts: c.lasts, err: c.err}
				bring := bringSome
				if c.unread {
					bring = func(e *Engine, l *ledger) { bringTwice(e, l, func() {}) }
				}
				testTablesFail(t, p, c.whole, bring)
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

func testTablesFail(t *testing.T, p *trap, whole bool, bring func(*Engine, *ledger)) {
	mem, l := vfs.NewMem(), newLedger()
	e := eager(mustOpen(t, small(errorfs.Wrap(mem, p))))
	for i := range 5 {
		writeNext(e, l, fmt.Sprint("other-", i))
	}
	barrier(t, e)
	p.armed.Store(true)
	bring(e, l)
	d := newWaiter()
	e.Barrier(&store.Write{Done: d})
	err := d.wait()
	p.armed.Store(false)
	if whole && (err != nil || e.broken.Load()) {
		t.Errorf("the store broke: %v", err)
	}
	if s := stray(t, mem); whole && len(s) > 0 {
		t.Errorf("left over: %v", s)
	}
	if err := e.Close(); e.broken.Load() != errors.Is(err, store.ErrBroken) { // background work may have broken it
		t.Error(err)
	}
	e = mustOpen(t, small(mem))
	checkSurvivors(t, e, l.snapshot(), l.ever(l.dropped))
	if s := stray(t, mem); len(s) > 0 {
		t.Errorf("left over: %v", s)
	}
	mustClose(t, e)
}

// What is dropped right after it was brought is gone, and what is brought after a drop is not.
func TestTablesAndDrops(t *testing.T) {
	mem, l := vfs.NewCrashableMem(), newLedger()
	e := eager(mustOpen(t, small(mem)))
	for range 3 {
		all, d := brought(l, 3, 0, 50)
		if left := e.WriteNew(3, all, nil, &store.Write{Done: d}); len(left) > 0 {
			t.Fatal(left)
		}
		if err := e.Drop(3); err != nil {
			t.Fatal(err)
		}
		if st := e.Stats(); st.Items+st.Tombstones+st.Bytes != 0 {
			t.Errorf("after a drop: %+v", st)
		}
		checkCounts(t, e)
	}
	all, d := brought(l, 3, 0, 50)
	e.WriteNew(3, all, nil, &store.Write{Done: d})
	barrier(t, e)
	crashed := mem.CrashClone(vfs.CrashCloneCfg{})
	mustClose(t, e)
	e = mustOpen(t, small(crashed))
	defer mustClose(t, e)
	checkSurvivors(t, e, l.snapshot(), l.written)
	if st := e.Stats(); st.Items+st.Tombstones != 50 || st.Tombstones != 0 {
		t.Errorf("%+v", st)
	}
}

// Tombstones are counted as such, before and after the store was opened again.
func TestTablesCountTombstones(t *testing.T) {
	mem := vfs.NewMem()
	e := eager(mustOpen(t, small(mem)))
	at, done := unkai.MakeBallot(1, 1), make(toldTo, 1)
	var all []store.Entry
	for hash := range uint64(300) {
		rec := store.Record{Ballot: at, Promise: at, Tombstone: true}
		if hash%3 == 0 {
			rec = benchRecord(at, []byte("v"))
		}
		all = append(all, store.Entry{Hash: hash, Key: []byte("k"), Record: rec})
	}
	e.WriteNew(1, all, nil, &store.Write{Done: done})
	if w := <-done; w.Err != nil || e.tables.made.Load() == 0 {
		t.Fatal(w.Err, e.tables.made.Load())
	}
	for range 2 {
		if st := e.Stats(); st.Items != 100 || st.Tombstones != 200 || st.Bytes != 200 {
			t.Errorf("%+v", st)
		}
		checkCounts(t, e)
		mustClose(t, e)
		e = mustOpen(t, small(mem))
	}
	mustClose(t, e)
}

// A table goes to where it stays, also between the records of another one, and no memtable is
// flushed for it; what lies among records that are there goes through the log.
func TestTablesStay(t *testing.T) {
	e := eager(mustOpen(t, small(vfs.NewMem())))
	defer mustClose(t, e)
	at, done := unkai.MakeBallot(1, 1), make(toldTo, 16)
	bring := func(b unkai.Bucket, from, step, n uint64) {
		var all []store.Entry
		for i := range n {
			all = append(all, store.Entry{Hash: from + i*step, Key: []byte("k"), Record: benchRecord(at, []byte("v"))})
		}
		if left := e.WriteNew(b, all, nil, &store.Write{Done: done}); len(left) > 0 {
			t.Fatal(left)
		}
	}
	group := func(want int64, f func(), n int) {
		t.Helper()
		before := e.tables.made.Load()
		held(e, f)
		for range n {
			if w := <-done; w.Err != nil {
				t.Fatal(w.Err)
			}
		}
		if got := e.tables.made.Load() - before; got != want {
			t.Errorf("%d tables, want %d", got, want)
		}
	}
	group(1, func() { bring(1, 0, 1, 100); bring(2, 0, 1, 100); bring(7, 0, 1, 100) }, 3) // nothing in between
	group(2, func() { bring(1, 1000, 1, 100); bring(2, 1000, 1, 100) }, 2)                // bucket 2 begins there
	group(2, func() { bring(1, 5000, 10, 100); bring(1, 5005, 10, 100); bring(6, 0, 1, 100) }, 3)
	group(0, func() { bring(6, 1<<40, 1, 0) }, 1)
	e.Write(&store.Write{Bucket: 4, Hash: 500, Key: []byte("k"), Record: benchRecord(at, nil), Done: done})
	<-done
	group(1, func() { bring(4, 600, 1, 100); bring(4, 499, 2, 2) }, 2) // the second has it among its own
	m := e.db.Metrics()
	if m.Levels[0].TablesIngested != 0 || m.Levels[6].TablesIngested != 6 || m.Flush.AsIngestCount != 0 || m.MemTable.Count != 1 {
		t.Errorf("%v", m)
	}
	checkCounts(t, e)
}

// There is no table of what is too little, none when there are many already, and none where
// the log may lose what it would follow on.
func TestTablesNotMade(t *testing.T) {
	for name, set := range map[string]func(*Engine){
		"little of a bucket": func(e *Engine) { e.tables.least = 1 << 20 },
		"little at all":      func(e *Engine) { e.tables.many = 1 << 20 },
		"crowded":            func(e *Engine) { e.tables.spared.Store(-smallTables - 1); e.used() },
		"weak policy":        func(e *Engine) { e.cfg.Sync = Interval },
	} {
		t.Run(name, func(t *testing.T) {
			e := eager(mustOpen(t, small(vfs.NewMem())))
			set(e)
			l := newLedger()
			bringSome(e, l)
			barrier(t, e)
			if n := e.tables.made.Load(); n > 0 {
				t.Errorf("%d tables", n)
			}
			checkSurvivors(t, e, l.written, l.written)
			mustClose(t, e)
		})
	}
	var m pebble.Metrics
	m.Levels[6].TablesCount, m.Levels[6].TablesSize = smallTables+11, 10*tableSize
	if !crowded(&m, 0) {
		t.Error("it is not crowded")
	}
	if m.Levels[5].TablesSize = tableSize; crowded(&m, 0) {
		t.Error("it is crowded")
	}
}

// meanwhile does something once when a checkpoint has begun to make its directory.
type meanwhile struct {
	do   func()
	once sync.Once
}

func (m *meanwhile) String() string { return "meanwhile" }

func (m *meanwhile) MaybeError(op errorfs.Op) error {
	if op.Kind == errorfs.OpMkdirAll && op.Path == "copy" { // the tables are looked at before
		m.once.Do(m.do)
	}
	return nil
}

// A checkpoint has all that it counts, whatever is brought meanwhile.
func TestTablesAndCheckpoint(t *testing.T) {
	mem, l, m := vfs.NewMem(), newLedger(), &meanwhile{}
	e := eager(mustOpen(t, small(errorfs.Wrap(mem, m))))
	defer mustClose(t, e)
	m.do = func() {
		bringSome(e, l)
		barrier(t, e)
	}
	if err := e.Checkpoint("copy"); err != nil {
		t.Fatal(err)
	}
	if len(l.acked) == 0 {
		t.Error("nothing was brought meanwhile")
	}
	cfg := small(mem)
	cfg.Dir = "copy"
	c := mustOpen(t, cfg)
	checkCounts(t, c)
	mustClose(t, c)
	bringMore, d := brought(l, 7, 0, 50)
	e.WriteNew(7, bringMore, nil, &store.Write{Done: d})
	barrier(t, e)
	if e.tables.made.Load() == 0 {
		t.Error("no tables are made after it")
	}
}

// Where it cannot be read what is there, what is new is written all the same; and nobody
// looks at what is elsewhere.
func TestTablesBesideUnreadable(t *testing.T) {
	for _, c := range []struct {
		to   []unkai.Bucket
		made bool
	}{{[]unkai.Bucket{3, 7}, false}, {[]unkai.Bucket{3}, true}} {
		mem, l := vfs.NewMem(), newLedger()
		e := eager(mustOpen(t, small(mem)))
		for _, b := range []unkai.Bucket{5, 6} { // who opens the store looks at the last
			all, d := brought(l, b, 0, 50)
			e.WriteNew(b, all, nil, &store.Write{Done: d})
			barrier(t, e)
		}
		mustClose(t, e)
		var old []string
		names, err := mem.List("store")
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			if strings.HasSuffix(n, ".sst") {
				old = append(old, n)
			}
		}
		reads := func(op errorfs.Op) bool {
			return op.Kind.ReadOrWrite() == errorfs.OpIsRead && slices.Contains(old, mem.PathBase(op.Path))
		}
		p := &trap{kinds: reads, at: 1, lasts: true, err: syscall.EIO}
		e = eager(mustOpen(t, small(errorfs.Wrap(mem, p))))
		held(e, func() {
			for _, b := range c.to {
				all, d := brought(l, b, 0, 50)
				if left := e.WriteNew(b, all, nil, &store.Write{Done: d}); len(left) > 0 {
					t.Error(left)
				}
			}
			p.armed.Store(true)
		})
		barrier(t, e)
		p.armed.Store(false)
		if made := e.tables.made.Load() > 0; made != c.made || p.sprung.Load() == c.made {
			t.Errorf("%v: tables %v, something was looked at %v", c.to, made, p.sprung.Load())
		}
		checkSurvivors(t, e, l.written, l.written)
		mustClose(t, e)
	}
}

// badAndFull lets one table find a bad place, and the others no room.
type badAndFull struct {
	armed atomic.Bool
	n     atomic.Int64
}

func (b *badAndFull) String() string { return "bad and full" }

func (b *badAndFull) MaybeError(op errorfs.Op) error {
	switch {
	case !b.armed.Load() || op.Kind != errorfs.OpFileSync || !strings.Contains(op.Path, incoming):
		return nil
	case b.n.Add(1) == 1:
		return syscall.EIO
	}
	return syscall.ENOSPC
}

// A disk that fails is not believed, though it is full as well.
func TestTablesFindBadAndFull(t *testing.T) {
	b := &badAndFull{}
	e := eager(mustOpen(t, small(errorfs.Wrap(vfs.NewMem(), b))))
	done := make(toldTo, 3)
	e.Write(&store.Write{Bucket: 4, Hash: 1, Key: []byte("k"), Record: benchRecord(1<<16, nil), Done: done})
	<-done
	b.armed.Store(true)
	held(e, func() {
		for _, bucket := range []unkai.Bucket{3, 5} {
			all, _ := brought(newLedger(), bucket, 0, 50)
			e.WriteNew(bucket, all, nil, &store.Write{Done: done})
		}
	})
	for range 2 {
		if w := <-done; !errors.Is(w.Err, store.ErrBroken) {
			t.Error(w.Err)
		}
	}
	if n := b.n.Load(); n != 2 {
		t.Errorf("%d tables were synced", n)
	}
	if err := e.Close(); !errors.Is(err, store.ErrBroken) {
		t.Error(err)
	}
}

// Nobody waits for a flush that finds no room, whatever is dropped and brought meanwhile.
func TestTablesWaitForNoFlush(t *testing.T) {
	p := &trap{kinds: func(op errorfs.Op) bool {
		return op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".sst") && !strings.Contains(op.Path, incoming)
	}, at: 1, lasts: true, err: syscall.ENOSPC}
	e := eager(mustOpen(t, small(errorfs.Wrap(vfs.NewMem(), p))))
	defer mustClose(t, e)
	p.armed.Store(true)
	defer p.armed.Store(false) // or the store would not close
	limit := time.Now().Add(time.Minute)
	for i := 0; i < 8 || !p.sprung.Load() && time.Now().Before(limit); i++ { // flushes take their time
		if err := e.Drop(3); err != nil {
			t.Fatal(err)
		}
		all, _ := brought(newLedger(), 3, 0, 50)
		done := make(toldTo, 1)
		if left := e.WriteNew(3, all, nil, &store.Write{Done: done}); len(left) > 0 {
			t.Fatal(left)
		}
		select {
		case w := <-done:
			if w.Err != nil {
				t.Fatal(w.Err)
			}
		case <-time.After(time.Minute):
			t.Fatal("it waits for a flush")
		}
	}
	if !p.sprung.Load() || e.tables.made.Load() == 0 {
		t.Error("nothing was flushed, or no table was made")
	}
}

// Who closes a store leaves the counts in full, also those that a crash has not.
func TestTablesCountedAtTheEnd(t *testing.T) {
	mem := vfs.NewCrashableMem()
	for _, crash := range []bool{false, true} {
		e := eager(mustOpen(t, small(mem)))
		all, _ := brought(newLedger(), 3, 0, 50)
		if crash {
			all, _ = brought(newLedger(), 5, 0, 50)
		}
		done := make(toldTo, 1)
		e.WriteNew(unkai.Bucket(all[0].Hash%storetest.Buckets), all, nil, &store.Write{Done: done})
		<-done
		if crash {
			left := mem.CrashClone(vfs.CrashCloneCfg{})
			mustClose(t, e)
			mem = left
			mustClose(t, mustOpen(t, small(mem)))
		} else {
			mustClose(t, e)
		}
		e = mustOpen(t, small(mem))
		v, closer, err := e.db.Get(countsKey)
		if err != nil {
			t.Fatal(err)
		}
		var c counts
		if _, key, err := c.decode(slices.Clone(v)); err != nil || key != nil {
			t.Errorf("after a crash %v: %q, %v", crash, key, err)
		}
		if err := closer.Close(); err != nil {
			t.Error(err)
		}
		checkCounts(t, e)
		mustClose(t, e)
	}
}
