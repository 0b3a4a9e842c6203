package storetest

import (
	"fmt"
	"path/filepath"
	"testing"

	"unkai"
	"unkai/internal/store"
)

// RunDurable tests what outlives an engine. place makes an empty place for an
// engine and returns how to open the engine there, again and again.
func RunDurable(t *testing.T, place func(t *testing.T) (open func(t *testing.T) store.Engine)) {
	t.Run("Reopen", func(t *testing.T) { testReopen(t, place(t)) })
	t.Run("CloseMakesDurable", func(t *testing.T) { testCloseMakesDurable(t, place(t)) })
}

// RunCheckpoint tests that a checkpoint of an engine holds what the engine
// held. restore opens what Checkpoint wrote into dir.
func RunCheckpoint(t *testing.T, open func(t *testing.T, opts Options) store.Engine,
	restore func(t *testing.T, dir string) store.Engine) {
	e := begin(t, open, Options{})
	m := newModel()
	m.live(t, e, 1)
	dir := filepath.Join(t.TempDir(), "checkpoint")
	if err := e.Checkpoint(dir); err != nil {
		t.Fatalf("checkpoint: %v", err)
	}
	if err := e.Checkpoint(dir); err == nil {
		t.Error("a second checkpoint went into the same directory")
	}
	put(t, e, 8, []byte("later"), 0, item(at(1), "not in the checkpoint"))
	r := restore(t, dir)
	m.compare(t, r)
	want(t, r, 8, []byte("later"), store.Record{})
	m.live(t, r, 2)
	m.compare(t, r)
	shut(t, r)
}

// testReopen lives through several lives.
func testReopen(t *testing.T, open func(t *testing.T) store.Engine) {
	m := newModel()
	for life := range 4 {
		e := open(t)
		m.compare(t, e)
		m.live(t, e, life)
		m.compare(t, e)
		shut(t, e)
	}
	e := open(t)
	m.compare(t, e)
	shut(t, e)
}

// live writes, overwrites, deletes, purges, drops and fills.
func (m *model) live(t tester, e store.Engine, life int) {
	t.Helper()
	for i := range 300 {
		b, key := i%2, keyN(i*7%120)
		old := m.buckets[b][string(key)]
		m.clock++
		r := item(at(m.clock), fmt.Sprint("life ", life, " value ", i))
		switch i % 11 {
		case 3:
			r = tombstone(r.Ballot)
		case 4:
			if old.Ballot != 0 {
				break // nobody takes back what was accepted
			}
			r = store.Record{Promise: r.Ballot, Epoch: 3}
		case 5:
			r.Promise += 1 << 30
			r.Item.Flags, r.Item.Expiry, r.Item.CAS = 7, 1_800_000_000_000, 12345+m.clock
			r.Item.Stale, r.Item.Won = true, true
		case 7:
			r.Item.Value = make([]byte, i*300)
		case 9:
			if old.Promise == 0 {
				continue
			}
			if err := e.Purge(unkai.Bucket(b), hashOf(key), key, old.Ballot); err != nil {
				t.Fatalf("purge: %v", err)
			}
			delete(m.buckets[b], string(key))
			m.floors[b] = max(m.floors[b], old.Promise)
			continue
		}
		putOver(t, e, unkai.Bucket(b), key, old, r)
		m.buckets[b][string(key)] = r
	}
	if life%2 == 1 {
		if err := e.Drop(2); err != nil {
			t.Fatalf("drop: %v", err)
		}
		if left := writeNew(t, e, 2, entries(m.buckets[0])); len(left) > 0 {
			t.Fatalf("left are %v", left)
		}
		m.floors[2], m.buckets[2] = 0, contents{}
		for k, r := range m.buckets[0] {
			m.buckets[2][k] = r
		}
	}
}

// testCloseMakesDurable: Close is enough; nobody has to wait for Done first.
func testCloseMakesDurable(t *testing.T, open func(t *testing.T) store.Engine) {
	e := open(t)
	const writes = 200
	d := make(done, 2*writes)
	for i := range writes {
		e.Write(newWrite(1, keyN(i), 0, item(at(uint64(i+1)), fmt.Sprint(i)), d))
	}
	shut(t, e)
	e = open(t)
	m := contents{}
	for range writes {
		w := <-d
		if w.Err != nil {
			t.Fatalf("write at %v: %v", w.Record.Ballot, w.Err)
		}
		m[string(w.Key)] = w.Record
	}
	if len(d) != 0 {
		t.Errorf("Done was told %d times too often", len(d))
	}
	same(t, "the bucket", collect(t, e.Scan(1)), m)
	counts(t, e, m)
	shut(t, e)
}
