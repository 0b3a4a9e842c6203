package disk

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"unkai"
	"unkai/internal/store"
)

// gate stands before a bucket that is dropped.
type gate struct {
	opened chan struct{} // closed when it is gone
}

// shut puts a gate before a bucket and waits for the writes that were let in.
// The caller opens it.
func (e *Engine) shut(b unkai.Bucket) (open func()) {
	g := &gate{opened: make(chan struct{})}
	for !e.gates[b].CompareAndSwap(nil, g) {
		if other := e.gates[b].Load(); other != nil {
			<-other.opened
		}
	}
	e.fence()
	return func() {
		e.gates[b].Store(nil)
		close(g.opened)
	}
}

// Drop implements store.Engine. Writes to the bucket wait for its end. Where there is
// nothing it writes nothing: tables that come there go where they stay.
func (e *Engine) Drop(b unkai.Bucket) error {
	err := e.stay()
	if err == nil {
		defer e.background.Done()
		defer e.shut(b)()
		err = e.drop(b)
	}
	if err != nil {
		return fmt.Errorf("dropping bucket %d: %w", b, err)
	}
	return nil
}

// stay has whoever closes the store wait for the caller, who counts itself out.
func (e *Engine) stay() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	err := e.stopped()
	if err == nil {
		e.background.Add(1)
	}
	return err
}

// drop counts what there is while others write elsewhere. The gate is shut: once what was
// let in before is in the pebble, the bucket stays as it is.
func (e *Engine) drop(b unkai.Bucket) error {
	if err := e.exclusive(func() error { return nil }); err != nil {
		return err
	}
	held, err := e.count(b)
	damaged := errors.Is(err, store.ErrDamaged)
	switch {
	case err != nil && !damaged:
		return err
	case !damaged && held == counts{} && e.Floor(b) == 0:
		return nil
	}
	return e.exclusive(func() error { return e.remove(b, held, damaged) })
}

// remove runs between two groups.
func (e *Engine) remove(b unkai.Bucket, gone counts, damaged bool) error {
	if damaged {
		// What cannot be read cannot be counted; what stays can.
		rest, err := e.countOthers(b)
		if err != nil {
			return err
		}
		gone = e.total
		gone.sub(rest)
	}
	from, to := bucketRange(b)
	batch := e.db.NewBatch()
	e.total.sub(gone)
	if err := errors.Join(
		batch.DeleteRange(from, to, nil),
		batch.Delete(floorKey(b), nil),
		e.putCounts(batch),
	); err != nil {
		e.total.add(gone)
		return err
	}
	if err := e.once(batch); err != nil {
		return err
	}
	e.shift(func(c *counts) { c.sub(gone) })
	e.floors[b].Store(0)
	e.gens[b].Add(1)
	if damaged {
		// Out of the tables too: no compaction can read them.
		if err := e.db.Excise(context.Background(), pebble.KeyRange{Start: from, End: to}); err != nil {
			return fmt.Errorf("cutting damaged blocks out: %w", err)
		}
	}
	return nil
}

// shift changes the counts that no shard knows of.
func (e *Engine) shift(by func(*counts)) {
	c := *e.adjust.Load()
	by(&c)
	e.adjust.Store(&c)
}

// count counts the records of a bucket that can be read. With ErrDamaged there
// may be more.
func (e *Engine) count(b unkai.Bucket) (counts, error) {
	var c counts
	var damaged error
	for rec, err := range e.walk(e.db, b, whole) {
		switch {
		case errors.Is(err, store.ErrDamaged):
			damaged = err
		case err != nil:
			return c, err
		default:
			c.add(countOfEntry(&rec))
		}
	}
	return c, damaged
}

// countOthers counts the records of all buckets but one.
func (e *Engine) countOthers(but unkai.Bucket) (counts, error) {
	var sum counts
	for i := range e.cfg.Buckets {
		if b := unkai.Bucket(i); b != but {
			c, err := e.count(b)
			if err != nil && !errors.Is(err, store.ErrDamaged) {
				return sum, err
			}
			sum.add(c)
		}
	}
	return sum, nil
}
