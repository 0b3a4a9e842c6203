package storetest

import (
	"errors"
	"fmt"
	"testing"

	"unkai"
	"unkai/internal/store"
)

// testHead: what Head tells is what Get tells, but for the value, and it leaves
// no trace.
func testHead(t *testing.T, open Open) {
	e := begin(t, open, Options{})
	k := []byte("k")
	if f := head(t, e, 0, k); f.Unsynced || f.Fetched || f.Size != 0 {
		t.Errorf("head of an absent key: %+v", f)
	}
	d := make(done, 1)
	e.Write(newWrite(0, k, 0, item(at(1), "value"), d))
	// Applied is enough to be seen; durable or not, Get must agree.
	want(t, e, 0, k, item(at(1), "value"))
	if w := <-d; w.Err != nil {
		t.Fatal(w.Err)
	}
	barrier(t, e)
	if f := head(t, e, 0, k); f.Unsynced {
		t.Error("head: unsynced after a barrier")
	}
	head(t, e, 0, k)
	f, _, err := e.Get(0, hashOf(k), k, nil, 1_000_000_007)
	if err != nil || f.Fetched {
		t.Errorf("head left a fetched mark (%v)", err)
	}
	if f := head(t, e, 0, k); !f.Fetched || f.Accessed != 1_000_000_007 {
		t.Errorf("head after a read: fetched %v, accessed %d", f.Fetched, f.Accessed)
	}
	for i, n := range []int{0, 1, 100, 9000, 70_000, 3 << 20} {
		r := item(at(uint64(i+1)), string(make([]byte, n)))
		put(t, e, 1, keyN(i), 0, r)
		want(t, e, 1, keyN(i), r)
	}
	put(t, e, 0, k, at(1), tombstone(at(2)))
	want(t, e, 0, k, tombstone(at(2)))
	if err := e.Purge(0, hashOf(k), k, at(2)); err != nil {
		t.Fatal(err)
	}
	want(t, e, 0, k, store.Record{})
}

// testPromises: a promise for a key never heard of is a record, and is neither
// an item nor a tombstone.
func testPromises(t *testing.T, open Open) {
	e := begin(t, open, Options{})
	m := contents{}
	promise := func(n uint64) store.Record { return store.Record{Promise: at(n), Epoch: 4} }
	for i := range 50 {
		put(t, e, 3, keyN(i), 0, promise(uint64(i+1)))
		m[string(keyN(i))] = promise(uint64(i + 1))
	}
	counts(t, e, m)
	same(t, "the bucket", collect(t, e.Scan(3)), m)
	s, err := e.Snapshot(3)
	if err != nil {
		t.Fatal(err)
	}
	if left := writeNew(t, e, 4, entries(collect(t, s.All()))); len(left) > 0 {
		t.Fatalf("left are %v", left)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	same(t, "the copy of the bucket", collect(t, e.Scan(4)), m)
	counts(t, e, m, m)
	if left := writeNew(t, e, 3, entries(contents{string(keyN(0)): item(at(1), "v")})); len(left) != 1 {
		t.Error("a promise was taken for nothing")
	}
	if err := e.Drop(4); err != nil {
		t.Fatal(err)
	}
	// Promised higher, accepted, deleted.
	for i, r := range []store.Record{promise(90), item(at(91), "v"), tombstone(at(92))} {
		putOver(t, e, 3, keyN(i), m[string(keyN(i))], r)
		want(t, e, 3, keyN(i), r)
		m[string(keyN(i))] = r
		counts(t, e, m)
	}
	// What is purged is still promised: the floor keeps it.
	for _, i := range []int{5, 4, 0} {
		if err := e.Purge(3, hashOf(keyN(i)), keyN(i), at(1)); !errors.Is(err, store.ErrConflict) {
			t.Errorf("purge at a ballot that was not accepted: %v", err)
		}
		if err := e.Purge(3, hashOf(keyN(i)), keyN(i), 0); err != nil {
			t.Fatalf("purge of a promise: %v", err)
		}
		want(t, e, 3, keyN(i), store.Record{})
		delete(m, string(keyN(i)))
		floor := at(6)
		if i == 0 {
			floor = at(90)
		}
		if got := e.Floor(3); got != floor {
			t.Errorf("the floor is %v, want %v", got, floor)
		}
	}
	high := tombstone(at(100))
	high.Promise = at(120)
	putOver(t, e, 3, keyN(2), m[string(keyN(2))], high)
	if err := e.Purge(3, hashOf(keyN(2)), keyN(2), at(100)); err != nil {
		t.Fatal(err)
	}
	delete(m, string(keyN(2)))
	if got := e.Floor(3); got != at(120) {
		t.Errorf("the floor is %v, and %v was promised", got, at(120))
	}
	counts(t, e, m)
	if err := e.Purge(3, hashOf([]byte("absent")), []byte("absent"), 0); !errors.Is(err, store.ErrConflict) {
		t.Errorf("purge of nothing: %v", err)
	}
}

// testPromised: a write that expects another promise changes nothing.
func testPromised(t *testing.T, open Open) {
	e := begin(t, open, Options{})
	for i, stands := range []store.Record{
		{},
		{Promise: at(4)},
		item(at(4), "v"),
		{Ballot: at(2), Promise: at(4), Epoch: 1, Item: unkai.Item{Value: []byte("v"), CAS: 2}},
		{Ballot: at(2), Promise: at(4), Tombstone: true},
	} {
		k := keyN(i)
		if i > 0 {
			put(t, e, 0, k, 0, stands)
		}
		before := e.Stats()
		for _, promised := range []unkai.Ballot{0, at(2), at(3), at(5)} {
			if promised == stands.Promise {
				continue
			}
			was := stands
			was.Promise = promised
			if err := try(e, over(0, k, was, item(at(100), "must not be seen"))); !errors.Is(err, store.ErrConflict) {
				t.Fatalf("record %d: write expecting the promise %v ended with %v, want ErrConflict", i, promised, err)
			}
			want(t, e, 0, k, stands)
		}
		if after := e.Stats(); after.Writes != before.Writes || after.Items != before.Items {
			t.Errorf("record %d: a refused write changed the counts: %+v, then %+v", i, before, after)
		}
		putOver(t, e, 0, k, stands, item(at(6), fmt.Sprint(i)))
		want(t, e, 0, k, item(at(6), fmt.Sprint(i)))
	}
}

// testInvalid: a record that contradicts itself is refused, and not kept to be
// found damaged later.
func testInvalid(t *testing.T, open Open) {
	e := begin(t, open, Options{})
	k := []byte("k")
	low := item(at(5), "v")
	low.Promise = at(4)
	full := tombstone(at(5))
	full.Item.Value = []byte("v")
	for i, r := range []store.Record{
		{}, low, full,
		{Promise: at(5), Tombstone: true},
		{Promise: at(5), Item: unkai.Item{CAS: 1}},
		{Ballot: at(5), Promise: at(5), Tombstone: true, Item: unkai.Item{Won: true}},
	} {
		if err := try(e, newWrite(0, k, 0, r, nil)); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("write of record %d: %v, want ErrInvalid", i, err)
		}
		if left := writeNew(t, e, 1, entries(contents{"k": r})); len(left) != 1 {
			t.Errorf("record %d was written", i)
		}
	}
	counts(t, e)
}

// testHealWell: what is not damaged is not healed.
func testHealWell(t *testing.T, open Open) {
	e := begin(t, open, Options{})
	for i, r := range []store.Record{{}, {Promise: at(3)}, item(at(3), "v"), item(at(3), string(make([]byte, 100_000))), tombstone(at(3))} {
		k := keyN(i)
		if r.Promise != 0 {
			put(t, e, 0, k, 0, r)
		}
		w := over(0, k, r, item(at(9), "must not be seen"))
		w.Heal = true
		if err := try(e, w); !errors.Is(err, store.ErrConflict) {
			t.Errorf("record %d: %v, want ErrConflict", i, err)
		}
		want(t, e, 0, k, r)
	}
}
