package sim_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"unkai"
	"unkai/internal/sim"
	"unkai/internal/store"
)

// newKeys are records of so many keys.
func newKeys(n int, b unkai.Ballot) (all []store.Entry) {
	for i := range n {
		r := store.Record{Ballot: b, Promise: b, Epoch: 1, Item: unkai.Item{Value: []byte("v"), CAS: uint64(b)}}
		all = append(all, store.Entry{Hash: uint64(i), Key: fmt.Append(nil, i), Record: r})
	}
	return all
}

// What was written together is there after a loss of power if that was told before. Else any
// of it may be, by itself; and what was written over one of it, only if that came before.
func TestPowerCutInARun(t *testing.T) {
	const keys, first, second, other = 40, 1 << 20, 2 << 20, "other"
	whole, part, overtaken := 0, 0, 0
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			disk := &sim.Disk{}
			e := sim.Open(disk, seed, nil)
			told, later, beside := make(ended, 1), make(ended, keys), make(ended, 1)
			all := newKeys(keys, first)
			if left := e.WriteNew(0, all, nil, &store.Write{Done: told}); len(left) > 0 {
				t.Fatal(left)
			}
			for i := range all[:keys/2] {
				x := &all[i]
				r := x.Record
				r.Ballot, r.Promise = second, second
				e.Write(&store.Write{Hash: x.Hash, Key: x.Key, Expect: first, Promised: first, Record: r, Done: later})
			}
			e.Write(&store.Write{Hash: keys, Key: []byte(other), Record: all[0].Record, Done: beside})
			if f, err := e.Head(0, 0, all[0].Key); err != nil || !f.Unsynced {
				t.Errorf("it is durable at once: %+v, %v", f, err)
			}
			time.Sleep(time.Duration(seed) * 30 * time.Microsecond)
			acknowledged, after, besides := len(told) > 0, len(later), len(beside) > 0
			e.Crash()
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			e = sim.Open(disk, seed+1, nil)
			defer func() {
				e.Crash()
				if err := e.Close(); err != nil {
					t.Error(err)
				}
			}()
			there, replaced := 0, 0
			for x, err := range e.Scan(0) {
				if err != nil {
					t.Fatal(err)
				}
				if string(x.Key) == other {
					continue
				}
				there++
				if x.Record.Ballot == second {
					replaced++
				}
			}
			if acknowledged && there < keys {
				t.Errorf("seed %d: only %d of %d are there", seed, there, keys)
			}
			if replaced < after {
				t.Errorf("seed %d: %d of %d later ones are there", seed, replaced, after)
			}
			if there == keys {
				whole++
			} else {
				part++
			}
			if besides && !acknowledged {
				overtaken++
			}
		})
	}
	if whole == 0 || part == 0 || overtaken == 0 {
		t.Errorf("all were there %d times, some %d, and a later write was durable before them %d times", whole, part, overtaken)
	}
}

// An engine may leave out what it could write, and tells so.
func TestRecordsAreLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := sim.Open(&sim.Disk{Leaves: true}, 1, nil)
		told := make(ended, 1)
		all := newKeys(100, 1<<20)
		left := e.WriteNew(0, all, nil, &store.Write{Done: told})
		if len(left) == 0 || len(left) > 50 {
			t.Errorf("%d are left", len(left))
		}
		if err := <-told; err != nil {
			t.Error(err)
		}
		for _, i := range left {
			if f, err := e.Head(0, 0, all[i].Key); f.Record.Ballot != 0 || err != nil {
				t.Errorf("%s was written: %+v, %v", all[i].Key, f, err)
			}
		}
		e.Crash()
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A barrier, and what is done to a bucket, come after what was written together before.
func TestAfterARun(t *testing.T) {
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			e := sim.Open(&sim.Disk{}, seed, nil)
			told, passed := make(ended, 2), make(ended, 1)
			e.WriteNew(0, newKeys(40, 1<<20), nil, &store.Write{Done: told})
			e.Barrier(&store.Write{Done: passed})
			if err := <-passed; err != nil {
				t.Error(err)
			}
			if len(told) == 0 {
				t.Errorf("seed %d: a barrier did not wait", seed)
			}
			e.WriteNew(1, newKeys(40, 1<<20), nil, &store.Write{Done: told})
			if err := e.Drop(1); err != nil {
				t.Fatal(err)
			}
			d := e.Durable()
			e.Crash()
			if err := e.Close(); err != nil {
				t.Error(err)
			}
			e = sim.Open(d, seed, nil)
			for x, err := range e.Scan(1) {
				t.Fatalf("seed %d: %s is there after the bucket was dropped, %v", seed, x.Key, err)
			}
			e.Crash()
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
