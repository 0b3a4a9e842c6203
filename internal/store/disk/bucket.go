package disk

import (
	"fmt"
	"iter"
	"math"

	"github.com/cockroachdb/pebble/v2"

	"unkai"
	"unkai/internal/store"
)

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
