package disk

import (
	"errors"
	"fmt"
	"iter"

	"unkai"
	"unkai/internal/store"
)

// ingestBatch is how many bytes of records are written at a time.
const ingestBatch = 1 << 20

// Ingest implements store.Engine. A mark says that the bucket is being filled;
// it goes in the same batch in which the records are counted, so that a crash
// before leaves a bucket that is emptied when the store opens. Writes to the
// bucket fail with ErrBusy meanwhile.
func (e *Engine) Ingest(b unkai.Bucket, records iter.Seq2[store.Entry, error]) error {
	defer e.shut(b, true)()
	err := e.exclusive(func() error { return e.beginIngest(b) })
	if err != nil {
		return fmt.Errorf("filling bucket %d: %w", b, err)
	}
	sum, err := e.fillBucket(b, records)
	if err == nil {
		err = e.exclusive(func() error { return e.endIngest(b, sum) })
	}
	if err != nil {
		return fmt.Errorf("filling bucket %d: %w", b, errors.Join(err, e.exclusive(func() error { return e.emptyBucket(b) })))
	}
	return nil
}

func (e *Engine) beginIngest(b unkai.Bucket) error {
	for _, err := range e.walk(e.db, b, whole) {
		if err != nil && !errors.Is(err, store.ErrDamaged) {
			return err
		}
		return store.ErrNotEmpty
	}
	batch := e.db.NewBatch()
	if err := batch.Set(ingestKey(b), nil, nil); err != nil {
		return fmt.Errorf("marking it: %w", err)
	}
	return e.once(batch)
}

// fillBucket writes the records and counts them. They are not durable yet.
func (e *Engine) fillBucket(b unkai.Bucket, records iter.Seq2[store.Entry, error]) (sum counts, err error) {
	batch := e.db.NewBatchWithSize(ingestBatch + ingestBatch/4)
	flush := func() error {
		if err := e.stopped(); err != nil {
			return err
		}
		if err := e.space.admit(true); err != nil {
			return err
		}
		e.space.wrote(int64(batch.Len()))
		err := e.once(batch)
		batch = e.db.NewBatchWithSize(ingestBatch + ingestBatch/4)
		return err
	}
	var key, value []byte
	for t, err := range records {
		if err != nil {
			return sum, err
		}
		if len(t.Key) > maxKeyLength {
			return sum, fmt.Errorf("key of %d bytes is longer than %d", len(t.Key), maxKeyLength)
		}
		if err := t.Record.Check(); err != nil {
			return sum, fmt.Errorf("key %q: %w", t.Key, err)
		}
		key = appendRecordKey(key[:0], b, t.Hash, t.Key)
		value = store.AppendRecord(value[:0], t.Key, &t.Record)
		if err := batch.Set(key, value, nil); err != nil {
			return sum, fmt.Errorf("writing a record: %w", err)
		}
		sum.add(countOfEntry(&t))
		if batch.Len() >= ingestBatch {
			if err := flush(); err != nil {
				return sum, err
			}
		}
	}
	if batch.Empty() {
		return sum, batch.Close()
	}
	return sum, flush()
}

// endIngest counts what was written, and with that it is there. Its sync makes
// everything before it durable too.
func (e *Engine) endIngest(b unkai.Bucket, sum counts) error {
	batch := e.db.NewBatch()
	e.total.add(sum)
	if err := errors.Join(batch.Delete(ingestKey(b), nil), e.putCounts(batch)); err != nil {
		e.total.sub(sum)
		return err
	}
	if err := e.once(batch); err != nil {
		return err
	}
	e.shift(func(c *counts) { c.add(sum) })
	// Whoever read the bucket meanwhile may have remembered some of it.
	e.gens[b].Add(1)
	return nil
}

// emptyBucket takes back what was not counted.
func (e *Engine) emptyBucket(b unkai.Bucket) error {
	from, to := bucketRange(b)
	batch := e.db.NewBatch()
	if err := errors.Join(batch.DeleteRange(from, to, nil), batch.Delete(ingestKey(b), nil)); err != nil {
		return err
	}
	if err := e.once(batch); err != nil {
		return err
	}
	e.gens[b].Add(1)
	return nil
}

// dropUnfinished empties the buckets that were being filled at the crash.
func (e *Engine) dropUnfinished() error {
	var found []unkai.Bucket
	err := e.eachMeta(ingestSpace(), func(b unkai.Bucket, _, _ []byte) error {
		found = append(found, b)
		return nil
	})
	if err != nil {
		return err
	}
	for _, b := range found {
		e.log.Info("a bucket was only filled in part: emptied", "bucket", b)
		if err := e.emptyBucket(b); err != nil {
			return fmt.Errorf("emptying bucket %d: %w", b, err)
		}
	}
	return nil
}
