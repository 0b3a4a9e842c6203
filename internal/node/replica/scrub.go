package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"unkai"
	"unkai/internal/store"
)

// Scrubber reads every record of the store once in some days, those that nobody asks for
// too, so that damage is noticed, and healed, while the other replicas still have what it
// was. Set the fields, then Run.
type Scrubber struct {
	Replica *Local
	// Failed hears of a bucket that could not be read to its end.
	Failed func(unkai.Bucket, error)

	records, passes, found, bucket atomic.Int64
}

const (
	// scrubPass is how long it takes to read everything, if the disk is fast enough.
	scrubPass = 3 * 24 * time.Hour
	// scrubPart is how much it reads without a rest: of scrubLeast, which is 8 MiB a
	// second, so that larger stores take longer; to scrubMost, so that no scan stays open
	// for long. Between two buckets it rests for what is left of their time.
	scrubPart  = 256 << 10
	scrubLeast = time.Second / 32
	scrubMost  = time.Second / 4
	// scrubNames is how many keys are noted before they are looked at.
	scrubNames = 256
)

// Scrubbed is how far a Scrubber is.
type Scrubbed struct {
	Records int64 // read since the start
	Passes  int64 // through the whole store
	Damaged int64 // of the records, found damaged
	Bucket  int64 // that is being read
}

// Stats are the counters at this moment.
func (s *Scrubber) Stats() Scrubbed {
	return Scrubbed{s.records.Load(), s.passes.Load(), s.found.Load(), s.bucket.Load()}
}

// Run reads until the context ends.
func (s *Scrubber) Run(ctx context.Context) {
	buckets := len(s.Replica.trees)
	each := scrubPass / time.Duration(buckets)
	for b := 0; ; b++ {
		// It begins with a rest: a node that starts has other things to do.
		if !rest(ctx, each/2) {
			return
		}
		if b == buckets {
			b = 0
			s.passes.Add(1)
		}
		s.bucket.Store(int64(b))
		began := time.Now()
		err := s.Scrub(ctx, unkai.Bucket(b), each/2)
		if left := each/2 - time.Since(began); left > 0 && !rest(ctx, left) {
			return
		}
		if err != nil && ctx.Err() == nil {
			s.Failed(unkai.Bucket(b), err)
		}
	}
}

// Scrub reads one bucket, and takes about so long for it.
func (s *Scrubber) Scrub(ctx context.Context, b unkai.Bucket, within time.Duration) error {
	r := s.Replica
	if !r.member(r.topology().Route(b)) {
		return nil
	}
	st := r.engine.Stats()
	size := (st.Used + st.Bytes) / int64(len(r.trees)) // of a bucket, about
	pause := min(max(time.Duration(float64(within)*scrubPart/float64(max(size, scrubPart))), scrubLeast), scrubMost)
	var names []named
	unnamed, read := false, 0
	for e, err := range r.engine.Scan(b) {
		s.records.Add(1)
		switch {
		case errors.Is(err, store.ErrDamaged):
			s.found.Add(1)
			if hash := r.topology().Space().Hash(e.Key); len(e.Key) > 0 && hash == e.Hash && len(names) < scrubNames {
				names = append(names, named{hash, slices.Clone(e.Key)})
			} else {
				unnamed = true
			}
		case err != nil:
			return fmt.Errorf("scrub bucket %d: %w", b, err)
		}
		if read += len(e.Key) + len(e.Record.Item.Value) + store.MaxRecordOverhead; read >= scrubPart {
			read = 0
			if !rest(ctx, pause) {
				return ctx.Err()
			}
		}
	}
	if !rest(ctx, pause*time.Duration(read)/scrubPart) {
		return ctx.Err()
	}
	for _, n := range names {
		r.Examine(b, n.hash, n.key)
	}
	if unnamed {
		// What it was, the others know: counted anew, the bucket differs from theirs.
		r.trees[b].forget()
	}
	return ctx.Err()
}

// named is a key with its hash.
type named struct {
	hash uint64
	key  []byte
}
