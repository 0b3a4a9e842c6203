package disk

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"

	"github.com/cockroachdb/pebble/v2"

	"unkai"
	"unkai/internal/store"
)

// gate stands before a bucket that is dropped or filled.
type gate struct {
	filling bool
	opened  chan struct{} // closed when it is gone
}

// shut puts a gate before a bucket and waits for the writes that were let in.
// The caller opens it.
func (e *Engine) shut(b unkai.Bucket, filling bool) (open func()) {
	g := &gate{filling: filling, opened: make(chan struct{})}
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

// Drop implements store.Engine. Writes to the bucket wait for its end, which is
// that of the group under way and two syncs later.
func (e *Engine) Drop(b unkai.Bucket) error {
	defer e.shut(b, false)()
	if err := e.exclusive(func() error { return e.drop(b) }); err != nil {
		return fmt.Errorf("dropping bucket %d: %w", b, err)
	}
	return nil
}

// drop runs between two groups.
func (e *Engine) drop(b unkai.Bucket) error {
	gone, err := e.count(b)
	damaged := errors.Is(err, store.ErrDamaged)
	if damaged {
		// What cannot be read cannot be counted; what stays can.
		var rest counts
		if rest, err = e.countOthers(b); err == nil {
			gone = e.total
			gone.sub(rest)
		}
	}
	if err != nil {
		return err
	}
	from, to := bucketRange(b)
	batch := e.db.NewBatch()
	e.total.sub(gone)
	if err := errors.Join(
		batch.DeleteRange(from, to, nil),
		batch.Delete(floorKey(b), nil),
		batch.Delete(ingestKey(b), nil),
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

// Scan implements store.Engine. It shows what was durable when it began.
func (e *Engine) Scan(b unkai.Bucket) iter.Seq2[store.Entry, error] { return e.ScanRanges(b, whole) }

// whole is every hash.
var whole = []store.Range{{First: 0, Last: math.MaxUint64}}

// ScanRanges implements store.Ranged.
func (e *Engine) ScanRanges(b unkai.Bucket, ranges []store.Range) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		s, err := e.snapshot(b)
		if err != nil {
			yield(store.Entry{}, err)
			return
		}
		defer func() { _ = s.Close() }() // closing one gives no error
		for t, err := range e.walk(s.view, b, ranges) {
			if !yield(t, err) {
				return
			}
		}
	}
}

// Snapshot implements store.Engine. It is taken when everything applied before
// is durable, and shows nothing that might still be lost.
func (e *Engine) Snapshot(b unkai.Bucket) (store.Snapshot, error) {
	s, err := e.snapshot(b)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (e *Engine) snapshot(b unkai.Bucket) (*snapshot, error) {
	s := &snapshot{e: e, bucket: b}
	err := e.exclusive(func() error {
		s.view = e.db.NewSnapshot()
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking at bucket %d: %w", b, err)
	}
	return s, nil
}

type snapshot struct {
	e      *Engine
	bucket unkai.Bucket
	view   *pebble.Snapshot
}

func (s *snapshot) All() iter.Seq2[store.Entry, error] { return s.e.walk(s.view, s.bucket, whole) }

func (s *snapshot) Close() error { return s.view.Close() }

// walk yields the records of a bucket, those of some ranges of hashes, in the order of
// hashes and keys.
func (e *Engine) walk(r pebble.Reader, b unkai.Bucket, ranges []store.Range) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		from, to := bucketRange(b)
		it, err := r.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
		if err != nil {
			yield(store.Entry{}, e.unreadable(nil, err))
			return
		}
		defer func() { _ = it.Close() }() // its error is seen below
		var key []byte
		for _, r := range ranges {
			key = appendRecordKey(key[:0], b, r.First, nil)
			for it.SeekGE(key); it.Valid(); it.Next() {
				if e.broken.Load() {
					yield(store.Entry{}, store.ErrBroken)
					return
				}
				if hash, _, ok := splitRecordKey(it.Key()); ok && hash > r.Last {
					break
				}
				if !yield(e.entry(it)) {
					return
				}
			}
			if err := it.Error(); err != nil {
				yield(store.Entry{}, e.unreadable(nil, err))
				return
			}
		}
	}
}

func (e *Engine) entry(it *pebble.Iterator) (store.Entry, error) {
	hash, key, ok := splitRecordKey(it.Key())
	if !ok {
		return store.Entry{}, e.damage(it.Key(), fmt.Errorf("%w: a key of %d bytes", store.ErrDamaged, len(it.Key())))
	}
	raw, err := it.ValueAndErr()
	if err != nil {
		return store.Entry{Hash: hash, Key: key}, e.unreadable(key, err)
	}
	rec, err := store.DecodeRecord(key, raw)
	if err != nil {
		return store.Entry{Hash: hash, Key: key}, e.damage(key, err)
	}
	return store.Entry{Hash: hash, Key: key, Record: rec}, nil
}
