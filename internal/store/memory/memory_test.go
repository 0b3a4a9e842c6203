package memory

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"unkai"
	"unkai/internal/store"
	"unkai/internal/store/storetest"
)

func open(t testing.TB, cfg Config) *Engine {
	t.Helper()
	e, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestEngine(t *testing.T) {
	for name, cfg := range map[string]Config{
		"16 parts for each bucket": {Buckets: 16},
		"4 buckets for each shard": {Buckets: 1024},
		"large tables":             {Buckets: 64, Limit: 512 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T, opts storetest.Options) store.Engine {
				cfg := cfg
				if opts.Limit != 0 {
					cfg.Limit = opts.Limit
				}
				return open(t, cfg)
			})
		})
	}
}

func TestCheckpoint(t *testing.T) {
	cfg := Config{Buckets: 16}
	storetest.RunCheckpoint(t,
		func(t *testing.T, _ storetest.Options) store.Engine { return open(t, cfg) },
		func(t *testing.T, dir string) store.Engine {
			e, err := Restore(cfg, dir)
			if err != nil {
				t.Fatal(err)
			}
			return e
		})
}

func TestConfig(t *testing.T) {
	for _, cfg := range []Config{
		{}, {Buckets: -1}, {Buckets: 3}, {Buckets: 1 << 17},
		{Buckets: 16, Limit: -1}, {Buckets: 16, Limit: MinLimit - 1},
	} {
		if e, err := Open(cfg); err == nil {
			t.Errorf("%+v was accepted", cfg)
			_ = e.Close()
		}
	}
	for _, buckets := range []int{1, 1 << 16} {
		e := open(t, Config{Buckets: buckets})
		last := unkai.Bucket(buckets - 1)
		putNew(t, e, last, []byte("k"), []byte("v"))
		if r, err := get(e, last, []byte("k")); err != nil || string(r.Item.Value) != "v" {
			t.Errorf("%d buckets: %v, %v", buckets, r, err)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if err := e.Close(); !errors.Is(err, store.ErrClosed) {
			t.Errorf("closed twice: %v", err)
		}
	}
}

func TestSizes(t *testing.T) {
	if len(sizes) != classes {
		t.Fatalf("%d classes, want %d", len(sizes), classes)
	}
	for i, n := range sizes {
		if n%unit != 0 || n > pageSize || i > 0 && n <= sizes[i-1] {
			t.Errorf("class %d has slots of %d bytes", i, n)
		}
		if i > 0 && n <= maxSlot && n > sizes[i-1]*13/10 {
			t.Errorf("from %d to %d bytes is too far", sizes[i-1], n)
		}
		if waste := pageSize % n; waste*100 > pageSize*7 {
			t.Errorf("slots of %d bytes waste %d of a page", n, waste)
		}
	}
	for n := 1; n <= maxSlot; n++ {
		if c := classOf(n); int(sizes[c]) < n || c > 0 && int(sizes[c-1]) >= n {
			t.Fatalf("%d bytes are of class %d", n, c)
		}
	}
	for n := range 300_000 {
		count, rest := 0, n
		for ; rest > 0; count++ {
			rest -= pieceLen(rest)
		}
		if count != pieces(n) {
			t.Fatalf("%d bytes have %d pieces, not %d", n, count, pieces(n))
		}
	}
}

// TestManyKeys: tables grow, are cut up, shrink and go, and nothing is lost;
// what is purged is given back to the last page.
func TestManyKeys(t *testing.T) {
	e := open(t, Config{Buckets: 1, Limit: 64 << 20})
	defer func() { _ = e.Close() }()
	const n = 120_000
	key := func(i int) []byte { return fmt.Append(nil, "k", i) }
	ballots := make([]unkai.Ballot, n) // 0: purged
	verify := func() {
		t.Helper()
		left := 0
		for i, b := range ballots {
			if b != 0 {
				left++
			}
			if i%7 > 0 {
				continue
			}
			if r, err := get(e, 0, key(i)); err != nil || r.Ballot != b {
				t.Fatalf("key %d: ballot %v, error %v, want %v", i, r.Ballot, err, b)
			}
		}
		seen := map[string]bool{}
		for en, err := range e.Scan(0) {
			if err != nil || seen[string(en.Key)] || en.Hash != hashOf(en.Key) {
				t.Fatalf("scan: %q, %v", en.Key, err)
			}
			seen[string(en.Key)] = true
		}
		if st := e.Stats(); len(seen) != left || st.Items != int64(left) {
			t.Fatalf("%d scanned, %d counted, want %d", len(seen), st.Items, left)
		}
	}
	for i := range n {
		putNew(t, e, 0, key(i), key(i))
		ballots[i] = 1 << 16
	}
	verify()
	rng := rand.New(rand.NewPCG(1, 2))
	for round, keep := range []float64{0.5, 0.05, 0} {
		sn, err := e.Snapshot(0)
		if err != nil {
			t.Fatal(err)
		}
		want := e.Stats().Items
		for i, b := range ballots {
			if b == 0 || rng.Float64() < keep {
				continue
			}
			if err := e.Purge(0, hashOf(key(i)), key(i), b); err != nil {
				t.Fatal(err)
			}
			ballots[i] = 0
		}
		for _, err := range sn.All() {
			if err != nil {
				t.Fatal(err)
			}
			want--
		}
		if want != 0 {
			t.Errorf("round %d: the snapshot lacks %d records", round, want)
		}
		if err := sn.Close(); err != nil {
			t.Fatal(err)
		}
		verify()
	}
	if st := e.Stats(); st.Used != 0 {
		t.Errorf("%d bytes are in use by an empty engine", st.Used)
	}
}

// TestSameHash: more keys with one hash than a table can hold are refused, and
// harm nobody.
func TestSameHash(t *testing.T) {
	e := open(t, Config{Buckets: 1, Limit: 64 << 20})
	defer func() { _ = e.Close() }()
	n := 0
	for ; n < maxTable+10; n++ {
		w := write(0, fmt.Append(nil, n), 0, 1<<16, nil)
		w.Hash = 42
		if e.Write(w); w.Err != nil {
			if !errors.Is(w.Err, store.ErrFull) {
				t.Fatal(w.Err)
			}
			break
		}
	}
	if n != maxTable-1 {
		t.Errorf("refused after %d keys, want %d", n, maxTable-1)
	}
	putNew(t, e, 0, []byte("another"), nil)
	if f, _, err := e.Get(0, 42, []byte("77"), nil, store.NoAccess); err != nil || f.Record.Ballot == 0 {
		t.Errorf("a key with that hash: %v, %v", f.Record.Ballot, err)
	}
}

// TestPinsEnd: readers that overlap without end do not keep for ever what was
// overwritten.
func TestPinsEnd(t *testing.T) {
	e := open(t, Config{Buckets: 1, Limit: MinLimit})
	defer func() { _ = e.Close() }()
	key := []byte("k")
	value := make([]byte, 100_000)
	putNew(t, e, 0, key, value)
	older, err := e.Snapshot(0)
	if err != nil {
		t.Fatal(err)
	}
	for i := unkai.Ballot(1); i < 1000; i++ {
		w := write(0, key, i<<16, (i+1)<<16, value)
		if e.Write(w); w.Err != nil {
			t.Fatalf("write %d: %v", i, w.Err)
		}
		newer, err := e.Snapshot(0)
		if err != nil {
			t.Fatal(err)
		}
		if err := older.Close(); err != nil {
			t.Fatal(err)
		}
		older = newer
	}
	if err := older.Close(); err != nil {
		t.Fatal(err)
	}
	if st := e.Stats(); st.Used > 10*pageSize {
		t.Errorf("%d bytes are in use for one value", st.Used)
	}
}

func TestAllocations(t *testing.T) {
	e := open(t, Config{Buckets: 16})
	defer func() { _ = e.Close() }()
	for _, size := range []int{100, 100_000} {
		key := fmt.Append(nil, "key ", size)
		w := write(3, key, 0, 1<<16, make([]byte, size))
		if e.Write(w); w.Err != nil {
			t.Fatal(w.Err)
		}
		w.Expect, w.Promised = 1<<16, 1<<16
		if n := testing.AllocsPerRun(1000, func() { e.Write(w) }); n != 0 || w.Err != nil {
			t.Errorf("a write of %d bytes allocates %v times, error %v", size, n, w.Err)
		}
		dst := make([]byte, 0, size)
		var err error
		n := testing.AllocsPerRun(1000, func() { _, _, err = e.Get(3, w.Hash, key, dst, 1) })
		if n != 0 || err != nil {
			t.Errorf("a get of %d bytes allocates %v times, error %v", size, n, err)
		}
		n = testing.AllocsPerRun(1000, func() { _, err = e.Head(3, w.Hash, key) })
		if n != 0 || err != nil {
			t.Errorf("a head of %d bytes allocates %v times, error %v", size, n, err)
		}
	}
}

func TestAccessed(t *testing.T) {
	e := open(t, Config{Buckets: 16, Now: func() int64 { return 1_234_567_890_123 }})
	defer func() { _ = e.Close() }()
	key := []byte("k")
	putNew(t, e, 0, key, nil)
	f, _, err := e.Get(0, hashOf(key), key, nil, 2_000_000_000)
	if err != nil || f.Accessed != 1_234_567_890 || f.Fetched {
		t.Errorf("after a write: %+v, %v", f, err)
	}
	f, _, err = e.Get(0, hashOf(key), key, nil, store.NoAccess)
	if err != nil || f.Accessed != 2_000_000_000 || !f.Fetched {
		t.Errorf("after a read: %+v, %v", f, err)
	}
}

// TestDamagedCheckpoint: a checkpoint with any byte changed, cut anywhere, or
// of another engine is refused.
func TestDamagedCheckpoint(t *testing.T) {
	cfg := Config{Buckets: 16}
	e := open(t, cfg)
	defer func() { _ = e.Close() }()
	putNew(t, e, 1, []byte("a key"), []byte("a value"))
	putNew(t, e, 2, []byte("another"), []byte("value"))
	if err := e.Purge(2, hashOf([]byte("another")), []byte("another"), 1<<16); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "c")
	if err := e.Checkpoint(dir); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, checkpointFile)
	good, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, b []byte, cfg Config) {
		t.Helper()
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if e, err := Restore(cfg, dir); !errors.Is(err, ErrCheckpoint) {
			t.Errorf("%s: %v, want ErrCheckpoint", what, err)
			if err == nil {
				_ = e.Close()
			}
		}
	}
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 0x10
		refused(fmt.Sprint("byte ", i, " changed"), b, cfg)
		refused(fmt.Sprint("cut after ", i), good[:i], cfg)
	}
	refused("something behind the end", append(bytes.Clone(good), 0), cfg)
	refused("other number of buckets", good, Config{Buckets: 32})
	if err := os.WriteFile(name, good, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Restore(cfg, dir)
	if err != nil {
		t.Fatal(err)
	}
	if st := r.Stats(); st.Items != 1 || r.Floor(2) != 1<<16 {
		t.Errorf("restored: %+v, floor %v", st, r.Floor(2))
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Restore(cfg, t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nothing there: %v", err)
	}
}

// TestNextPromiseIsFree: what the coordinator that wrote a record is promised
// takes no room.
func TestNextPromiseIsFree(t *testing.T) {
	r := write(0, nil, 0, 5<<16|3, []byte("value")).Record
	plain, encoded := layoutOf([]byte("k"), &r), store.EncodedLen(&r)
	r.Promise = r.Ballot.Heir()
	if l := layoutOf([]byte("k"), &r); l.size != plain.size || store.EncodedLen(&r) != encoded {
		t.Errorf("it takes %d bytes more in memory, %d in the format", l.size-plain.size, store.EncodedLen(&r)-encoded)
	}
	r.Promise = r.Ballot.Heir() + 1
	if l := layoutOf([]byte("k"), &r); l.size != plain.size+8 || store.EncodedLen(&r) != encoded+8 {
		t.Errorf("any other takes %d bytes more in memory, %d in the format", l.size-plain.size, store.EncodedLen(&r)-encoded)
	}
}
