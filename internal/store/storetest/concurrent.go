package storetest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"unkai"
	"unkai/internal/store"
)

// testUnsynced: what a Get saw unsynced is durable after a barrier.
func testUnsynced(t *testing.T, open Open) {
	e := begin(t, open, Options{})
	d := make(done, 1000)
	k := []byte("k")
	for n := uint64(1); n <= 200; n++ {
		e.Write(newWrite(0, k, at(n-1), item(at(n), fmt.Sprint(n)), d))
		f, _, err := e.Get(0, hashOf(k), k, nil, store.NoAccess)
		if err != nil {
			t.Fatal(err)
		}
		if dd := diff(f.Record, item(at(n), fmt.Sprint(n))); dd != "" {
			t.Fatalf("a write is not seen when Write has returned: %s", dd)
		}
		if n%20 == 0 {
			barrier(t, e)
			f, _, err = e.Get(0, hashOf(k), k, nil, store.NoAccess)
			if err != nil {
				t.Fatal(err)
			}
			if f.Unsynced {
				t.Fatal("still unsynced after a barrier")
			}
		}
	}
	for range 200 {
		if w := <-d; w.Err != nil {
			t.Fatalf("write at %v: %v", w.Record.Ballot, w.Err)
		}
	}
}

// testOrder: writes on one key need not wait for each other, and end in order.
func testOrder(t *testing.T, open Open) {
	e := begin(t, open, Options{})
	const writes = 500
	d := make(done, 2*writes)
	k := []byte("k")
	for n := uint64(1); n <= writes; n++ {
		e.Write(newWrite(0, k, at(n-1), item(at(n), fmt.Sprint(n)), d))
	}
	for n := uint64(1); n <= writes; n++ {
		w := <-d
		if w.Err != nil {
			t.Fatalf("write at %v: %v", w.Record.Ballot, w.Err)
		}
		if w.Record.Ballot != at(n) {
			t.Fatalf("write at %v ended before that at %v", w.Record.Ballot, at(n))
		}
	}
	barrier(t, e)
	if len(d) != 0 {
		t.Errorf("Done was told %d times too often", len(d))
	}
	want(t, e, 0, k, item(at(writes), fmt.Sprint(writes)))
}

// testCounters: reading and writing conditionally in a loop loses nothing.
func testCounters(t *testing.T, open Open) {
	e := begin(t, open, Options{})
	const (
		workers = 8
		keys    = 3
		rounds  = 60
	)
	errs := make(chan error, workers)
	for worker := range workers {
		go func() { errs <- count(e, unkai.Seat(worker+1), keys, rounds) }()
	}
	for range workers {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	for k := range keys {
		r := get(t, e, 7, keyN(k))
		if n := binary.LittleEndian.Uint64(r.Item.Value); n != workers*rounds {
			t.Errorf("key %d counted to %d, want %d", k, n, workers*rounds)
		}
	}
}

// count adds 1 to each of the keys, rounds times.
func count(e store.Engine, seat unkai.Seat, keys, rounds int) error {
	var dst []byte
	for i := range keys * rounds {
		key := keyN(i % keys)
		for {
			f, out, err := e.Get(7, hashOf(key), key, dst[:0], store.NoAccess)
			if err != nil {
				return err
			}
			dst = out
			n := uint64(0)
			if f.Record.Ballot != 0 {
				n = binary.LittleEndian.Uint64(f.Record.Item.Value)
			}
			next := unkai.MakeBallot(f.Record.Ballot.Counter()+1, seat)
			r := item(next, "")
			// Values of several lengths, so that they move.
			r.Item.Value = binary.LittleEndian.AppendUint64(nil, n+1)
			r.Item.Value = append(r.Item.Value, make([]byte, n%5*50)...)
			err = try(e, newWrite(7, key, f.Record.Ballot, r, nil))
			if err == nil {
				break
			}
			if !errors.Is(err, store.ErrConflict) {
				return err
			}
		}
	}
	return nil
}

// testRaces calls everything at once; what it says, it says by the race
// detector and by records that hold together.
func testRaces(t *testing.T, open Open) {
	e := begin(t, open, Options{})
	const workers, rounds, keys = 6, 150, 40
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(worker), 1))
			for i := range rounds {
				if err := raceStep(e, rng, unkai.Seat(worker+1), uint64(i+1), keys); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	var items, tombs, promises, bytes int64
	for b := range unkai.Bucket(2) {
		for en, err := range e.Scan(b) {
			if err != nil {
				t.Fatal(err)
			}
			switch en.Record.Kind() {
			case store.KindTombstone:
				tombs++
				continue
			case store.KindPromise:
				promises++
				continue
			}
			items++
			bytes += int64(len(en.Key) + len(en.Record.Item.Value))
		}
	}
	if s := e.Stats(); s.Items != items || s.Tombstones != tombs || s.Promises != promises || s.Bytes != bytes {
		t.Errorf("counts are %+v; a scan finds %d items, %d tombstones, %d promises, %d bytes", s, items, tombs, promises, bytes)
	}
}

// raceStep does one random thing. The value of every record is its key, again
// and again, so that a torn one is seen.
func raceStep(e store.Engine, rng *rand.Rand, seat unkai.Seat, n uint64, keys int) error {
	b := unkai.Bucket(rng.IntN(2))
	key := keyN(rng.IntN(keys))
	check := func(key []byte, r store.Record) error {
		for i, c := range r.Item.Value {
			if c != key[i%len(key)] {
				return fmt.Errorf("key %s has the value %s", show(key), show(r.Item.Value))
			}
		}
		return nil
	}
	f, _, err := e.Get(b, hashOf(key), key, nil, store.Access(n))
	if err != nil {
		return err
	}
	if err := check(key, f.Record); err != nil {
		return err
	}
	next := unkai.MakeBallot(f.Record.Promise.Counter()+n, seat)
	switch rng.IntN(13) {
	case 0:
		err = try(e, over(b, key, f.Record, tombstone(next)))
	case 12:
		promised := f.Record
		promised.Promise = next
		err = try(e, over(b, key, f.Record, promised))
	case 1:
		err = e.Purge(b, hashOf(key), key, f.Record.Ballot)
	case 2:
		for en, err := range e.Scan(b) {
			if err != nil {
				return err
			}
			if err := check(en.Key, en.Record); err != nil {
				return err
			}
		}
	case 3:
		s, err := e.Snapshot(b)
		if err != nil {
			return err
		}
		for en, err := range s.All() {
			if err != nil {
				return errors.Join(err, s.Close())
			}
			if err := check(en.Key, en.Record); err != nil {
				return errors.Join(err, s.Close())
			}
		}
		return s.Close()
	case 4:
		e.Stats()
		e.Floor(b)
		if rng.IntN(8) == 0 {
			return e.Drop(b)
		}
	default:
		r := item(next, "")
		for range rng.IntN(1 << rng.IntN(12)) {
			r.Item.Value = append(r.Item.Value, key...)
		}
		err = try(e, over(b, key, f.Record, r))
	}
	if errors.Is(err, store.ErrConflict) {
		runtime.Gosched()
		return nil
	}
	return err
}
