package disk

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"unkai/internal/store"
)

// TestDamagedRecord: a record that is not what was written is neither served
// nor absent, wherever one looks, and cannot be replaced as if it were known.
func TestDamagedRecord(t *testing.T) {
	const bucket, hash = 2, 77
	key := []byte("k")
	r := benchRecord(1<<16, []byte("a value of some length"))
	r.Item.Flags, r.Item.Expiry = 5, 99
	good := store.AppendRecord(nil, key, &r)
	for i := range len(good) + 1 {
		mem := vfs.NewMem()
		e := mustOpen(t, small(mem))
		bad := bytes.Clone(good)
		if i < len(good) {
			bad[i] ^= 1 << (i % 8)
		} else {
			bad = bad[:len(bad)-1]
		}
		if err := e.db.Set(appendRecordKey(nil, bucket, hash, key), bad, pebble.Sync); err != nil {
			t.Fatal(err)
		}
		for range 2 { // not remembered as something else either
			f, v, err := e.Get(bucket, hash, key, []byte("before"), 1)
			if !errors.Is(err, store.ErrDamaged) || f.Record.Ballot != 0 || string(v) != "before" {
				t.Fatalf("byte %d: get gives %v %q %v", i, f.Record, v, err)
			}
		}
		d := newWaiter()
		for _, expect := range []store.Record{{}, r} {
			e.Write(&store.Write{Bucket: bucket, Hash: hash, Key: key, Expect: expect.Ballot, Promised: expect.Promise, Record: benchRecord(2<<16, nil), Done: d})
			if err := d.wait(); !errors.Is(err, store.ErrDamaged) {
				t.Fatalf("byte %d: write over it gives %v", i, err)
			}
		}
		seen := 0
		for en, err := range e.Scan(bucket) {
			seen++
			if !errors.Is(err, store.ErrDamaged) || string(en.Key) != "k" || en.Hash != hash {
				t.Fatalf("byte %d: scan gives %v %v", i, en, err)
			}
		}
		if seen != 1 {
			t.Fatalf("byte %d: scan gives %d records", i, seen)
		}
		if e.Stats().Damaged == 0 {
			t.Error("not counted")
		}
		if left := e.WriteNew(bucket, []store.Entry{{Hash: hash, Key: key, Record: r}}, nil, &store.Write{Done: d}); len(left) != 1 || d.wait() != nil {
			t.Errorf("byte %d: it was taken for nothing", i)
		}
		mustClose(t, e)
	}
}

// TestHeal: a damaged record can be replaced or removed, whatever is wrong with
// it, and the counts are those of what is there then.
func TestHeal(t *testing.T) {
	const bucket = 2
	item := benchRecord(1<<16, []byte("a value of some length"))
	item.Item.Flags, item.Item.Expiry = 5, 99
	tombstone := store.Record{Ballot: 3 << 16, Promise: 4 << 16, Tombstone: true}
	promise := store.Record{Promise: 7<<16 | 1}
	type hurt struct {
		key  []byte
		was  store.Record
		data []byte
	}
	var all []hurt
	for _, r := range []store.Record{item, tombstone, promise} {
		for bit := range 8 * store.EncodedLen(&r) {
			key := fmt.Appendf(nil, "%v %d", r.Promise, bit)
			data := store.AppendRecord(nil, key, &r)
			data[bit/8] ^= 1 << (bit % 8)
			all = append(all, hurt{key, r, data})
		}
	}
	mem := vfs.NewMem()
	e := mustOpen(t, small(mem))
	d := newWaiter()
	write := func(w store.Write) error {
		w.Bucket, w.Hash, w.Done = bucket, testHash(string(w.Key)), d
		e.Write(&w)
		return d.wait()
	}
	for _, h := range all {
		if err := write(store.Write{Key: h.key, Record: h.was}); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, e) // what was cached is not any more
	e = mustOpen(t, small(mem))
	for _, h := range all {
		if err := e.db.Set(appendRecordKey(nil, bucket, testHash(string(h.key)), h.key), h.data, pebble.NoSync); err != nil {
			t.Fatal(err)
		}
	}
	healed := benchRecord(9<<16, []byte("from another replica"))
	for i, h := range all {
		hash := testHash(string(h.key))
		if _, err := e.Head(bucket, hash, h.key); !errors.Is(err, store.ErrDamaged) {
			t.Fatalf("%s: head gives %v", h.key, err)
		}
		if i%2 == 0 {
			if err := e.Purge(bucket, hash, h.key, h.was.Ballot+1); !errors.Is(err, store.ErrDamaged) {
				t.Fatalf("%s: purge at a ballot gives %v", h.key, err)
			}
			if err := e.Purge(bucket, hash, h.key, 0); err != nil {
				t.Fatalf("%s: purge gives %v", h.key, err)
			}
			if f, err := e.Head(bucket, hash, h.key); err != nil || f.Record.Kind() != store.KindNone {
				t.Fatalf("%s: after the purge there is %+v, %v", h.key, f, err)
			}
			continue
		}
		if err := write(store.Write{Key: h.key, Record: healed, Heal: true}); err != nil {
			t.Fatalf("%s: healing gives %v", h.key, err)
		}
		f, v, err := e.Get(bucket, hash, h.key, nil, 1)
		if err != nil || f.Record.Ballot != 9<<16 || string(v) != "from another replica" {
			t.Fatalf("%s: after healing there is %+v %q, %v", h.key, f, v, err)
		}
		if err := write(store.Write{Key: h.key, Record: healed, Heal: true}); !errors.Is(err, store.ErrConflict) {
			t.Fatalf("%s: healing what is well gives %v", h.key, err)
		}
	}
	if e.Floor(bucket) != 0 {
		t.Errorf("the floor is %v, of what nobody knows", e.Floor(bucket))
	}
	checkCounts(t, e)
	mustClose(t, e)
	e = mustOpen(t, small(mem))
	checkCounts(t, e)
	mustClose(t, e)
}

// TestDamagedInCache: memory that changed is noticed, and the disk asked instead.
func TestDamagedInCache(t *testing.T) {
	e := mustOpen(t, small(vfs.NewMem()))
	defer mustClose(t, e)
	key := []byte("k")
	d := newWaiter()
	e.Write(&store.Write{Bucket: 1, Hash: 9, Key: key, Record: benchRecord(1<<16, []byte("value")), Done: d})
	if err := d.wait(); err != nil {
		t.Fatal(err)
	}
	s := &e.shards[shardOf(mix(1, 9))]
	s.mu.Lock()
	slot := s.cache.find(name{mix(1, 9), 0, 1}, key)
	s.cache.at(slot).record()[15] ^= 4
	s.mu.Unlock()
	f, v, err := e.Get(1, 9, key, nil, 0)
	if err != nil || string(v) != "value" || f.Record.Ballot != 1<<16 {
		t.Errorf("get gives %v %q %v", f.Record, v, err)
	}
}

// TestDamagedTable flips bits all over the tables on disk.
func TestDamagedTable(t *testing.T) {
	for _, together := range []bool{false, true} {
		t.Run(fmt.Sprint("together=", together), func(t *testing.T) { testDamagedTable(t, together) })
	}
}

func testDamagedTable(t *testing.T, together bool) {
	mem := vfs.NewMem()
	e := eager(mustOpen(t, small(mem)))
	const n = 2000
	d := make(waiter, n+1)
	e.Write(&store.Write{Bucket: 4, Hash: 1, Key: []byte("other"), Record: benchRecord(1<<16, noise(9)), Done: d})
	told := n + 1
	var all []store.Entry
	for i := range n {
		key := fmt.Appendf(nil, "key-%d", i)
		h := testHash(string(key))
		if together {
			all = append(all, store.Entry{Hash: h, Key: key, Record: benchRecord(1<<16, noise(100))})
			continue
		}
		e.Write(&store.Write{Bucket: 3, Hash: h, Key: key, Record: benchRecord(1<<16, noise(100)), Done: d})
	}
	if together {
		told = 2
		slices.SortFunc(all, func(x, y store.Entry) int { return cmp.Compare(x.Hash, y.Hash) })
		held(e, func() {
			if left := e.WriteNew(3, all, nil, &store.Write{Done: d}); len(left) > 0 {
				t.Fatal(left)
			}
		})
	}
	for range told {
		if err := d.wait(); err != nil {
			t.Fatal(err)
		}
	}
	if made := e.tables.made.Load() > 0; made != together {
		t.Fatalf("tables were made: %t", made)
	}
	if err := e.db.Flush(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, e)
	names, err := mem.List("store")
	if err != nil {
		t.Fatal(err)
	}
	var tables []string
	for _, name := range names {
		if strings.HasSuffix(name, ".sst") {
			tables = append(tables, "store/"+name)
		}
	}
	hit := int64(0)
	for round := range 20 {
		hurt := vfs.NewMem()
		if ok, err := vfs.Clone(mem, hurt, "store", "store", vfs.CloneSync); err != nil || !ok {
			t.Fatal(ok, err)
		}
		for _, table := range tables {
			data, err := hurt.UnsafeGetFileDataBuffer(table)
			if err != nil {
				t.Fatal(err)
			}
			if len(data) < 4<<10 {
				continue // what the store knows of itself
			}
			// In the blocks of records, which are the first two thirds.
			data[(len(data)*2/3)*(round+1)/21] ^= 1 << (round % 8)
		}
		e, err := Open(small(hurt))
		if err != nil {
			t.Fatal(err)
		}
		unknown := 0
		for i := range n {
			key := fmt.Appendf(nil, "key-%d", i)
			f, v, err := e.Get(3, testHash(string(key)), key, nil, 0)
			switch {
			case errors.Is(err, store.ErrDamaged):
				unknown++
			case err != nil:
				t.Fatal(err)
			case f.Record.Ballot != 1<<16 || !bytes.Equal(v, noise(100)):
				t.Fatalf("round %d: %s has %v %q", round, key, f.Record.Ballot, v)
			}
		}
		if unknown == 0 || unknown == n {
			t.Errorf("round %d: %d of %d are unknown", round, unknown, n)
		}
		healOne(t, e, n)
		hit += e.Stats().Damaged
		scanned, failed := 0, 0
		for _, err := range e.Scan(3) {
			if err != nil {
				failed++
			} else {
				scanned++
			}
		}
		if failed == 0 || scanned == n {
			t.Errorf("round %d: a scan of a damaged table ends well after %d", round, scanned)
		}
		heal(t, e)
		mustClose(t, e)
	}
	if hit == 0 {
		t.Error("nothing was counted")
	}
}

// heal is what one does with a damaged bucket: drop it, and fill it again.
func heal(t *testing.T, e *Engine) {
	t.Helper()
	if err := e.Drop(3); err != nil {
		t.Fatalf("drop of a damaged bucket: %v", err)
	}
	if st := e.Stats(); st.Items != 1 || st.Bytes != int64(len("other")+9) {
		t.Errorf("after the drop %+v", st)
	}
	d := newWaiter()
	if left := e.WriteNew(3, []store.Entry{{Hash: 8, Key: []byte("k"), Record: benchRecord(1<<16, nil)}}, nil, &store.Write{Done: d}); len(left) > 0 || d.wait() != nil {
		t.Errorf("left are %v", left)
	}
	checkCounts(t, e)
	if err := e.db.Compact(t.Context(), []byte{0}, []byte{255}, false); err != nil {
		t.Errorf("compaction after healing: %v", err)
	}
	checkCounts(t, e)
}

// healOne replaces a record in a block that cannot be read, and keeps it
// through all that can be done with it.
func healOne(t *testing.T, e *Engine, n int) {
	t.Helper()
	for i := range n {
		key := fmt.Appendf(nil, "key-%d", i)
		hash := testHash(string(key))
		if _, err := e.Head(3, hash, key); !errors.Is(err, store.ErrDamaged) {
			continue
		}
		d := newWaiter()
		e.Write(&store.Write{Bucket: 3, Hash: hash, Key: key, Record: benchRecord(2<<16, noise(10)), Heal: true, Done: d})
		if err := d.wait(); err != nil {
			t.Fatalf("healing %s: %v", key, err)
		}
		s := &e.shards[shardOf(mix(3, hash))]
		s.mu.Lock()
		s.cache.remove(s.cache.find(name{mix(3, hash), e.gens[3].Load(), 3}, key))
		s.mu.Unlock()
		e.Write(&store.Write{Bucket: 3, Hash: hash, Key: key, Record: benchRecord(3<<16, nil), Done: d})
		if err := d.wait(); !errors.Is(err, store.ErrConflict) {
			t.Fatalf("a write over the healed %s: %v", key, err)
		}
		if f, v, err := e.Get(3, hash, key, nil, 0); err != nil || f.Record.Ballot != 2<<16 || len(v) != 10 {
			t.Fatalf("the healed %s: %+v, %v", key, f, err)
		}
		return
	}
	t.Error("nothing to heal")
}
