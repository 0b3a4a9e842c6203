package replica

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"unkai"
	"unkai/internal/core/topology"
	"unkai/internal/store"
)

// Sweeper removes what nobody can see any more: it turns expired items into
// tombstones, and purges tombstones that every replica holds, records that were
// flushed, and those that only promise. It scans only buckets in which something is due, and rests
// nine times as long as it works.
type Sweeper struct {
	Replica *Local
	// Expire asks the coordinator for the keys, none of them empty, as a read
	// would: who finds an item expired makes it a tombstone.
	Expire func(keys [][]byte)
	// Mine reports whether it is this node that should see to a bucket's expired
	// items; another one does it else. Nil: it is.
	Mine func(unkai.Bucket) bool
	// Level says of which tombstones of a bucket all other replicas have something that
	// makes up for them, so that they may be forgotten, and what the others wait for;
	// see docs/decisions/0016.
	Level func(ctx context.Context, b unkai.Bucket, gone []Gone) []Hold
	// Alive reports whether a node seems to be; nil: all are.
	Alive func(unkai.NodeID) bool
	// Now is the clock, in milliseconds since 1970.
	Now func() int64
	// Failed hears of a bucket that could not be swept; it is tried again.
	Failed func(unkai.Bucket, error)

	waiting waiting
}

const (
	// sweepAgain is after what time a bucket is looked at again at the earliest, and
	// sweepLater at the latest when there was nothing to be done about what is due,
	// because some replica is away, say, and that is still so.
	sweepAgain = 10 * time.Second
	sweepLater = 80 * time.Second

	sweepEvery   = time.Second // how often it looks for buckets that are due
	sweepRest    = 9           // times as long as the work before
	expireBatch  = 64          // keys per question to the coordinator
	sweepBatch   = 256         // records that are forgotten together
	purgesAtOnce = 64          // they share the store's syncs
)

// expect notes when a record just written will want a sweep of its bucket.
func (r *Local) expect(b unkai.Bucket, rec *store.Record) {
	if due := dueOf(rec); due != 0 {
		lower(&r.due[b], due)
	}
}

// dueOf is when a sweep has something to do about a record, 0 for never.
func dueOf(rec *store.Record) int64 {
	if rec.Tombstone || rec.Ballot == 0 {
		return 1
	}
	return rec.Item.Expiry
}

// unswept is when a bucket is due of which nobody knows yet what is in it.
const unswept = math.MinInt64

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
	last := make([]time.Time, len(s.Replica.due))
	wait := make([]time.Duration, len(last))
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for b := range s.Replica.due {
			due, start := s.Replica.due[b].Load(), time.Now()
			rested := start.Sub(last[b])
			if due == 0 || due > s.Now() || rested < wait[b] && (rested < sweepAgain || !s.over(unkai.Bucket(b))) {
				continue
			}
			vain, err := s.sweep(ctx, unkai.Bucket(b))
			if err != nil && ctx.Err() == nil {
				s.Failed(unkai.Bucket(b), err)
			}
			if wait[b] = min(2*wait[b], sweepLater); !vain || wait[b] == 0 {
				wait[b] = sweepAgain
			}
			last[b] = start
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

// Gone is a record of something that is not there any more.
type Gone struct {
	Hash   uint64
	Key    []byte
	Ballot unkai.Ballot // 0: it only promises
	Epoch  unkai.Epoch
	size   int // of key and record, in bytes
}

// Sweep goes through one bucket once.
func (s *Sweeper) Sweep(ctx context.Context, b unkai.Bucket) error {
	_, err := s.sweep(ctx, b)
	return err
}

// sweep reports also whether there was something to forget, and it could not be.
func (s *Sweeper) sweep(ctx context.Context, b unkai.Bucket) (vain bool, err error) {
	due := &s.Replica.due[b]
	due.Store(0) // what is written from here on notes itself again, and so does a flush
	w := sweep{Sweeper: s, bucket: b, waits: map[Hold]Waits{}, top: s.Replica.topology(), now: s.Now(), mine: s.Mine == nil || s.Mine(b)}
	err = w.scan(ctx)
	s.waiting.set(b, w.waits)
	if err != nil {
		w.remember(1)
		err = fmt.Errorf("sweep bucket %d: %w", b, err)
	}
	if w.again != 0 {
		lower(due, w.again)
	}
	return w.kept > 0 && w.forgot == 0, err
}

// sweep is one going through a bucket.
type sweep struct {
	*Sweeper
	bucket  unkai.Bucket
	top     *topology.Topology
	now     int64
	mine    bool
	again   int64 // when to come again, 1: soon; 0: no need
	expired [][]byte
	dead    []Gone // tombstones: others have to be asked
	husks   []Gone // what only promises, and what was flushed: they need not be
	kept    int    // tombstones that could not be forgotten
	forgot  int    // and that were
	waits   map[Hold]Waits
}

func (w *sweep) remember(at int64) {
	if w.again == 0 || at < w.again {
		w.again = at
	}
}

func (w *sweep) scan(ctx context.Context) error {
	for e, err := range w.Replica.engine.Scan(w.bucket) {
		if errors.Is(err, store.ErrDamaged) {
			continue // unknown is not for us to remove
		}
		if err != nil {
			return err
		}
		w.see(&e)
		if err := w.flush(ctx, sweepBatch); err != nil {
			return err
		}
	}
	return w.flush(ctx, 1)
}

// see decides what is to be done about a record.
func (w *sweep) see(e *store.Entry) {
	rec := &e.Record
	gone := func() Gone {
		return Gone{e.Hash, slices.Clone(e.Key), rec.Ballot, rec.Epoch, len(e.Key) + store.EncodedLen(rec)}
	}
	switch {
	case rec.Promise.Counter() > HighestFloor: // nobody would take such a floor over
	case rec.Ballot == 0 || w.top.Forgotten(rec.Epoch):
		w.husks = append(w.husks, gone())
	case rec.Tombstone:
		w.dead = append(w.dead, gone())
	case rec.Item.Expiry == 0:
	case rec.Item.Expiry > w.now:
		w.remember(rec.Item.Expiry)
	case !w.mine:
		w.remember(1)
	default:
		w.expired = append(w.expired, slices.Clone(e.Key))
	}
}

// flush does what was decided about at least so many records.
func (w *sweep) flush(ctx context.Context, least int) error {
	if len(w.expired) >= min(least, expireBatch) {
		w.Expire(w.expired)
		w.expired = w.expired[:0]
		w.remember(1) // the tombstones they leave
	}
	if len(w.husks) >= least {
		if err := w.purge(ctx, w.husks); err != nil {
			return err
		}
		w.husks = w.husks[:0]
	}
	if len(w.dead) < least {
		return ctx.Err()
	}
	var forget []Gone
	for i, hold := range w.Level(ctx, w.bucket, w.dead) {
		if hold.Held == NotHeld {
			forget = append(forget, w.dead[i])
		} else {
			count(w.waits, hold, 1, int64(w.dead[i].size))
		}
	}
	w.forgot, w.kept = w.forgot+len(forget), w.kept+len(w.dead)-len(forget)
	if w.kept > 0 {
		w.remember(1)
	}
	w.dead = w.dead[:0]
	return errors.Join(w.purge(ctx, forget), ctx.Err())
}

// purge forgets records, many at once, since each waits for the disk.
func (w *sweep) purge(ctx context.Context, gone []Gone) error {
	purges, ctx := errgroup.WithContext(ctx)
	purges.SetLimit(purgesAtOnce)
	for i := range gone {
		if ctx.Err() != nil {
			break
		}
		purges.Go(func() error { return w.Replica.purge(w.bucket, &gone[i]) })
	}
	return purges.Wait()
}

// purge forgets a record, unless it has changed since.
func (r *Local) purge(b unkai.Bucket, v *Gone) error {
	t := &r.trees[b]
	if !t.mayPurge() {
		lower(&r.due[b], 1) // the next sweep will
		return nil
	}
	err := r.engine.Purge(b, v.Hash, v.Key, v.Ballot)
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
