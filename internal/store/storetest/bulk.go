package storetest

import (
	"bytes"
	"cmp"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"unkai"
	"unkai/internal/store"
)

// newEntry is a record of a key, as newWrite makes one.
func newEntry(n int, rec store.Record) store.Entry {
	w := newWrite(0, keyN(n), 0, rec, nil)
	return store.Entry{Hash: w.Hash, Key: w.Key, Record: rec}
}

// inOrder sorts entries by hash and key.
func inOrder(es []store.Entry) {
	slices.SortFunc(es, func(a, b store.Entry) int {
		return cmp.Or(cmp.Compare(a.Hash, b.Hash), bytes.Compare(a.Key, b.Key))
	})
}

// writeNew writes, and waits until that is durable.
func writeNew(t tester, e store.Engine, b unkai.Bucket, es []store.Entry) (left []int) {
	t.Helper()
	d := make(done, 1)
	left = store.WriteNew(e, b, es, nil, &store.Write{Done: d})
	if w := <-d; w.Err != nil {
		t.Fatalf("writing what is new: %v", w.Err)
	}
	return left
}

// Of many records at once those are written of whose keys there is none: also where some
// come twice, or out of order.
func testWriteNew(t *testing.T, open Open) {
	e := begin(t, open, Options{})
	r := rand.New(rand.NewPCG(1, 2))
	held := [3]map[string]store.Record{{}, {}, {}}
	some := false
	for round := range 60 {
		b := unkai.Bucket(round % len(held))
		var es []store.Entry
		for range r.IntN(600) {
			n := r.IntN(9000)
			rec := item(at(uint64(1+r.IntN(50))), string(keyN(n+round)))
			if r.IntN(9) == 0 {
				rec = tombstone(rec.Ballot)
			}
			es = append(es, newEntry(n, rec))
		}
		if round%4 != 0 {
			inOrder(es)
		}
		left := writeNew(t, e, b, es)
		for i, x := range es {
			_, was := held[b][string(x.Key)]
			if was != slices.Contains(left, i) {
				t.Fatalf("round %d: %s is left: %v, there was one: %v", round, show(x.Key), !was, was)
			}
			if !was {
				held[b][string(x.Key)] = x.Record
			}
			some = some || was
		}
		if round == 30 { // what is known of a key before and after
			if err := e.Drop(1); err != nil {
				t.Fatal(err)
			}
			clear(held[1])
		}
	}
	if !some {
		t.Error("nothing was there before")
	}
	var count store.Stats
	for b := range held {
		for key, rec := range held[b] {
			want(t, e, unkai.Bucket(b), []byte(key), rec)
			if rec.Tombstone {
				count.Tombstones++
			} else {
				count.Items++
				count.Bytes += int64(len(key) + len(rec.Item.Value))
			}
		}
	}
	if st := e.Stats(); st.Items != count.Items || st.Tombstones != count.Tombstones || st.Bytes != count.Bytes {
		t.Errorf("counted are %d items, %d tombstones, %d bytes, of %d, %d, %d", st.Items, st.Tombstones, st.Bytes, count.Items, count.Tombstones, count.Bytes)
	}
	bad := []store.Entry{newEntry(1, store.Record{Ballot: at(2), Promise: at(1)}), newEntry(2, item(at(1), "x"))}
	inOrder(bad)
	left := writeNew(t, e, 4, bad)
	if len(left) != 1 || bad[left[0]].Record.Promise != at(1) {
		t.Errorf("a record that cannot be: left are %v", left)
	}
	if left := writeNew(t, e, 4, nil); len(left) > 0 {
		t.Error(left)
	}
}

// Whoever reads and writes what has just been written, and need not be durable yet, finds
// it; and what is written then is what stays.
func testWriteNewThenWrite(t *testing.T, open Open) {
	e := begin(t, open, Options{})
	const keys, rounds = 300, 20
	for round := range rounds {
		b := unkai.Bucket(round % 4)
		var es []store.Entry
		for n := range keys {
			es = append(es, newEntry(round*keys+n, item(at(1), "new")))
		}
		inOrder(es)
		d := make(done, 1+keys)
		if left := store.WriteNew(e, b, es, nil, &store.Write{Done: d}); len(left) > 0 {
			t.Fatal(left)
		}
		var ws []*store.Write
		for i, x := range es {
			switch i % 3 {
			case 0:
				if f, v, err := e.Get(b, x.Hash, x.Key, nil, store.NoAccess); err != nil || string(v) != "new" || f.Record.Ballot != at(1) {
					t.Fatalf("%q, %+v, %v", v, f, err)
				}
			case 1:
				if f, err := e.Head(b, x.Hash, x.Key); err != nil || f.Record.Ballot != at(1) || f.Size != 3 {
					t.Fatalf("%+v, %v", f, err)
				}
			}
			w := &store.Write{Bucket: b, Hash: x.Hash, Key: x.Key, Expect: at(1), Promised: at(1), Record: item(at(2), "newer"), Done: d}
			if i%5 == 0 {
				w.Record = tombstone(at(2))
			}
			ws = append(ws, w)
			e.Write(w)
		}
		if left := store.WriteNew(e, b, es, nil, &store.Write{Done: make(done, 1)}); len(left) != keys {
			t.Fatalf("only %d are left", len(left))
		}
		for range 1 + keys {
			if w := <-d; w.Err != nil {
				t.Fatal(w.Err)
			}
		}
		for _, w := range ws {
			want(t, e, b, w.Key, w.Record)
		}
		seen := 0
		for x, err := range e.Scan(b) {
			if err != nil || x.Record.Ballot != at(2) {
				t.Fatalf("%+v, %v", x, err)
			}
			seen++
		}
		if seen != keys*(1+round/4) {
			t.Fatalf("round %d: %d in the bucket", round, seen)
		}
	}
	if st := e.Stats(); st.Items+st.Tombstones != keys*rounds || st.Tombstones != keys*rounds/5 {
		t.Errorf("counted are %+v", st)
	}
}

// Of those who write a key that has no record, some of them many keys at once, one is
// the first, and the others hear of it.
func testWriteNewRaces(t *testing.T, open Open) {
	e := begin(t, open, Options{})
	const keys, writers = 600, 4
	var won [writers][keys]bool
	all := make([][]store.Entry, writers)
	for i := range all {
		for n := range keys {
			all[i] = append(all[i], newEntry(n, item(at(uint64(1+i)), "x")))
		}
		inOrder(all[i])
	}
	var wg sync.WaitGroup
	for i, es := range all {
		wg.Go(func() {
			if i%2 == 0 {
				for at := 0; at < keys; at += 50 {
					d := make(done, 1)
					left := store.WriteNew(e, 3, es[at:at+50], nil, &store.Write{Done: d})
					if w := <-d; w.Err != nil {
						t.Error(w.Err)
					}
					for n := range 50 {
						won[i][at+n] = !slices.Contains(left, n)
					}
				}
				return
			}
			d := make(done, keys)
			ws := make([]*store.Write, keys)
			for n := range es {
				x := &es[(n*7)%keys]
				ws[(n*7)%keys] = &store.Write{Bucket: 3, Hash: x.Hash, Key: x.Key, Record: x.Record, Done: d}
				e.Write(ws[(n*7)%keys])
			}
			for range keys {
				<-d
			}
			for n, w := range ws {
				won[i][n] = w.Err == nil
				if w.Err != nil && !errors.Is(w.Err, store.ErrConflict) {
					t.Error(w.Err)
				}
			}
		})
	}
	wg.Wait()
	for n := range keys {
		first := 0
		for i := range all {
			if won[i][n] {
				first++
				want(t, e, 3, all[i][n].Key, all[i][n].Record)
			}
		}
		// Who writes many may give up, if others are at it again and again.
		if first > 1 || first == 0 && !slices.ContainsFunc(won[1][:], func(b bool) bool { return b }) {
			t.Fatalf("%d have written %s first", first, show(all[0][n].Key))
		}
	}
}
