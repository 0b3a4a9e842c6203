package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"

	"unkai"
	"unkai/internal/store"
)

// contents is a bucket by key.
type contents map[string]store.Record

// collect reads a sequence; a key that comes twice or with a wrong hash, and
// an error, fail the test.
func collect(t tester, seq iter.Seq2[store.Entry, error]) contents {
	t.Helper()
	m := contents{}
	for en, err := range seq {
		if err != nil {
			t.Fatalf("scan: %v", err)
		}
		if _, twice := m[string(en.Key)]; twice {
			t.Fatalf("key %s was scanned twice", show(en.Key))
		}
		if en.Hash != hashOf(en.Key) {
			t.Fatalf("key %s was scanned with hash %x, want %x", show(en.Key), en.Hash, hashOf(en.Key))
		}
		r := en.Record
		r.Item.Value = bytes.Clone(r.Item.Value)
		m[string(en.Key)] = r
	}
	return m
}

// same fails the test unless the two are equal.
func same(t tester, what string, got, want contents) {
	t.Helper()
	for k, r := range want {
		g, ok := got[k]
		if !ok {
			t.Fatalf("%s: key %s is missing", what, show([]byte(k)))
		}
		if d := diff(g, r); d != "" {
			t.Fatalf("%s: key %s: %s", what, show([]byte(k)), d)
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok {
			t.Fatalf("%s: key %s should not be there", what, show([]byte(k)))
		}
	}
}

// fill writes n items and a few tombstones to a bucket and returns them.
func fill(t tester, e store.Engine, b unkai.Bucket, n int) contents {
	t.Helper()
	m := contents{}
	for i := range n {
		r := item(at(uint64(i+1)), fmt.Sprint("value ", i))
		if i%10 == 9 {
			r = tombstone(at(uint64(i + 1)))
		}
		put(t, e, b, keyN(i), 0, r)
		m[string(keyN(i))] = r
	}
	return m
}

// entries are the records of m, in the order in which they are written best.
func entries(m contents) (out []store.Entry) {
	for k, r := range m {
		out = append(out, store.Entry{Hash: hashOf([]byte(k)), Key: []byte(k), Record: r})
	}
	inOrder(out)
	return out
}

// counts is what Stats must say of the buckets.
func counts(t tester, e store.Engine, buckets ...contents) {
	t.Helper()
	var w store.Stats
	for _, m := range buckets {
		for k, r := range m {
			switch {
			case r.Tombstone:
				w.Tombstones++
			case r.Ballot == 0:
				w.Promises++
			default:
				w.Items++
				w.Bytes += int64(len(k) + len(r.Item.Value))
			}
		}
	}
	s := e.Stats()
	if s.Items != w.Items || s.Tombstones != w.Tombstones || s.Promises != w.Promises || s.Bytes != w.Bytes {
		t.Fatalf("counts are %d items, %d tombstones, %d promises, %d bytes; want %d, %d, %d, %d",
			s.Items, s.Tombstones, s.Promises, s.Bytes, w.Items, w.Tombstones, w.Promises, w.Bytes)
	}
}

func testScan(t *testing.T, open Open) {
	e := begin(t, open, Options{})
	same(t, "empty bucket", collect(t, e.Scan(3)), nil)
	m := fill(t, e, 3, 3000)
	other := fill(t, e, 4, 10)
	same(t, "bucket 3", collect(t, e.Scan(3)), m)
	same(t, "bucket 3 again", collect(t, e.Scan(3)), m)
	same(t, "bucket 4", collect(t, e.Scan(4)), other)
	same(t, "bucket 5", collect(t, e.Scan(5)), nil)
	counts(t, e, m, other)
	n := 0
	for _, err := range e.Scan(3) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 7 {
			break
		}
	}
	if n != 7 {
		t.Errorf("stopped after %d, want 7", n)
	}
	put(t, e, 3, []byte("after"), 0, item(at(1), "still works"))
}

// testScanHoldsNoLock uses the engine, the bucket and the key during a scan.
func testScanHoldsNoLock(t *testing.T, open Open) {
	e := begin(t, open, Options{})
	m := fill(t, e, 3, 300)
	n := 0
	for en, err := range e.Scan(3) {
		if err != nil {
			t.Fatal(err)
		}
		key := bytes.Clone(en.Key)
		r := m[string(key)]
		want(t, e, 3, key, r)
		put(t, e, 3, key, r.Ballot, item(r.Ballot+1<<32, "changed while scanned"))
		e.Stats()
		if n++; n%50 == 0 {
			if s, err := e.Snapshot(3); err != nil {
				t.Fatal(err)
			} else if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n != len(m) {
		t.Errorf("%d keys scanned, want %d", n, len(m))
	}
}

// testScanWhileWritten: while keys come, go and change their length, those
// that stay are scanned exactly once, and no key twice.
func testScanWhileWritten(t *testing.T, open Open) {
	e := begin(t, open, Options{})
	stay := fill(t, e, 3, 400)
	stop := make(chan struct{})
	failed := make(chan error, 1)
	go func() { failed <- churn(e, 3, stay, stop) }()
	for range 20 {
		got := collect(t, e.Scan(3))
		for k := range stay {
			if _, ok := got[k]; !ok {
				t.Errorf("key %s was there throughout and not scanned", show([]byte(k)))
			}
		}
	}
	close(stop)
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
}

// churn changes the keys of stay, and writes and purges others, until stop.
func churn(e store.Engine, b unkai.Bucket, stay contents, stop <-chan struct{}) error {
	now := map[string]unkai.Ballot{}
	for k, r := range stay {
		now[k] = r.Ballot
	}
	for n := uint64(1); ; n++ {
		var coming [][]byte
		for i := range 200 {
			key := fmt.Appendf(nil, "comes and goes %d %d", n, i)
			coming = append(coming, key)
			if err := try(e, newWrite(b, key, 0, item(at(n), string(make([]byte, i))), nil)); err != nil {
				return err
			}
		}
		for k, ballot := range now {
			next := ballot + 1<<16
			if err := try(e, newWrite(b, []byte(k), ballot, item(next, string(make([]byte, n*37%500))), nil)); err != nil {
				return err
			}
			now[k] = next
			select {
			case <-stop:
				return nil
			default:
			}
		}
		for _, key := range coming {
			if err := e.Purge(b, hashOf(key), key, at(n)); err != nil {
				return err
			}
		}
	}
}

// testSnapshot: a snapshot is not touched by anything that comes after it.
func testSnapshot(t *testing.T, open Open) {
	e := begin(t, open, Options{})
	m := fill(t, e, 3, 1000)
	snap := func() store.Snapshot {
		t.Helper()
		s, err := e.Snapshot(3)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s1 := snap()
	now := contents{}
	for i := range 1000 {
		key := keyN(i)
		old := m[string(key)]
		next := old.Ballot + 1<<40
		switch i % 4 {
		case 0:
			put(t, e, 3, key, old.Ballot, item(next, "overwritten with something longer than before"))
			now[string(key)] = item(next, "overwritten with something longer than before")
		case 1:
			put(t, e, 3, key, old.Ballot, tombstone(next))
			now[string(key)] = tombstone(next)
		case 2:
			if err := e.Purge(3, hashOf(key), key, old.Ballot); err != nil {
				t.Fatal(err)
			}
		case 3:
			now[string(key)] = old
		}
		added := fmt.Appendf(nil, "added %d", i)
		put(t, e, 3, added, 0, item(at(1), "new"))
		now[string(added)] = item(at(1), "new")
	}
	s2 := snap()
	s3 := snap()
	same(t, "the first snapshot", collect(t, s1.All()), m)
	same(t, "the bucket", collect(t, e.Scan(3)), now)
	if err := s1.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s3.Close(); err != nil { // without having been used
		t.Fatal(err)
	}
	if err := e.Drop(3); err != nil {
		t.Fatal(err)
	}
	again := fill(t, e, 3, 50)
	same(t, "the second snapshot", collect(t, s2.All()), now)
	if err := s2.Close(); err != nil {
		t.Fatal(err)
	}
	same(t, "the bucket after all", collect(t, e.Scan(3)), again)
	counts(t, e, again)
	s4 := snap()
	n := 0
	for _, err := range s4.All() {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 5 {
			break
		}
	}
	if err := s4.Close(); err != nil {
		t.Fatal(err)
	}
	empty, err := e.Snapshot(9)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "an empty bucket", collect(t, empty.All()), nil)
	if err := empty.Close(); err != nil {
		t.Fatal(err)
	}
}

// testSnapshotOfOneMoment: one writer writes the keys in rounds, one after the
// other, so at no moment is a key ahead of an earlier one, or two rounds behind.
func testSnapshotOfOneMoment(t *testing.T, open Open) {
	e := begin(t, open, Options{})
	const keys = 60
	for i := range keys {
		put(t, e, 3, keyN(i), 0, item(at(1), ""))
	}
	stop, failed := make(chan struct{}), make(chan error, 1)
	go func() {
		for n := uint64(2); ; n++ {
			for i := range keys {
				if err := try(e, newWrite(3, keyN(i), at(n-1), item(at(n), string(make([]byte, n%300))), nil)); err != nil {
					failed <- err
					return
				}
				select {
				case <-stop:
					failed <- nil
					return
				default:
				}
			}
		}
	}()
	for range 60 {
		s, err := e.Snapshot(3)
		if err != nil {
			t.Fatal(err)
		}
		got := collect(t, s.All())
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		first, before := got[string(keyN(0))].Ballot.Counter(), uint64(0)
		for i := range keys {
			r, ok := got[string(keyN(i))]
			n := r.Ballot.Counter()
			if !ok || n > first || n+1 < first || i > 0 && n > before {
				t.Fatalf("key %d is in round %d, the one before in %d, the first in %d", i, n, before, first)
			}
			before = n
		}
	}
	close(stop)
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
}

func testDrop(t *testing.T, open Open) {
	e := begin(t, open, Options{})
	fill(t, e, 3, 500)
	other := fill(t, e, 2, 20)
	another := fill(t, e, 4, 20)
	k := []byte("purged")
	put(t, e, 3, k, 0, tombstone(at(8)))
	if err := e.Purge(3, hashOf(k), k, at(8)); err != nil {
		t.Fatal(err)
	}
	if err := e.Drop(3); err != nil {
		t.Fatalf("drop: %v", err)
	}
	if f := e.Floor(3); f != 0 {
		t.Errorf("the floor is %v after a drop", f)
	}
	same(t, "the dropped bucket", collect(t, e.Scan(3)), nil)
	want(t, e, 3, keyN(0), store.Record{})
	same(t, "the bucket below", collect(t, e.Scan(2)), other)
	same(t, "the bucket above", collect(t, e.Scan(4)), another)
	counts(t, e, other, another)
	if err := e.Drop(9); err != nil {
		t.Errorf("drop of an empty bucket: %v", err)
	}
	m := fill(t, e, 3, 30)
	same(t, "the bucket, filled again", collect(t, e.Scan(3)), m)
	if err := e.Drop(3); err != nil {
		t.Fatal(err)
	}
	if left := writeNew(t, e, 3, entries(m)); len(left) > 0 {
		t.Fatalf("left after a drop are %v", left)
	}
	same(t, "the bucket, filled at once", collect(t, e.Scan(3)), m)
}

func testPurge(t *testing.T, open Open) {
	e := begin(t, open, Options{})
	m := fill(t, e, 3, 40)
	purge := func(key []byte, b unkai.Ballot) error { return e.Purge(3, hashOf(key), key, b) }
	// The record has changed, or is not there: nothing happens.
	for _, c := range []struct {
		key []byte
		at  unkai.Ballot
	}{{keyN(5), at(5)}, {keyN(5), at(7)}, {[]byte("absent"), at(1)}} {
		if err := purge(c.key, c.at); !errors.Is(err, store.ErrConflict) {
			t.Errorf("purge of %s at %v: %v, want ErrConflict", c.key, c.at, err)
		}
	}
	if f := e.Floor(3); f != 0 {
		t.Errorf("a refused purge raised the floor to %v", f)
	}
	same(t, "the bucket", collect(t, e.Scan(3)), m)

	floor := unkai.Ballot(0)
	for _, i := range []int{9, 3, 19, 39, 29, 0} {
		key := keyN(i)
		b := m[string(key)].Ballot
		if err := purge(key, b); err != nil {
			t.Fatalf("purge of %s: %v", key, err)
		}
		delete(m, string(key))
		if floor = max(floor, b); e.Floor(3) != floor {
			t.Errorf("the floor is %v, want %v", e.Floor(3), floor)
		}
		want(t, e, 3, key, store.Record{})
		if err := purge(key, b); !errors.Is(err, store.ErrConflict) {
			t.Errorf("second purge of %s: %v, want ErrConflict", key, err)
		}
	}
	same(t, "the bucket", collect(t, e.Scan(3)), m)
	counts(t, e, m)
	// A purged key can be written like one never heard of.
	put(t, e, 3, keyN(9), 0, item(at(77), "back"))
	want(t, e, 3, keyN(9), item(at(77), "back"))
	if f := e.Floor(3); f != floor {
		t.Errorf("a write moved the floor to %v", f)
	}
	for at, want := range map[unkai.Ballot]unkai.Ballot{floor - 1: floor, floor + 9: floor + 9} {
		if err := e.RaiseFloor(3, at); err != nil || e.Floor(3) < want {
			t.Errorf("the floor raised to %v is %v, want %v (%v)", at, e.Floor(3), want, err)
		}
	}
}

// sortedKeys are the keys of m in order.
func sortedKeys(m contents) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
