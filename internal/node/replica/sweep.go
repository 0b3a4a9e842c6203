package replica

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"unkai"
	"unkai/internal/store"
)

// Sweeper removes what nobody can see any more: it turns expired items into
// tombstones, and purges tombstones that every replica holds and records that
// were flushed. It scans only buckets in which something is due, and rests
// nine times as long as it works.
type Sweeper struct {
	Replica *Local
	// Expire asks the coordinator for the keys, none of them empty, as a read
	// would: who finds an item expired makes it a tombstone.
	Expire func(keys [][]byte)
	// Mine reports whether it is this node that should see to a bucket's expired
	// items; another one does it else. Nil: it is.
	Mine func(unkai.Bucket) bool
	// MayPurge reports whether tombstones of the bucket may be forgotten: all
	// replicas hold them and nothing older is under way (DESIGN §4, Deletes).
	MayPurge func(unkai.Bucket) bool
	// Now is the clock, in milliseconds since 1970.
	Now func() int64
	// Failed hears of a bucket that could not be swept; it is tried again.
	Failed func(unkai.Bucket, error)
}

const (
	sweepEvery   = time.Second // how often it looks for buckets that are due
	sweepRest    = 9           // times as long as the work before
	sweepRetry   = 10_000      // ms until a bucket is looked at again
	expireBatch  = 64          // keys per question to the coordinator
	purgesAtOnce = 64          // they share the store's syncs
)

// expect notes when a record just written will want a sweep of its bucket.
func (r *Local) expect(b unkai.Bucket, rec *store.Record) {
	switch {
	case rec.Tombstone:
		lower(&r.due[b], 1)
	case rec.Item.Expiry != 0:
		lower(&r.due[b], rec.Item.Expiry)
	}
}

// lower sets v to at most to, where 0 means never.
func lower(v *atomic.Int64, to int64) {
	for {
		old := v.Load()
		if old != 0 && old <= to || v.CompareAndSwap(old, to) {
			return
		}
	}
}

// Flushed makes every bucket due: a flush leaves records nobody can see.
func (r *Local) Flushed() {
	for b := range r.due {
		r.due[b].Store(1)
	}
}

// Run sweeps until the context ends.
func (s *Sweeper) Run(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for b := range s.Replica.due {
			due := s.Replica.due[b].Load()
			if due == 0 || due > s.Now() {
				continue
			}
			start := time.Now()
			if err := s.Sweep(ctx, unkai.Bucket(b)); err != nil && ctx.Err() == nil {
				s.Failed(unkai.Bucket(b), err)
			}
			if !rest(ctx, sweepRest*time.Since(start)) {
				return
			}
		}
	}
}

func rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// victim is a record to be purged.
type victim struct {
	hash uint64
	key  []byte
	at   unkai.Ballot
}

// Sweep goes through one bucket once.
func (s *Sweeper) Sweep(ctx context.Context, b unkai.Bucket) error {
	r := s.Replica
	r.due[b].Store(0) // what is written from here on notes itself again
	again := int64(0)
	remember := func(at int64) {
		if again == 0 || at < again {
			again = at
		}
	}
	defer func() {
		if again != 0 {
			lower(&r.due[b], again)
		}
	}()
	var expired [][]byte
	expire := func() {
		if len(expired) > 0 {
			s.Expire(expired)
			expired = expired[:0]
			remember(1) // the tombstones they leave
		}
	}
	top, now, mayPurge := r.topology(), s.Now(), s.MayPurge(b)
	mine := s.Mine == nil || s.Mine(b)
	purges, purgeCtx := errgroup.WithContext(ctx)
	purges.SetLimit(purgesAtOnce)
	for e, err := range r.engine.Scan(b) {
		if err != nil && !errors.Is(err, store.ErrDamaged) {
			remember(now + sweepRetry)
			return errors.Join(fmt.Errorf("sweep bucket %d: %w", b, err), purges.Wait())
		}
		if purgeCtx.Err() != nil {
			break
		}
		rec := &e.Record
		switch gone := rec.Tombstone || top.Forgotten(rec.Epoch); {
		case err != nil: // damaged: unknown is not for us to remove
		// What was scanned under this topology: what came under a later one may be all
		// that keeps a new replica from bringing back what was deleted.
		case gone && mayPurge && r.topology() == top:
			v := victim{e.Hash, append([]byte(nil), e.Key...), rec.Ballot}
			purges.Go(func() error { return r.purge(b, v) })
		case gone:
			remember(now + sweepRetry)
		case rec.Item.Expiry != 0 && rec.Item.Expiry <= now && !mine:
			remember(now + sweepRetry)
		case rec.Item.Expiry != 0 && rec.Item.Expiry <= now:
			if expired = append(expired, append([]byte(nil), e.Key...)); len(expired) == expireBatch {
				expire()
			}
		case rec.Item.Expiry != 0:
			remember(rec.Item.Expiry)
		}
	}
	expire()
	if err := purges.Wait(); err != nil {
		remember(now + sweepRetry)
		return fmt.Errorf("sweep bucket %d: %w", b, err)
	}
	if ctx.Err() != nil {
		remember(1)
	}
	return ctx.Err()
}

// purge forgets a record, unless it has changed since.
func (r *Local) purge(b unkai.Bucket, v victim) error {
	t := &r.trees[b]
	if !t.mayPurge() {
		return nil // the next sweep will
	}
	err := r.engine.Purge(b, v.hash, v.key, v.at)
	t.purged(v, err == nil)
	switch {
	case errors.Is(err, store.ErrConflict):
		return nil
	case err != nil:
		return err
	}
	r.counters.purged.Add(1)
	return nil
}

// isInDoubt reports whether a write that ended with err may have been applied.
func isInDoubt(err error) bool { return errors.Is(err, store.ErrBroken) }
