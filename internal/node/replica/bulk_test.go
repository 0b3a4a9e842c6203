package replica_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"unkai"
	"unkai/internal/node/replica"
	"unkai/internal/store"
)

// of gives so many keys of one bucket, in the order of their hashes.
func (h *house) of(b unkai.Bucket, n int) (keys []string) {
	for i := 0; len(keys) < n; i++ {
		if key := fmt.Sprint("key", i); h.call(key).Bucket == b {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, c string) int { return cmp.Compare(h.call(a).Hash, h.call(c).Hash) })
	return keys
}

// adoptAll adopts one record of each key at once, and waits. It gives the calls of those
// that could not be adopted together, by their keys.
func (h *house) adoptAll(t *testing.T, keys []string, at unkai.Epoch, of func(c *replica.Call)) map[string]*replica.Call {
	t.Helper()
	entries := make([]store.Entry, len(keys))
	for i, key := range keys {
		c := h.call(key)
		of(c)
		entries[i] = store.Entry{Hash: c.Hash, Key: c.Key, Record: store.Record{
			Ballot: c.Ballot, Promise: c.Ballot, Epoch: c.Under, Tombstone: !c.Item.Exists(), Item: c.Item,
		}}
	}
	adopted, others, err := h.AdoptAll(h.call(keys[0]).Bucket, at, entries).Wait()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*replica.Call{}
	for _, c := range others {
		out[string(c.Key)] = c
	}
	if adopted+len(out) != len(keys) {
		t.Errorf("of %d keys %d were adopted together, and %d by themselves", len(keys), adopted, len(out))
	}
	return out
}

// Whatever there is of the keys, adopting many records does what adopting each does.
func TestAdoptAllIsAdoptOfEach(t *testing.T) {
	houses(t, func(t *testing.T, h *house) {
		one := open(t)
		const bucket = 3
		keys := h.of(bucket, 700)
		for _, x := range []*house{h, one} {
			if err := x.Count(t.Context(), bucket); err != nil {
				t.Fatal(err)
			}
			r := rand.New(rand.NewPCG(5, 6))
			for _, key := range keys {
				c := x.call(key)
				c.Ballot = ballot(uint64(20 + r.IntN(20)))
				switch r.IntN(8) {
				case 0, 1:
					c.Item = unkai.Item{Value: []byte("before"), CAS: uint64(c.Ballot)}
					wait(c, x.Accept)
				case 2:
					wait(c, x.Prepare)
				case 3: // it is gone again, and leaves a floor
					wait(c, x.Accept)
					if r.IntN(50) == 0 {
						if err := x.engine.Purge(bucket, c.Hash, c.Key, c.Ballot); err != nil && c.Status == replica.OK {
							t.Fatal(err)
						}
					}
				}
			}
			if err := x.Count(t.Context(), bucket); err != nil { // purges that nobody saw
				t.Fatal(err)
			}
		}
		r := rand.New(rand.NewPCG(7, 8))
		var singly []*replica.Call
		many := h.adoptAll(t, keys, 1, func(c *replica.Call) {
			c.Ballot, c.Under = ballot(uint64(10+r.IntN(40))), 1
			if r.IntN(5) > 0 {
				c.Item = unkai.Item{Value: []byte("after"), CAS: uint64(c.Ballot)}
			}
			s := one.call(string(c.Key))
			s.Ballot, s.Under, s.Item = c.Ballot, c.Under, c.Item
			singly = append(singly, wait(s, one.Adopt))
		})
		fates := map[string]int{}
		for i, c := range singly {
			m := many[keys[i]]
			if m == nil {
				m = &replica.Call{Status: replica.OK, Adopted: true, Seen: c.Ballot}
			}
			if m.Status != c.Status || m.Adopted != c.Adopted || m.Seen != c.Seen {
				t.Errorf("%s at %v: %d, %v, %v; by itself %d, %v, %v", keys[i], c.Ballot, m.Status, m.Adopted, m.Seen, c.Status, c.Adopted, c.Seen)
			}
			fates[fmt.Sprint(c.Status, c.Adopted)]++
			f, v, err := h.engine.Get(bucket, c.Hash, c.Key, nil, 0)
			g, w, _ := one.engine.Get(bucket, c.Hash, c.Key, nil, 0)
			if f.Record.Item.Value, g.Record.Item.Value = nil, nil; err != nil || fmt.Sprint(f.Record) != fmt.Sprint(g.Record) || !bytes.Equal(v, w) {
				t.Errorf("%s: %+v, by itself %+v", keys[i], f.Record, g.Record)
			}
		}
		if len(fates) < 3 || len(many) < 100 || len(keys)-len(many) < 100 {
			t.Errorf("not all that can happen has happened: %v", fates)
		}
		if a, b := h.Tree(bucket), one.Tree(bucket); a.Root != b.Root || a.Records != b.Records || a.Root != h.scanned(t, bucket, 3).Root() {
			t.Errorf("the tree is %+v, by itself %+v", a, b)
		}
	})
}

// While many are adopted, others accept, count and purge: the tree stays right.
func TestAdoptAllBesideOthers(t *testing.T) {
	houses(t, func(t *testing.T, h *house) {
		const bucket = 3
		keys := h.of(bucket, 2000)
		if err := h.Count(t.Context(), bucket); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var others sync.WaitGroup
		others.Go(func() {
			for i := uint64(0); ctx.Err() == nil; i++ {
				c := h.call(keys[i*7%2000])
				c.Ballot = ballot(100 + i)
				wait(c, h.Accept) // a tombstone
			}
		})
		var expired []string
		s := h.sweeper(0, true, &expired)
		others.Go(func() {
			for ctx.Err() == nil {
				if err := s.Sweep(ctx, bucket); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
		others.Go(func() {
			for ctx.Err() == nil {
				if err := h.Count(ctx, bucket); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
		for round := range uint64(3) {
			h.adoptAll(t, keys, 1, func(c *replica.Call) {
				c.Ballot, c.Under = ballot(1000*round+10), 1
				c.Item = unkai.Item{Value: []byte("x"), CAS: uint64(c.Ballot)}
			})
		}
		cancel()
		others.Wait()
		if got, want := h.Tree(bucket), h.scanned(t, bucket, 3).Root(); !got.Known || got.Root != want {
			t.Errorf("the tree is %+v, and should have the root %x", got, want)
		}
	})
}

// before is an engine that has something done before a write.
type before struct {
	store.Engine
	do func()
}

func (e *before) Write(w *store.Write) {
	if e.do != nil {
		e.do()
	}
	e.Engine.Write(w)
}

// A tombstone is not purged between a look at the floor and the write that rests on it:
// else what is older would be back.
func TestNothingIsPurgedBeneathAdoptAll(t *testing.T) {
	e := &before{Engine: memoryEngine(t)}
	h := openOver(t, e)
	const bucket = 3
	keys := h.of(bucket, 10)
	h.accept(t, keys[9], "", ballot(50), 0)
	var expired []string
	s := h.sweeper(0, true, &expired)
	e.do = func() {
		e.do = nil
		if err := s.Sweep(t.Context(), bucket); err != nil {
			t.Error(err)
		}
	}
	h.adoptAll(t, keys, 1, func(c *replica.Call) {
		c.Ballot, c.Under, c.Item = ballot(10), 1, unkai.Item{Value: []byte("old"), CAS: uint64(ballot(10))}
	})
	if c := h.read(t, keys[9]); c.Found.Record.Ballot != ballot(50) || !c.Found.Record.Tombstone {
		t.Errorf("after the delete there is %+v", c.Found.Record)
	}
	if c := h.read(t, keys[0]); string(c.Buf) != "old" {
		t.Errorf("%q", c.Buf)
	}
}

// What another epoch brings is not adopted.
func TestAdoptAllIsFenced(t *testing.T) {
	houses(t, func(t *testing.T, h *house) {
		keys := h.of(3, 10)
		others := h.adoptAll(t, keys, 9, func(c *replica.Call) { c.Ballot, c.Under = ballot(10), 1 })
		for _, key := range keys {
			if c := others[key]; c == nil || c.Status != replica.Fenced {
				t.Errorf("%s: %+v", key, c)
			}
		}
	})
}

// ordered is an engine that wants many records at once in their order.
type ordered struct {
	store.Engine
	t *testing.T
}

func (e *ordered) WriteNew(b unkai.Bucket, entries []store.Entry, left []int, w *store.Write) []int {
	if !slices.IsSortedFunc(entries, func(a, b store.Entry) int {
		return cmp.Or(cmp.Compare(a.Hash, b.Hash), bytes.Compare(a.Key, b.Key))
	}) {
		e.t.Error("records are not in the order of hashes and keys")
	}
	return store.WriteNew(e.Engine, b, entries, left, w)
}

// A store that holds records in another order brings them in that: an engine gets them in
// its own.
func TestAdoptAllOrders(t *testing.T) {
	h := openOver(t, &ordered{memoryEngine(t), t})
	keys := h.of(3, 600)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	if others := h.adoptAll(t, keys, 1, func(c *replica.Call) { c.Ballot, c.Under = ballot(10), 1 }); len(others) > 0 {
		t.Errorf("%d are adopted by themselves", len(others))
	}
}
