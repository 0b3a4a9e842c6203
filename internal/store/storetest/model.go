package storetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"unkai"
	"unkai/internal/store"
)

// model does what an engine does, in the plainest way.
type model struct {
	buckets [3]contents
	floors  [3]unkai.Ballot
	clock   uint64 // of ballots
}

func newModel() *model {
	m := &model{}
	for b := range m.buckets {
		m.buckets[b] = contents{}
	}
	return m
}

// drawRecord makes up a record above every earlier one.
func (m *model) drawRecord(t *rapid.T) store.Record {
	m.clock++
	b := unkai.MakeBallot(m.clock, unkai.Seat(rapid.IntRange(1, 5).Draw(t, "seat")))
	r := store.Record{Ballot: b, Promise: b, Epoch: unkai.Epoch(rapid.Uint32().Draw(t, "epoch"))}
	if rapid.IntRange(0, 3).Draw(t, "promised") == 0 {
		r.Promise = b + 1<<20
	}
	switch rapid.IntRange(0, 6).Draw(t, "kind") {
	case 0:
		r.Tombstone = true
		return r
	case 1:
		return store.Record{Promise: b, Epoch: r.Epoch}
	}
	r.Item.CAS = uint64(b)
	if rapid.IntRange(0, 3).Draw(t, "own cas") == 0 {
		r.Item.CAS = 1 + uint64(rapid.Uint32().Draw(t, "cas"))
	}
	if rapid.Bool().Draw(t, "flagged") {
		r.Item.Flags = rapid.Uint32().Draw(t, "flags")
	}
	if rapid.Bool().Draw(t, "expires") {
		r.Item.Expiry = rapid.Int64().Draw(t, "expiry")
	}
	r.Item.Stale = rapid.Bool().Draw(t, "stale")
	r.Item.Won = rapid.Bool().Draw(t, "won")
	n := rapid.OneOf(rapid.IntRange(0, 300), rapid.IntRange(0, 300), rapid.IntRange(0, 200_000)).Draw(t, "length")
	r.Item.Value = make([]byte, n)
	seed := byte(m.clock)
	for i := range r.Item.Value {
		r.Item.Value[i] = seed + byte(i*7)
	}
	return r
}

// testModel: whatever is done in whatever order, the engine has what the model has.
func testModel(t *testing.T, open Open) {
	rapid.Check(t, func(rt *rapid.T) {
		e := open(t, Options{})
		defer shut(t, e)
		m := newModel()
		rt.Repeat(m.actions(e))
		m.compare(rt, e)
	})
}

// actions of the state machine.
func (m *model) actions(e store.Engine) map[string]func(*rapid.T) {
	bucket := rapid.IntRange(0, len(m.buckets)-1)
	key := rapid.Custom(func(t *rapid.T) []byte { return keyN(rapid.IntRange(0, 25).Draw(t, "n")) })
	return map[string]func(*rapid.T){
		"write": func(t *rapid.T) {
			b, k := bucket.Draw(t, "bucket"), key.Draw(t, "key")
			was := m.buckets[b][string(k)]
			wrong := rapid.IntRange(0, 11).Draw(t, "wrong")
			switch wrong {
			case 0:
				was.Ballot += 1 << 16
			case 1:
				was.Promise += 1 << 16
			}
			r := m.drawRecord(t)
			err := try(e, over(unkai.Bucket(b), k, was, r))
			switch {
			case wrong < 2 && !errors.Is(err, store.ErrConflict):
				t.Fatalf("a write on a wrong ballot or promise: %v", err)
			case wrong >= 2 && err != nil:
				t.Fatalf("write: %v", err)
			case wrong >= 2:
				m.buckets[b][string(k)] = r
			}
			want(t, e, unkai.Bucket(b), k, m.buckets[b][string(k)])
		},
		"get": func(t *rapid.T) {
			b, k := bucket.Draw(t, "bucket"), key.Draw(t, "key")
			want(t, e, unkai.Bucket(b), k, m.buckets[b][string(k)])
		},
		"purge": func(t *rapid.T) {
			b, k := bucket.Draw(t, "bucket"), key.Draw(t, "key")
			r, ok := m.buckets[b][string(k)]
			at := r.Ballot
			if !ok {
				at = 1 << 16
			}
			err := e.Purge(unkai.Bucket(b), hashOf(k), k, at)
			if !ok {
				if !errors.Is(err, store.ErrConflict) {
					t.Fatalf("purge of an absent key: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatalf("purge: %v", err)
			}
			delete(m.buckets[b], string(k))
			m.floors[b] = max(m.floors[b], r.Promise)
		},
		"drop": func(t *rapid.T) {
			b := bucket.Draw(t, "bucket")
			if err := e.Drop(unkai.Bucket(b)); err != nil {
				t.Fatalf("drop: %v", err)
			}
			m.buckets[b], m.floors[b] = contents{}, 0
		},
		"bring": func(t *rapid.T) {
			from, to := bucket.Draw(t, "from"), bucket.Draw(t, "to")
			all := entries(m.buckets[from])
			left := writeNew(t, e, unkai.Bucket(to), all)
			for i, x := range all {
				key := string(x.Key)
				if _, was := m.buckets[to][key]; was != slices.Contains(left, i) {
					t.Fatalf("%s is left: %v, there was one: %v", show(x.Key), !was, was)
				} else if !was {
					m.buckets[to][key] = x.Record
				}
			}
		},
		"snapshot": func(t *rapid.T) {
			b := bucket.Draw(t, "bucket")
			s, err := e.Snapshot(unkai.Bucket(b))
			if err != nil {
				t.Fatalf("snapshot: %v", err)
			}
			then := maps.Clone(m.buckets[b])
			for range 5 {
				k := key.Draw(t, "key")
				r := m.drawRecord(t)
				if err := try(e, over(unkai.Bucket(b), k, m.buckets[b][string(k)], r)); err != nil {
					t.Fatalf("write during a snapshot: %v", err)
				}
				m.buckets[b][string(k)] = r
			}
			same(t, "snapshot", collect(t, s.All()), then)
			if err := s.Close(); err != nil {
				t.Fatalf("close of a snapshot: %v", err)
			}
		},
		"": func(t *rapid.T) { counts(t, e, m.buckets[:]...) },
	}
}

// compare looks at everything.
func (m *model) compare(t tester, e store.Engine) {
	t.Helper()
	for b := range m.buckets {
		same(t, fmt.Sprint("bucket ", b), collect(t, e.Scan(unkai.Bucket(b))), m.buckets[b])
		for _, k := range sortedKeys(m.buckets[b]) {
			want(t, e, unkai.Bucket(b), []byte(k), m.buckets[b][k])
		}
		if f := e.Floor(unkai.Bucket(b)); f != m.floors[b] {
			t.Fatalf("the floor of bucket %d is %v, want %v", b, f, m.floors[b])
		}
	}
	counts(t, e, m.buckets[:]...)
}
