package coordinator_test

import (
	"fmt"
	"iter"
	"sync"

	"unkai"
	"unkai/internal/store"
)

// engine is the plainest store there can be. When it is held, writes become
// durable only when the test says so.
type engine struct {
	mu      sync.Mutex
	records map[string]store.Record
	full    bool
	floor   unkai.Ballot
	held    bool
	waiting []*store.Write
	refuse  error // what the next writes fail with
	refusal int   // how many of them; 0: all
	writes  int
	arrived chan struct{} // told of every write and barrier that is held
}

func newEngine() *engine {
	return &engine{records: map[string]store.Record{}, arrived: make(chan struct{}, 1<<16)}
}

func (e *engine) unsynced(key string) bool {
	for _, w := range e.waiting {
		if string(w.Key) == key {
			return true
		}
	}
	return false
}

func (e *engine) Get(_ unkai.Bucket, _ uint64, key, dst []byte, _ store.Access) (store.Found, []byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.records[string(key)]
	start := len(dst)
	dst = append(dst, r.Item.Value...)
	r.Item.Value = dst[start:]
	return store.Found{Record: r, Size: len(r.Item.Value), Unsynced: e.unsynced(string(key))}, dst, nil
}

func (e *engine) Head(b unkai.Bucket, hash uint64, key []byte) (store.Found, error) {
	f, _, err := e.Get(b, hash, key, nil, store.NoAccess)
	f.Record.Item.Value = nil
	return f, err
}

func (e *engine) Write(w *store.Write) {
	e.mu.Lock()
	switch old := e.records[string(w.Key)]; {
	case e.refuse != nil:
		w.Err = e.refuse
		if e.refusal--; e.refusal == 0 {
			e.refuse = nil
		}
	case e.full && !w.Record.Tombstone:
		w.Err = store.ErrFull
	case old.Ballot != w.Expect || old.Promise != w.Promised:
		w.Err = fmt.Errorf("%w: has %v", store.ErrConflict, old.Ballot)
	default:
		e.writes++
		r := w.Record
		r.Item.Value = append([]byte(nil), r.Item.Value...)
		e.records[string(w.Key)] = r
	}
	if w.Err == nil && e.held {
		w.Key = append([]byte(nil), w.Key...)
		e.hold(w)
		return
	}
	e.mu.Unlock()
	w.Done.WriteDone(w)
}

func (e *engine) hold(w *store.Write) {
	e.waiting = append(e.waiting, w)
	e.mu.Unlock()
	e.arrived <- struct{}{}
}

func (e *engine) Barrier(w *store.Write) {
	e.mu.Lock()
	if len(e.waiting) > 0 {
		e.hold(w)
		return
	}
	e.mu.Unlock()
	w.Done.WriteDone(w)
}

// sync ends everything that waits, with err.
func (e *engine) sync(err error) {
	e.mu.Lock()
	waiting := e.waiting
	e.waiting = nil
	e.mu.Unlock()
	for _, w := range waiting {
		w.Err = err
		w.Done.WriteDone(w)
	}
}

// fill makes every write fail that is not a delete.
func (e *engine) fill() {
	e.mu.Lock()
	e.full = true
	e.mu.Unlock()
}

func (e *engine) setHeld(held bool) {
	e.mu.Lock()
	e.held = held
	e.mu.Unlock()
}

// setRefuse makes the next n writes fail with err; 0: all.
func (e *engine) setRefuse(err error, n int) {
	e.mu.Lock()
	e.refuse, e.refusal = err, n
	e.mu.Unlock()
}

func (e *engine) Floor(unkai.Bucket) unkai.Ballot { return e.floor }

// Scan gives all keys: what asks for it does not mind those of other buckets.
func (e *engine) Scan(unkai.Bucket) iter.Seq2[store.Entry, error] {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []store.Entry
	for key, r := range e.records {
		all = append(all, store.Entry{Key: []byte(key), Record: r})
	}
	return func(yield func(store.Entry, error) bool) {
		for _, entry := range all {
			if !yield(entry, nil) {
				return
			}
		}
	}
}

func (e *engine) Snapshot(unkai.Bucket) (store.Snapshot, error) { panic("not asked for here") }

func (e *engine) Drop(unkai.Bucket) error { panic("not asked for here") }

func (e *engine) RaiseFloor(unkai.Bucket, unkai.Ballot) error { panic("not asked for here") }

func (e *engine) Purge(unkai.Bucket, uint64, []byte, unkai.Ballot) error {
	panic("not asked for here")
}

func (e *engine) Checkpoint(string) error { panic("not asked for here") }

func (e *engine) Stats() store.Stats { return store.Stats{} }

func (e *engine) Close() error { return nil }
