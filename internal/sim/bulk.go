package sim

import (
	"unkai"
	"unkai/internal/store"
)

var _ store.Bulk = (*Engine)(nil)

// WriteNew implements store.Bulk, as little as that asks for: each record becomes durable
// at a time of its own, and a crash leaves any of them.
func (e *Engine) WriteNew(b unkai.Bucket, entries []store.Entry, left []int, w *store.Write) []int {
	e.mu.Lock()
	told := &teller{w: w, open: 1}
	for i := range entries {
		t := &entries[i]
		if !e.fits(b, t) {
			left = append(left, i)
			continue
		}
		if told.open == 1 {
			told.order = newTeller(w, t.Key, t.Record.Promise, 0).order
		}
		told.open++
		e.put(b, t.Hash, string(t.Key), t.Record, mark{}, told, true)
	}
	told.open--
	none := told.open == 0
	e.mu.Unlock()
	if none {
		tell(w, nil)
	} else {
		e.ran()
	}
	return left
}

// fits reports whether WriteNew writes a record. The lock is held.
func (e *Engine) fits(b unkai.Bucket, t *store.Entry) bool {
	was, known := e.now.bucket(b).records[string(t.Key)]
	full := e.full && grows(&was.record, &t.Record)
	return !known && !full && e.broken() == nil && t.Record.Check() == nil && (!e.disk.Leaves || !e.oneOf(8, "leave", string(t.Key), t.Record.Ballot))
}
