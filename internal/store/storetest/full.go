package storetest

import (
	"errors"
	"testing"

	"unkai"
	"unkai/internal/store"
)

// testFull: an engine at its limit refuses growth, still reads and deletes,
// and takes writes again once there is room.
func testFull(t *testing.T, open Open) {
	const limit, size = 32 << 20, 1000
	e := begin(t, open, Options{Limit: limit})
	if s := e.Stats(); s.Limit != limit || s.Full {
		t.Fatalf("limit is %d, full is %v; want %d, false", s.Limit, s.Full, limit)
	}
	bucket := func(i int) unkai.Bucket { return unkai.Bucket(i % Buckets) }
	record := func(i int) store.Record {
		r := item(at(uint64(i+1)), "")
		r.Item.Value = make([]byte, size)
		r.Item.Value[i%size] = byte(i)
		return r
	}
	// full writes new keys from the n-th on until growth is refused.
	full := func(n int) int {
		t.Helper()
		for i := n; i < n+2*limit/size; i++ {
			err := try(e, newWrite(bucket(i), keyN(i), 0, record(i), nil))
			if errors.Is(err, store.ErrFull) {
				want(t, e, bucket(i), keyN(i), store.Record{})
				return i
			}
			if err != nil {
				t.Fatalf("write: %v", err)
			}
		}
		t.Fatalf("no limit was felt after %d bytes", 2*limit)
		return 0
	}
	n := full(0)
	if n < limit/size/2 {
		t.Errorf("full after %d items of %d bytes, limit %d", n, size, limit)
	}
	s := e.Stats()
	if !s.Full || s.Items != int64(n) {
		t.Errorf("full is %v, %d items; want true, %d", s.Full, s.Items, n)
	}
	for i := range n {
		want(t, e, bucket(i), keyN(i), record(i))
	}
	for i := range n {
		put(t, e, bucket(i), keyN(i), at(uint64(i+1)), tombstone(at(uint64(i+2))))
	}
	if s := e.Stats(); s.Items != 0 || s.Tombstones != int64(n) || s.Bytes != 0 {
		t.Errorf("after deleting all: %+v", s)
	}
	for i := range n {
		if err := e.Purge(bucket(i), hashOf(keyN(i)), keyN(i), at(uint64(i+2))); err != nil {
			t.Fatalf("purge: %v", err)
		}
	}
	if s := e.Stats(); s.Full || s.Items+s.Tombstones != 0 {
		t.Errorf("after purging all: %+v", s)
	}
	// What was freed can be used again, and all of it.
	again := full(n) - n
	if again < n*9/10 {
		t.Errorf("%d items fit at first, and then only %d", n, again)
	}
	for b := range unkai.Bucket(Buckets) {
		if err := e.Drop(b); err != nil {
			t.Fatalf("drop: %v", err)
		}
	}
	if s := e.Stats(); s.Full || s.Items != 0 {
		t.Errorf("after dropping all: %+v", s)
	}
}
