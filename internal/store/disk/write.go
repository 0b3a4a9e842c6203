package disk

import (
	"errors"
	"fmt"

	"unkai"
	"unkai/internal/store"
)

// What may wait for the disk, in bytes; beyond it writes are refused with
// ErrBusy. It is enough for ten thousand connections with sixteen small writes
// each, or for every one of them to send a few kilobytes.
const (
	maxWaiting   = 64 << 20
	writeWeight  = 200 // of a write beside its key and value
	maxKeyLength = 255
)

// Write implements store.Engine.
func (e *Engine) Write(w *store.Write) {
	err := w.Record.Check()
	if err == nil {
		err = e.apply(w, false)
	}
	if err != nil {
		w.Err = fmt.Errorf("writing a record: %w", err)
		w.Done.WriteDone(w)
	}
}

// Purge implements store.Engine.
func (e *Engine) Purge(b unkai.Bucket, hash uint64, key []byte, at unkai.Ballot) error {
	done := newWaiter()
	w := &store.Write{Bucket: b, Hash: hash, Key: key, Expect: at, Done: done}
	err := e.apply(w, true)
	if err == nil {
		err = done.wait()
	}
	if err != nil {
		return fmt.Errorf("purging a record: %w", err)
	}
	return nil
}

// apply puts w into the group that gathers, or says why it cannot be.
func (e *Engine) apply(w *store.Write, purge bool) error {
	if len(w.Key) > maxKeyLength {
		return fmt.Errorf("key of %d bytes is longer than %d", len(w.Key), maxKeyLength)
	}
	mixed := mix(w.Bucket, w.Hash)
	now := uint32(e.cfg.Now() / 1000)
	i := shardOf(mixed)
	s := &e.shards[i]
	s.mu.Lock()
	n, old, err := e.current(s, w, mixed)
	for g := e.gates[w.Bucket].Load(); g != nil; g = e.gates[w.Bucket].Load() {
		s.mu.Unlock()
		<-g.opened
		s.mu.Lock()
		n, old, err = e.current(s, w, mixed)
	}
	switch {
	case err == nil:
		err = e.admit(w, purge, old)
	case errors.Is(err, store.ErrDamaged) && (w.Heal || purge && w.Expect == 0):
		err = e.mayWrite(w, old)
	}
	if err != nil {
		s.mu.Unlock()
		return err
	}
	if purge {
		// Raised before the record is seen to be gone. That a group may write
		// it before the purge itself is on the safe side.
		e.raiseFloor(w.Bucket, old.promise)
	}
	w.Err = nil
	e.waiting.Add(weight(len(w.Key), len(w.Record.Item.Value)))
	s.append(n, w, old, now)
	if bit := uint64(1) << i; e.dirty.Load()&bit == 0 {
		e.dirty.Or(bit)
	}
	s.mu.Unlock()
	e.wake()
	return nil
}

func weight(keyLen, valueLen int) int64 { return int64(keyLen + valueLen + writeWeight) }

// admit says whether w may replace old. The shard's lock is held.
func (e *Engine) admit(w *store.Write, purge bool, old state) error {
	if err := e.stopped(); err != nil {
		return err
	}
	switch {
	case w.Heal:
		return fmt.Errorf("%w: it is not damaged", store.ErrConflict)
	case w.Expect != old.ballot:
		return fmt.Errorf("%w: accepted is %v, not %v", store.ErrConflict, old.ballot, w.Expect)
	case purge && old.kind == store.KindNone:
		return fmt.Errorf("%w: there is none", store.ErrConflict)
	case !purge && w.Promised != old.promise:
		return fmt.Errorf("%w: promised is %v, not %v", store.ErrConflict, old.promise, w.Promised)
	}
	return e.mayWrite(w, old)
}

// mayWrite says whether there is room for w. The shard's lock is held.
func (e *Engine) mayWrite(w *store.Write, old state) error {
	if err := e.stopped(); err != nil {
		return err
	}
	if e.waiting.Load() >= maxWaiting {
		return store.ErrBusy
	}
	switch w.Record.Kind() {
	case store.KindItem:
		return e.space.admit(old.kind != store.KindItem || len(w.Record.Item.Value) > old.valueLen)
	case store.KindPromise:
		return e.space.admit(old.kind == store.KindNone)
	default:
		return nil
	}
}

func (e *Engine) raiseFloor(b unkai.Bucket, at unkai.Ballot) {
	f := &e.floors[b]
	for {
		old := f.Load()
		if old >= uint64(at) || f.CompareAndSwap(old, uint64(at)) {
			return
		}
	}
}

// Floor implements store.Engine.
func (e *Engine) Floor(b unkai.Bucket) unkai.Ballot { return unkai.Ballot(e.floors[b].Load()) }

// RaiseFloor implements store.Engine.
func (e *Engine) RaiseFloor(b unkai.Bucket, at unkai.Ballot) error {
	err := e.exclusive(func() error {
		batch := e.db.NewBatch()
		key := floorKey(b)
		if err := batch.Set(key, sealNumber(key, max(e.floors[b].Load(), uint64(at))), nil); err != nil {
			return err
		}
		if err := e.once(batch); err != nil {
			return err
		}
		e.raiseFloor(b, at) // no earlier: who asks for it relies on it; and before a drop
		return nil
	})
	if err != nil {
		return fmt.Errorf("raising the floor of bucket %d: %w", b, err)
	}
	return nil
}

// Barrier implements store.Engine.
func (e *Engine) Barrier(w *store.Write) {
	w.Next, w.Err = nil, nil
	e.mu.Lock()
	if err := e.stopped(); err != nil {
		e.mu.Unlock()
		w.Err = fmt.Errorf("waiting for the disk: %w", err)
		w.Done.WriteDone(w)
		return
	}
	if e.barriers.last == nil {
		e.barriers.first = w
	} else {
		e.barriers.last.Next = w
	}
	e.barriers.last = w
	e.mu.Unlock()
	e.wake()
}

// waiter is a Done for one who waits.
type waiter chan error

func newWaiter() waiter { return make(waiter, 1) }

// WriteDone implements store.Done.
func (d waiter) WriteDone(w *store.Write) { d <- w.Err }

func (d waiter) wait() error { return <-d }
