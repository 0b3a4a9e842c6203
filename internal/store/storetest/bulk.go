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

// inOrder sorts writes by bucket, hash and key.
func inOrder(ws []*store.Write) {
	slices.SortFunc(ws, func(a, b *store.Write) int {
		return cmp.Or(cmp.Compare(a.Bucket, b.Bucket), cmp.Compare(a.Hash, b.Hash), bytes.Compare(a.Key, b.Key))
	})
}

// Many writes at once do what each would by itself: also those of keys that have a
// record, come twice, or out of order.
func testWriteAll(t *testing.T, open Open) {
	e := begin(t, open, Options{})
	r := rand.New(rand.NewPCG(1, 2))
	held := [3]map[string]store.Record{{}, {}, {}}
	for round := range 40 {
		var ws []*store.Write
		for range r.IntN(400) {
			b, n := at(uint64(1+r.IntN(50))), r.IntN(3000)
			w := newWrite(unkai.Bucket(r.IntN(len(held))), keyN(n), at(uint64(r.IntN(9)/8)), item(b, string(keyN(n+round))), nil)
			if r.IntN(9) == 0 {
				w.Record = tombstone(b)
			}
			ws = append(ws, w)
		}
		if round%4 != 0 {
			inOrder(ws)
		}
		d := make(done, len(ws))
		for _, w := range ws {
			w.Done = d
		}
		store.WriteAll(e, ws)
		for range ws {
			<-d
		}
		for _, w := range ws {
			was := held[w.Bucket][string(w.Key)]
			switch may := was.Ballot == w.Expect && was.Promise == w.Promised; {
			case may && w.Err == nil:
				held[w.Bucket][string(w.Key)] = w.Record
			case may || !errors.Is(w.Err, store.ErrConflict):
				t.Fatalf("round %d: %s expects %v and finds %v: %v", round, show(w.Key), w.Expect, was.Ballot, w.Err)
			}
		}
		if round == 20 { // what is known of a key before and after
			if err := e.Drop(1); err != nil {
				t.Fatal(err)
			}
			clear(held[1])
		}
	}
	var count store.Stats
	for b := range held {
		for key, rec := range held[b] {
			want(t, e, unkai.Bucket(b), []byte(key), rec)
			if rec.Tombstone {
				count.Tombstones++
			} else {
				count.Items++
			}
		}
	}
	if st := e.Stats(); st.Items != count.Items || st.Tombstones != count.Tombstones {
		t.Errorf("%d items and %d tombstones are counted, of %d and %d", st.Items, st.Tombstones, count.Items, count.Tombstones)
	}
	bad := newWrite(4, keyN(1), 0, store.Record{Ballot: at(2), Promise: at(1)}, make(done, 1))
	store.WriteAll(e, []*store.Write{bad, newWrite(4, keyN(2), 0, item(at(1), "x"), make(done, 1))})
	if !errors.Is(bad.Err, store.ErrInvalid) {
		t.Errorf("a record that cannot be: %v", bad.Err)
	}
}

// Of those who write a key that has no record, some of them many keys at once, one is
// the first, and the others hear of it.
func testWriteAllRaces(t *testing.T, open Open) {
	e := begin(t, open, Options{})
	const keys, writers = 600, 4
	var all [writers][]*store.Write
	var dones [writers]done
	for i := range all {
		dones[i] = make(done, keys)
		for n := range keys {
			all[i] = append(all[i], newWrite(3, keyN(n), 0, item(at(uint64(1+i)), "x"), dones[i]))
		}
		inOrder(all[i])
	}
	var wg sync.WaitGroup
	for i, ws := range all {
		wg.Go(func() {
			if i%2 == 0 {
				for part := range slices.Chunk(ws, 50) {
					store.WriteAll(e, part)
				}
				return
			}
			for n := range ws {
				e.Write(ws[(n*7)%len(ws)])
			}
		})
	}
	wg.Wait()
	for _, d := range dones {
		for range keys {
			<-d
		}
	}
	for n := range keys {
		won := 0
		for _, ws := range all {
			switch w := ws[n]; {
			case w.Err == nil:
				won++
				want(t, e, 3, w.Key, w.Record)
			case !errors.Is(w.Err, store.ErrConflict):
				t.Fatal(w.Err)
			}
		}
		if won != 1 {
			t.Fatalf("%d have written %s first", won, show(all[0][n].Key))
		}
	}
}
