package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"runtime"

	"unkai"
	"unkai/internal/store"
)

// tester is what *testing.T and *rapid.T have in common.
type tester interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// done is a store.Done that keeps what it was told, in order.
type done chan *store.Write

func (d done) WriteDone(w *store.Write) { d <- w }

// hashOf stands for the hash that core/ring would give the key.
func hashOf(key []byte) uint64 {
	h := fnv.New64a()
	h.Write(key)
	return h.Sum64()
}

// at is the n-th ballot of these tests; the 0-th is none.
func at(n uint64) unkai.Ballot {
	if n == 0 {
		return 0
	}
	return unkai.MakeBallot(n, 3)
}

// item is an ordinary record: accepted at ballot b, without anything unusual.
func item(b unkai.Ballot, value string) store.Record {
	return store.Record{
		Ballot: b, Promise: b, Epoch: 1,
		Item: unkai.Item{Value: []byte(value), CAS: uint64(b)},
	}
}

// tombstone is the record of a delete at ballot b.
func tombstone(b unkai.Ballot) store.Record {
	return store.Record{Ballot: b, Promise: b, Epoch: 1, Tombstone: true}
}

// newWrite is a write over a record without a promise of its own, whose Done is
// told to d.
func newWrite(b unkai.Bucket, key []byte, expect unkai.Ballot, r store.Record, d done) *store.Write {
	return &store.Write{Bucket: b, Hash: hashOf(key), Key: key, Expect: expect, Promised: expect, Record: r, Done: d}
}

// over is a write over that record.
func over(b unkai.Bucket, key []byte, was, r store.Record) *store.Write {
	w := newWrite(b, key, was.Ballot, r, nil)
	w.Promised = was.Promise
	return w
}

// try writes, waits until the write has ended, and returns its error. An
// overloaded engine is asked again.
func try(e store.Engine, w *store.Write) error {
	d := make(done, 2) // room for a second call, which is a fault
	w.Done = d
	for {
		w.Err = nil
		e.Write(w)
		<-d
		if !errors.Is(w.Err, store.ErrBusy) {
			return w.Err
		}
		runtime.Gosched()
	}
}

// put writes and fails the test if that fails.
func put(t tester, e store.Engine, b unkai.Bucket, key []byte, expect unkai.Ballot, r store.Record) {
	t.Helper()
	if err := try(e, newWrite(b, key, expect, r, nil)); err != nil {
		t.Fatalf("write of %s at %v: %v", show(key), r.Ballot, err)
	}
}

// putOver replaces a record, and fails the test if that fails.
func putOver(t tester, e store.Engine, b unkai.Bucket, key []byte, was, r store.Record) {
	t.Helper()
	if err := try(e, over(b, key, was, r)); err != nil {
		t.Fatalf("write of %s at %v over %v: %v", show(key), r.Ballot, was.Ballot, err)
	}
}

// barrier waits until everything applied so far is durable.
func barrier(t tester, e store.Engine) {
	t.Helper()
	d := make(done, 2)
	w := &store.Write{Done: d}
	e.Barrier(w)
	<-d
	if w.Err != nil {
		t.Fatalf("barrier: %v", w.Err)
	}
}

// get reads without leaving a trace.
func get(t tester, e store.Engine, b unkai.Bucket, key []byte) store.Record {
	t.Helper()
	f, _, err := e.Get(b, hashOf(key), key, nil, store.NoAccess)
	if err != nil {
		t.Fatalf("get of %s: %v", show(key), err)
	}
	if f.Size != len(f.Record.Item.Value) {
		t.Fatalf("get of %s: the size is %d, of %d bytes", show(key), f.Size, len(f.Record.Item.Value))
	}
	return f.Record
}

// want fails the test unless the engine has that record for the key.
func want(t tester, e store.Engine, b unkai.Bucket, key []byte, r store.Record) {
	t.Helper()
	if d := diff(get(t, e, b, key), r); d != "" {
		t.Fatalf("bucket %d, key %s: %s", b, show(key), d)
	}
	h := head(t, e, b, key)
	if h.Record.Item.Value != nil || h.Size != len(r.Item.Value) {
		t.Fatalf("bucket %d, key %s: head gives %d bytes and the size %d, want nil and %d",
			b, show(key), len(h.Record.Item.Value), h.Size, len(r.Item.Value))
	}
	r.Item.Value = nil
	if d := diff(h.Record, r); d != "" {
		t.Fatalf("bucket %d, key %s, head: %s", b, show(key), d)
	}
}

func head(t tester, e store.Engine, b unkai.Bucket, key []byte) store.Found {
	t.Helper()
	f, err := e.Head(b, hashOf(key), key)
	if err != nil {
		t.Fatalf("head of %s: %v", show(key), err)
	}
	return f
}

// diff says in what got is not as wanted; "" if in nothing.
func diff(got, want store.Record) string {
	switch {
	case got.Ballot != want.Ballot:
		return fmt.Sprintf("ballot is %v, want %v", got.Ballot, want.Ballot)
	case got.Promise != want.Promise:
		return fmt.Sprintf("promise is %v, want %v", got.Promise, want.Promise)
	case got.Epoch != want.Epoch:
		return fmt.Sprintf("epoch is %d, want %d", got.Epoch, want.Epoch)
	case got.Tombstone != want.Tombstone:
		return fmt.Sprintf("tombstone is %v, want %v", got.Tombstone, want.Tombstone)
	case !bytes.Equal(got.Item.Value, want.Item.Value):
		return fmt.Sprintf("value is %s, want %s", show(got.Item.Value), show(want.Item.Value))
	case got.Item.Flags != want.Item.Flags:
		return fmt.Sprintf("flags are %d, want %d", got.Item.Flags, want.Item.Flags)
	case got.Item.Expiry != want.Item.Expiry:
		return fmt.Sprintf("expiry is %d, want %d", got.Item.Expiry, want.Item.Expiry)
	case got.Item.CAS != want.Item.CAS:
		return fmt.Sprintf("cas unique is %d, want %d", got.Item.CAS, want.Item.CAS)
	case got.Item.Stale != want.Item.Stale || got.Item.Won != want.Item.Won:
		return fmt.Sprintf("stale, won are %v, %v, want %v, %v",
			got.Item.Stale, got.Item.Won, want.Item.Stale, want.Item.Won)
	}
	return ""
}

// show is bytes for people, cut short.
func show(b []byte) string {
	if len(b) > 40 {
		return fmt.Sprintf("%q… (%d bytes)", b[:40], len(b))
	}
	return fmt.Sprintf("%q", b)
}

// keyN is the n-th of many keys.
func keyN(n int) []byte { return fmt.Appendf(nil, "key:%d", n) }
