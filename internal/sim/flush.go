package sim

import (
	"fmt"

	"unkai"
)

const (
	// maxFlushes is how often a world is flushed: each time doubles what the judge has
	// to think of for every key.
	maxFlushes = 2
	// agesAhead is how many ages of a key may come while a flush is under way.
	agesAhead = 80
)

// flushes is what is known of those of a world. World.mu guards it.
type flushes struct {
	begun int // so far, known to be done or not
	// done is when the last one began of those that have been acknowledged, as told is
	// counted.
	done uint64
	told uint64            // answers so far
	born map[string]uint64 // when a cas unique of a key was told first
}

// flush has a client ask for flush_all. To the judge it is a delete of every key that may
// have happened; that it must have, once it was acknowledged, is seen from the cas uniques.
func (w *World) flush(h *host) {
	n, gone := h.running()
	w.mu.Lock()
	defer w.mu.Unlock()
	if n == nil || w.flushes.begun == maxFlushes {
		return
	}
	w.flushes.begun++
	began := w.flushes.told
	var ends []func(unkai.Result)
	for _, key := range w.keys.ahead(agesAhead) {
		ends = append(ends, w.result.History.Begin(2000+w.flushes.begun, unkai.Op{Kind: unkai.Delete, Key: key}))
	}
	w.orders.Go(func() {
		done := make(chan error, 1)
		go func() { done <- n.Flush(0) }()
		var err error
		select {
		case err = <-done:
		case <-gone:
			err = errCrashed
		}
		w.logf("FLUSH at host %d: %v", h.number, err)
		for _, end := range ends {
			end(unkai.Result{Status: unkai.InDoubt})
		}
		if err == nil {
			w.note("flushed")
			w.mu.Lock()
			w.flushes.done = max(w.flushes.done, began)
			w.mu.Unlock()
		}
	})
}

// flushed is the flush that what is asked from now on must have seen.
func (w *World) flushed() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.flushes.done
}

// returns notes the cas unique that an answer tells, and whether it is of something that
// a flush had taken away before that was asked. The lock is held.
func (f *flushes) returns(key []byte, res unkai.Result, since uint64) bool {
	if res.Status != unkai.OK || res.Item.CAS == 0 {
		return false
	}
	if f.born == nil {
		f.born = map[string]uint64{}
	}
	f.told++
	name := fmt.Sprintf("%s %d", key, res.Item.CAS)
	first, ok := f.born[name]
	if !ok {
		f.born[name] = f.told
	}
	return ok && first <= since
}
