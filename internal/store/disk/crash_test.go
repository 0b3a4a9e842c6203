package disk

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"unkai"
	"unkai/internal/store"
	"unkai/internal/store/storetest"
)

// ledger is what a crash may not take back: for every key the last ballot that
// was acknowledged, and the last that was written.
type ledger struct {
	mu      sync.Mutex
	acked   map[string]unkai.Ballot
	written map[string]unkai.Ballot
	gone    map[string]unkai.Ballot // what was written of keys that a drop took or may have taken
	dropped map[string]bool         // those of them whose drop has ended
	failed  error
}

func newLedger() *ledger {
	return &ledger{
		acked: map[string]unkai.Ballot{}, written: map[string]unkai.Ballot{},
		gone: map[string]unkai.Ballot{}, dropped: map[string]bool{},
	}
}

// WriteDone implements store.Done.
func (l *ledger) WriteDone(w *store.Write) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.Err != nil {
		l.failed = w.Err
		return
	}
	if _, gone := l.gone[string(w.Key)]; !gone {
		l.acked[string(w.Key)] = max(l.acked[string(w.Key)], w.Record.Ballot)
	}
}

func (l *ledger) snapshot() map[string]unkai.Ballot {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := make(map[string]unkai.Ballot, len(l.acked))
	for k, b := range l.acked {
		m[k] = b
	}
	return m
}

// drop drops a bucket. Its keys are not written again.
func (l *ledger) drop(e *Engine, b unkai.Bucket) error {
	var keys []string
	l.mu.Lock()
	for key, last := range l.written {
		if unkai.Bucket(testHash(key)%storetest.Buckets) == b {
			keys = append(keys, key)
			l.gone[key] = last
			delete(l.acked, key)
			delete(l.written, key)
		}
	}
	l.mu.Unlock()
	if err := e.Drop(b); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, key := range keys {
		l.dropped[key] = true
	}
	return nil
}

// ever is the last that was written of all keys; of those that are dropped there is nothing.
func (l *ledger) ever(dropped map[string]bool) map[string]unkai.Ballot {
	all := maps.Clone(l.written)
	for key, last := range l.gone {
		if all[key] = last; dropped[key] {
			all[key] = 0
		}
	}
	return all
}

func testHash(key string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 1099511628211
	}
	return h
}

// crashRecord is the record of a key at a ballot: every third is a tombstone.
func crashRecord(key string, b unkai.Ballot) store.Record {
	r := store.Record{Ballot: b, Promise: b, Epoch: 7}
	if b.Counter()%3 == 0 {
		r.Tombstone = true
		return r
	}
	r.Item.CAS = uint64(b)
	for range 1 + b.Counter()%40 {
		r.Item.Value = fmt.Appendf(r.Item.Value, "%s@%v;", key, b)
	}
	return r
}

// scribble writes n records to random keys, one after the other for each key.
func scribble(t testing.TB, e *Engine, l *ledger, rng *rand.Rand, n int) {
	for range n {
		key := fmt.Sprintf("key-%d", rng.IntN(50))
		old := l.written[key]
		b := unkai.MakeBallot(old.Counter()+1, 1)
		l.written[key] = b
		h := testHash(key)
		e.Write(&store.Write{
			Bucket: unkai.Bucket(h % storetest.Buckets), Hash: h, Key: []byte(key),
			Expect: old, Promised: old, Record: crashRecord(key, b), Done: l,
		})
		if rng.IntN(20) == 0 {
			barrier(t, e)
		}
	}
}

func barrier(t testing.TB, e *Engine) {
	t.Helper()
	d := newWaiter()
	e.Barrier(&store.Write{Done: d})
	if err := d.wait(); err != nil {
		t.Fatal(err)
	}
}

// checkSurvivors compares a store with what had to survive.
func checkSurvivors(t *testing.T, e *Engine, acked, written map[string]unkai.Ballot) {
	t.Helper()
	for key, last := range written {
		h := testHash(key)
		f, _, err := e.Get(unkai.Bucket(h%storetest.Buckets), h, []byte(key), nil, store.NoAccess)
		if err != nil {
			t.Errorf("%s: %v", key, err)
			continue
		}
		got := f.Record.Ballot
		if got < acked[key] || got > last {
			t.Errorf("%s is at %v; acknowledged was %v, written %v", key, got, acked[key], last)
		}
		if got != 0 {
			want := crashRecord(key, got)
			if string(f.Record.Item.Value) != string(want.Item.Value) || f.Record.Tombstone != want.Tombstone {
				t.Errorf("%s at %v has the value %.40q", key, got, f.Record.Item.Value)
			}
		}
	}
	checkCounts(t, e)
}

// checkCounts compares the counts with a scan of everything.
func checkCounts(t *testing.T, e *Engine) {
	t.Helper()
	var c counts
	for b := range e.cfg.Buckets {
		for r, err := range e.Scan(unkai.Bucket(b)) {
			if err != nil {
				t.Fatal(err)
			}
			c.add(countOfEntry(&r))
		}
	}
	st := e.Stats()
	if got := (counts{st.Items, st.Tombstones, st.Promises, st.Bytes}); got != c {
		t.Errorf("counts are %+v, a scan finds %+v", got, c)
	}
}

// TestPowerCut cuts the power at many moments, with some of what was not synced
// on the disk and some not.
func TestPowerCut(t *testing.T) {
	for _, policy := range []Sync{Always, Interval, Off} {
		t.Run(policy.String(), func(t *testing.T) { testPowerCut(t, policy) })
	}
}

func testPowerCut(t *testing.T, policy Sync) {
	rounds := 60
	if testing.Short() {
		rounds = 10
	}
	for seed := range rounds {
		rng := rand.New(rand.NewPCG(uint64(seed), uint64(policy)))
		mem := vfs.NewCrashableMem()
		l := newLedger()
		for range 1 + rng.IntN(3) { // lives
			cfg := small(mem)
			cfg.Sync, cfg.Interval = policy, time.Millisecond
			e := mustOpen(t, cfg)
			scribble(t, e, l, rng, 1+rng.IntN(200))
			if rng.IntN(3) == 0 {
				if err := e.db.Flush(); err != nil {
					t.Fatal(err)
				}
				scribble(t, e, l, rng, rng.IntN(100))
			}
			acked := l.snapshot()
			if policy != Always {
				clear(acked) // what this policy promises is tested elsewhere
			}
			crashed := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
			barrier(t, e)
			mustClose(t, e)
			if l.failed != nil {
				t.Fatal(l.failed)
			}
			again := small(crashed)
			again.Sync = policy
			e, err := Open(again)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			checkSurvivors(t, e, acked, l.written)
			for key := range l.written {
				h := testHash(key)
				f, _, err := e.Get(unkai.Bucket(h%storetest.Buckets), h, []byte(key), nil, store.NoAccess)
				if err != nil {
					t.Fatal(err)
				}
				l.written[key], l.acked[key] = f.Record.Ballot, f.Record.Ballot
			}
			mustClose(t, e)
			mem = crashed
			if t.Failed() {
				t.Fatalf("with seed %d", seed)
			}
		}
	}
}

// TestKill ends the process, as far as the files can tell: what was handed to
// the system is all there, and that is all that was acknowledged, whatever the
// policy.
func TestKill(t *testing.T) {
	for _, policy := range []Sync{Always, Interval, Off} {
		t.Run(policy.String(), func(t *testing.T) {
			for seed := range 20 {
				rng := rand.New(rand.NewPCG(uint64(seed), 1))
				mem := vfs.NewCrashableMem()
				cfg := small(mem)
				cfg.Sync, cfg.Interval = policy, time.Hour
				e := mustOpen(t, cfg)
				l := newLedger()
				scribble(t, e, l, rng, 1+rng.IntN(300))
				acked := l.snapshot()
				dead := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rng})
				mustClose(t, e)
				again := small(dead)
				again.Sync = policy
				e = mustOpen(t, again)
				checkSurvivors(t, e, acked, l.written)
				mustClose(t, e)
			}
		})
	}
}

// TestInterval: what the interval says is kept by a power cut.
func TestInterval(t *testing.T) {
	mem := vfs.NewCrashableMem()
	cfg := small(mem)
	cfg.Sync, cfg.Interval = Interval, time.Hour
	e := mustOpen(t, cfg)
	defer mustClose(t, e)
	l := newLedger()
	rng := rand.New(rand.NewPCG(1, 2))
	scribble(t, e, l, rng, 100)
	barrier(t, e)
	acked := l.snapshot()
	e.guard.syncLogs() // what the ticker does
	again := small(mem.CrashClone(vfs.CrashCloneCfg{}))
	r := mustOpen(t, again)
	checkSurvivors(t, r, acked, l.written)
	mustClose(t, r)
}

// TestPowerCutWithPurges: a purged record and the floor that was raised for it
// go together.
func TestPowerCutWithPurges(t *testing.T) {
	for seed := range 40 {
		rng := rand.New(rand.NewPCG(uint64(seed), 3))
		mem := vfs.NewCrashableMem()
		e := mustOpen(t, small(mem))
		const bucket = 3
		type step struct {
			ballot unkai.Ballot
			key    []byte
		}
		var purged []step
		cut := rng.IntN(20)
		var crashed *vfs.MemFS
		for i := range 20 {
			s := step{unkai.MakeBallot(uint64(i+1), 2), fmt.Appendf(nil, "k%d", i)}
			d := newWaiter()
			e.Write(&store.Write{Bucket: bucket, Hash: 5, Key: s.key, Done: d, Record: store.Record{Ballot: s.ballot, Promise: s.ballot, Tombstone: true}})
			if err := d.wait(); err != nil {
				t.Fatal(err)
			}
			if err := e.Purge(bucket, 5, s.key, s.ballot); err != nil {
				t.Fatal(err)
			}
			purged = append(purged, s)
			if i == cut {
				crashed = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
				break
			}
		}
		mustClose(t, e)
		e = mustOpen(t, small(crashed))
		if got, want := e.Floor(bucket), purged[len(purged)-1].ballot; got < want {
			t.Errorf("seed %d: floor is %v, want %v", seed, got, want)
		}
		if st := e.Stats(); st.Items != 0 || st.Tombstones != 0 {
			t.Errorf("seed %d: %+v is left", seed, st)
		}
		checkCounts(t, e)
		mustClose(t, e)
	}
}

// bringing notes that all keys of a run are acknowledged.
type bringing struct {
	l    *ledger
	keys []string
}

func (d bringing) WriteDone(w *store.Write) {
	for _, key := range d.keys {
		d.l.WriteDone(&store.Write{Key: []byte(key), Record: crashRecord(key, unkai.MakeBallot(1, 1)), Err: w.Err})
	}
}

// TestPowerCutWithWriteNew: what is written together, and what comes in its place before the
// disk has it, are there as they were acknowledged, the later one of them, and counted once.
func TestPowerCutWithWriteNew(t *testing.T) {
	for seed := range 60 {
		rng := rand.New(rand.NewPCG(uint64(seed), 5))
		mem := vfs.NewCrashableMem()
		e := mustOpen(t, small(mem))
		if seed%2 == 0 {
			eager(e)
		}
		l := newLedger()
		first := unkai.MakeBallot(1, 1)
		for round := range 1 + rng.IntN(30) {
			b := unkai.Bucket(rng.IntN(storetest.Buckets))
			var all []store.Entry
			for i := 0; len(all) < 20; i++ {
				key := fmt.Sprint("new-", round, "-", i)
				if h := testHash(key); unkai.Bucket(h%storetest.Buckets) == b {
					all = append(all, store.Entry{Hash: h, Key: []byte(key), Record: crashRecord(key, first)})
				}
			}
			slices.SortFunc(all, func(a, b store.Entry) int { return cmp.Compare(a.Hash, b.Hash) })
			d := bringing{l: l}
			for _, x := range all {
				d.keys = append(d.keys, string(x.Key))
				l.written[string(x.Key)] = first
			}
			if left := e.WriteNew(b, all, nil, &store.Write{Done: d}); len(left) > 0 {
				t.Fatal(left)
			}
			if rng.IntN(3) == 0 {
				barrier(t, e)
			}
			for _, x := range all {
				key := string(x.Key)
				for n := uint64(2); rng.IntN(3) > 0; n++ {
					next := unkai.MakeBallot(n, 1)
					e.Write(&store.Write{
						Bucket: b, Hash: x.Hash, Key: x.Key, Expect: l.written[key], Promised: l.written[key],
						Record: crashRecord(key, next), Done: l,
					})
					l.written[key] = next
				}
			}
			scribble(t, e, l, rng, rng.IntN(20))
		}
		acked := l.snapshot()
		crashed := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		barrier(t, e)
		checkSurvivors(t, e, l.snapshot(), l.written)
		mustClose(t, e)
		if l.failed != nil {
			t.Fatal(l.failed)
		}
		e = mustOpen(t, small(crashed))
		checkSurvivors(t, e, acked, l.written)
		mustClose(t, e)
		if t.Failed() {
			t.Fatalf("with seed %d", seed)
		}
	}
}

// TestGapInLog: a power cut under a weak policy may leave later parts of the
// log without earlier ones. The store opens with what is before the gap.
func TestGapInLog(t *testing.T) {
	for seed := range 20 {
		rng := rand.New(rand.NewPCG(uint64(seed), 5))
		mem := vfs.NewCrashableMem()
		cfg := small(mem)
		cfg.Sync = Off
		e := mustOpen(t, cfg)
		l := newLedger()
		for range 20 {
			scribble(t, e, l, rng, 200)
			barrier(t, e)
		}
		again := small(mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 90, RNG: rng}))
		mustClose(t, e)
		e, err := Open(again)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		checkSurvivors(t, e, nil, l.written)
		mustClose(t, e)
	}
}

// TestPowerCutWithPromises: what was promised for keys that hold nothing is
// still promised, and counted as that.
func TestPowerCutWithPromises(t *testing.T) {
	for seed := range 20 {
		rng := rand.New(rand.NewPCG(uint64(seed), 6))
		mem := vfs.NewCrashableMem()
		e := mustOpen(t, small(mem))
		promised := map[string]unkai.Ballot{}
		for n := range 1 + rng.IntN(30) {
			key := fmt.Sprint(rng.IntN(8))
			b := unkai.MakeBallot(uint64(n+1), 1)
			d := newWaiter()
			e.Write(&store.Write{
				Bucket: 3, Hash: 5, Key: []byte(key), Promised: promised[key], Record: store.Record{Promise: b}, Done: d,
			})
			if err := d.wait(); err != nil {
				t.Fatal(err)
			}
			promised[key] = b
		}
		if rng.IntN(2) == 0 {
			if err := e.db.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		crashed := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		mustClose(t, e)
		e = mustOpen(t, small(crashed))
		for key, b := range promised {
			f, err := e.Head(3, 5, []byte(key))
			if err != nil || f.Record.Promise != b || f.Record.Ballot != 0 {
				t.Errorf("seed %d: %s has %+v (%v), want the promise %v", seed, key, f.Record, err, b)
			}
		}
		if st := e.Stats(); st.Promises != int64(len(promised)) || st.Items+st.Tombstones != 0 {
			t.Errorf("seed %d: %+v, want %d promises", seed, st, len(promised))
		}
		checkCounts(t, e)
		mustClose(t, e)
	}
}
