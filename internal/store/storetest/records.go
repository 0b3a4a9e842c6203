package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"unkai"
	"unkai/internal/store"
)

func testAbsent(t *testing.T, open Open) {
	e := begin(t, open, Options{})
	dst := []byte("before")
	f, out, err := e.Get(0, hashOf([]byte("k")), []byte("k"), dst, 1)
	if err != nil {
		t.Fatalf("get of an absent key: %v", err)
	}
	if d := diff(f.Record, store.Record{}); d != "" {
		t.Errorf("get of an absent key: %s", d)
	}
	if f.Unsynced || f.Fetched || f.Accessed != 0 {
		t.Errorf("get of an absent key: %+v", f)
	}
	if string(out) != "before" {
		t.Errorf("get of an absent key changed dst to %q", out)
	}
	if s := e.Stats(); s.Items != 0 || s.Tombstones != 0 || s.Bytes != 0 {
		t.Errorf("an empty engine counts %+v", s)
	}
	if b := e.Floor(0); b != 0 {
		t.Errorf("the floor of a new bucket is %v", b)
	}
}

// testFields stores records with every mix of the fields.
func testFields(t *testing.T, open Open) {
	e := begin(t, open, Options{})
	n := 0
	for mix := range 1 << 8 {
		b := at(uint64(mix + 1))
		r := item(b, fmt.Sprint("value ", mix))
		if mix&1 != 0 {
			r.Promise = b.Heir()
		}
		if mix&128 != 0 {
			r.Promise += 5
		}
		if mix&2 != 0 {
			r.Item.CAS = 1<<63 | 5
		}
		if mix&4 != 0 {
			r.Item.Flags = math.MaxUint32
		}
		if mix&8 != 0 {
			r.Item.Expiry = 1_700_000_000_123
		}
		r.Item.Stale, r.Item.Won = mix&16 != 0, mix&32 != 0
		if mix&64 != 0 {
			r.Item.Value = nil
		}
		r.Epoch = unkai.Epoch(mix * 16_000_000)
		key := keyN(mix)
		put(t, e, 1, key, 0, r)
		want(t, e, 1, key, r)
		n++
	}
	for i, r := range []store.Record{
		{Promise: at(9)}, // promised, and nothing accepted
		{Ballot: at(2), Promise: at(7), Epoch: 5, Tombstone: true},
		tombstone(at(1)),
		{Ballot: math.MaxUint64, Promise: math.MaxUint64, Epoch: math.MaxUint32,
			Item: unkai.Item{Value: []byte("v"), CAS: 1, Expiry: -1}},
	} {
		key := fmt.Appendf(nil, "special %d", i)
		put(t, e, 1, key, 0, r)
		want(t, e, 1, key, r)
	}
	// What was promised before anything was accepted can be built upon.
	key := []byte("special 0")
	putOver(t, e, 1, key, store.Record{Promise: at(9)}, item(at(9), "accepted"))
	want(t, e, 1, key, item(at(9), "accepted"))
}

func testKeys(t *testing.T, open Open) {
	e := begin(t, open, Options{})
	var keys [][]byte
	for c := range 256 {
		keys = append(keys, []byte{byte(c)})
	}
	for n := 2; n <= unkai.MaxKeyLen; n++ {
		keys = append(keys, bytes.Repeat([]byte{'x'}, n), bytes.Repeat([]byte{0}, n), bytes.Repeat([]byte{0xff}, n))
	}
	for i, k := range keys {
		put(t, e, 2, k, 0, item(at(uint64(i+1)), fmt.Sprint(i)))
	}
	for i, k := range keys {
		want(t, e, 2, k, item(at(uint64(i+1)), fmt.Sprint(i)))
	}
	if s := e.Stats(); s.Items != int64(len(keys)) {
		t.Errorf("%d items, want %d", s.Items, len(keys))
	}
}

// testValues goes through the lengths of values, growing and shrinking one key.
func testValues(t *testing.T, open Open) {
	e := begin(t, open, Options{})
	lens := []int{0, 1, 2, 7, 8, 9, 63, 64, 100, 1000, 4000, 4096, 5000}
	for n := 8 << 10; n <= 1<<20; n *= 2 {
		lens = append(lens, n-300, n-1, n, n+1, n*3/2)
	}
	lens = append(lens, 1<<20+17, 3_000_001)
	if !testing.Short() {
		lens = append(lens, unkai.MaxValueLen-1, unkai.MaxValueLen)
	}
	value := make([]byte, lens[len(lens)-1])
	rng := rand.NewChaCha8([32]byte{1})
	if _, err := rng.Read(value); err != nil {
		t.Fatal(err)
	}
	n := uint64(0)
	var dst []byte
	one := []byte("one")
	step := func(key []byte, expect unkai.Ballot, length int) {
		t.Helper()
		n++
		r := item(at(n), "")
		r.Item.Value = value[len(value)-length:]
		put(t, e, 3, key, expect, r)
		f, out, err := e.Get(3, hashOf(key), key, append(dst[:0], "ab"...), store.NoAccess)
		if err != nil {
			t.Fatalf("get of %d bytes: %v", length, err)
		}
		if d := diff(f.Record, r); d != "" {
			t.Fatalf("value of %d bytes: %s", length, d)
		}
		if len(out) != 2+length || string(out[:2]) != "ab" || !bytes.Equal(out[2:], r.Item.Value) {
			t.Fatalf("value of %d bytes was not appended to dst: %d bytes", length, len(out))
		}
		dst = out
	}
	for i, length := range lens {
		step(keyN(i), 0, length)
		step(one, get(t, e, 3, one).Ballot, length)
	}
	for i := range lens {
		step(one, get(t, e, 3, one).Ballot, lens[len(lens)-1-i])
	}
	bytesWanted := int64(len(one) + lens[0])
	for i, length := range lens {
		bytesWanted += int64(len(keyN(i)) + length)
	}
	if s := e.Stats(); s.Bytes != bytesWanted || s.Items != int64(len(lens)+1) {
		t.Errorf("%d items of %d bytes, want %d of %d", s.Items, s.Bytes, len(lens)+1, bytesWanted)
	}
}

// testConditional: a write that expects another ballot changes nothing.
func testConditional(t *testing.T, open Open) {
	e := begin(t, open, Options{})
	k := []byte("k")
	refuse := func(expect unkai.Ballot, stands store.Record) {
		t.Helper()
		before := e.Stats()
		w := newWrite(0, k, expect, item(at(100), "must not be seen"), nil)
		if err := try(e, w); !errors.Is(err, store.ErrConflict) {
			t.Fatalf("write expecting %v ended with %v, want ErrConflict", expect, err)
		}
		want(t, e, 0, k, stands)
		after := e.Stats()
		if before.Items != after.Items || before.Tombstones != after.Tombstones ||
			before.Bytes != after.Bytes || before.Writes != after.Writes {
			t.Errorf("a refused write changed the counts: %+v, then %+v", before, after)
		}
	}
	refuse(at(1), store.Record{})
	put(t, e, 0, k, 0, item(at(1), "one"))
	refuse(0, item(at(1), "one"))
	refuse(at(2), item(at(1), "one"))
	put(t, e, 0, k, at(1), item(at(5), "five"))
	refuse(at(1), item(at(5), "five"))
	put(t, e, 0, k, at(5), tombstone(at(6)))
	refuse(0, tombstone(at(6)))
	refuse(at(5), tombstone(at(6)))
	put(t, e, 0, k, at(6), item(at(7), "seven"))
	// The promise alone may be raised: the ballot stays.
	r := item(at(7), "seven")
	r.Promise = at(8)
	put(t, e, 0, k, at(7), r)
	want(t, e, 0, k, r)
	if s := e.Stats(); s.Writes != 5 {
		t.Errorf("%d writes counted, want 5", s.Writes)
	}
	// Each write is told once, whatever became of it.
	d := make(done, 10)
	e.Write(newWrite(0, k, at(7), item(at(9), "nine"), d))
	e.Write(newWrite(0, k, at(7), item(at(10), "ten"), d))
	barrier(t, e)
	<-d
	<-d
	barrier(t, e)
	if len(d) != 0 {
		t.Errorf("Done was told %d times too often", len(d))
	}
}

// testCopies: the buffers of a write are the caller's again when Write returns,
// and a value read stays what it was.
func testCopies(t *testing.T, open Open) {
	e := begin(t, open, Options{})
	d := make(done, 10)
	key, value := []byte("key"), []byte("value")
	r := item(at(1), "")
	r.Item.Value = value
	e.Write(newWrite(0, key, 0, r, d))
	key[0], value[0] = 'X', 'X'
	got := get(t, e, 0, []byte("key"))
	if dd := diff(got, item(at(1), "value")); dd != "" {
		t.Fatalf("the engine kept the caller's buffer: %s", dd)
	}
	if w := <-d; w.Err != nil {
		t.Fatal(w.Err)
	}
	put(t, e, 0, []byte("key"), at(1), item(at(2), "other"))
	if string(got.Item.Value) != "value" {
		t.Errorf("the value read became %q after the next write", got.Item.Value)
	}
	got.Item.Value[0] = 'Y'
	want(t, e, 0, []byte("key"), item(at(2), "other"))
}

// testCollisions: keys with equal hashes are different keys all the same.
func testCollisions(t *testing.T, open Open) {
	e := begin(t, open, Options{})
	const n = 300
	for _, hash := range []uint64{0, 1, math.MaxUint64, 0x1234_5678_9abc_def0} {
		for i := range n {
			w := newWrite(4, keyN(i), 0, item(at(uint64(i+1)), fmt.Sprint(hash, i)), nil)
			w.Key = fmt.Appendf(nil, "%x %d", hash, i)
			w.Hash = hash
			if err := try(e, w); err != nil {
				t.Fatalf("write: %v", err)
			}
		}
		for i := range n {
			if i%3 == 0 {
				key := fmt.Appendf(nil, "%x %d", hash, i)
				if err := e.Purge(4, hash, key, at(uint64(i+1))); err != nil {
					t.Fatalf("purge: %v", err)
				}
			}
		}
		for i := range n {
			key := fmt.Appendf(nil, "%x %d", hash, i)
			f, _, err := e.Get(4, hash, key, nil, store.NoAccess)
			if err != nil {
				t.Fatalf("get: %v", err)
			}
			r := item(at(uint64(i+1)), fmt.Sprint(hash, i))
			if i%3 == 0 {
				r = store.Record{}
			}
			if d := diff(f.Record, r); d != "" {
				t.Fatalf("hash %x, key %d: %s", hash, i, d)
			}
		}
	}
	seen := 0
	for en, err := range e.Scan(4) {
		if err != nil {
			t.Fatalf("scan: %v", err)
		}
		var hash uint64
		var i int
		if _, err := fmt.Sscanf(string(en.Key), "%x %d", &hash, &i); err != nil || hash != en.Hash {
			t.Fatalf("key %s was scanned with hash %x", show(en.Key), en.Hash)
		}
		seen++
	}
	if seen != 4*200 {
		t.Errorf("%d keys scanned, want %d", seen, 4*200)
	}
}

// testSeparateBuckets: a bucket and a key name a record, not a key alone.
func testSeparateBuckets(t *testing.T, open Open) {
	e := begin(t, open, Options{})
	k := []byte("the same")
	for b := range unkai.Bucket(Buckets) {
		put(t, e, b, k, 0, item(at(uint64(b)+1), fmt.Sprint(b)))
	}
	put(t, e, 5, k, at(6), tombstone(at(60)))
	if err := e.Purge(6, hashOf(k), k, at(7)); err != nil {
		t.Fatal(err)
	}
	for b := range unkai.Bucket(Buckets) {
		r := item(at(uint64(b)+1), fmt.Sprint(b))
		switch b {
		case 5:
			r = tombstone(at(60))
		case 6:
			r = store.Record{}
		}
		want(t, e, b, k, r)
		floor := unkai.Ballot(0)
		if b == 6 {
			floor = at(7)
		}
		if got := e.Floor(b); got != floor {
			t.Errorf("floor of bucket %d is %v, want %v", b, got, floor)
		}
	}
}

// testAccess: the time of last access and the fetched mark, as far as an
// engine has to keep them.
func testAccess(t *testing.T, open Open) {
	e := begin(t, open, Options{})
	k := []byte("k")
	put(t, e, 0, k, 0, item(at(1), "v"))
	read := func(a store.Access) store.Found {
		t.Helper()
		f, _, err := e.Get(0, hashOf(k), k, nil, a)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	if read(store.NoAccess).Fetched {
		t.Error("fetched before the first read")
	}
	if read(1_000_000_007).Fetched {
		t.Error("NoAccess left a fetched mark")
	}
	f := read(store.NoAccess)
	if !f.Fetched || f.Accessed != 1_000_000_007 {
		t.Errorf("after a read: fetched %v, accessed %d", f.Fetched, f.Accessed)
	}
	put(t, e, 0, k, at(1), item(at(2), "w"))
	if read(store.NoAccess).Fetched {
		t.Error("a write left the fetched mark")
	}
}
