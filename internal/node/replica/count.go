package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"unkai"
	"unkai/internal/core/merkle"
	"unkai/internal/store"
)

// errForgotten: the bucket was dropped while it was being counted.
var errForgotten = errors.New("the bucket was forgotten meanwhile")

// purgesEnd is how often it is looked whether a bucket's purges are through.
const purgesEnd = time.Millisecond

// Count counts a bucket anew, beside whatever is written, and has its sums known
// from then on. If somebody else is counting it, nothing happens.
func (r *Local) Count(ctx context.Context, b unkai.Bucket) error {
	return r.CountTo(ctx, b, 0)
}

// CountTo is Count of a bucket whose tree shall have at least a depth.
func (r *Local) CountTo(ctx context.Context, b unkai.Bucket, least int) error {
	t := &r.trees[b]
	if least > 0 && t.deepen(r.skip(), least) {
		return nil
	}
	depth := r.guessDepth()
	if !t.counting.CompareAndSwap(false, true) {
		return nil
	}
	defer t.counting.Store(false)
	t.mu.Lock()
	life := t.life
	if t.known {
		depth = t.sums.Fit()
	}
	t.mu.Unlock()
	depth = max(depth, least)
	snapshot, last, err := r.snapshot(ctx, t, b, depth)
	if err == nil {
		err = r.count(ctx, snapshot, last, life, t, depth)
	}
	if err != nil {
		t.mu.Lock()
		t.later, t.noting = nil, false
		t.mu.Unlock()
		return fmt.Errorf("count bucket %d: %w", b, err)
	}
	return nil
}

// snapshot takes a snapshot of a bucket, and tells what has become of the keys of
// which it may show anything. What changes from then on is counted in t.later.
func (r *Local) snapshot(ctx context.Context, t *tree, b unkai.Bucket, depth int) (store.Snapshot, map[string]outcome, error) {
	if err := t.hold(ctx); err != nil {
		return nil, nil, err
	}
	s, err := r.engine.Snapshot(b)
	r.Settle() // what it may show has been counted by now
	t.mu.Lock()
	defer t.mu.Unlock()
	last := t.last
	t.last, t.later, t.still = nil, merkle.New(r.skip(), depth), false
	return s, last, err
}

// hold waits for the purges under way, lets none begin, and notes changes in t.last.
func (t *tree) hold(ctx context.Context) error {
	for {
		t.mu.Lock()
		t.still = true
		if t.purging == 0 {
			t.last, t.noting = map[string]outcome{}, true
		}
		ready := t.last != nil
		t.mu.Unlock()
		if ready {
			return nil
		}
		if !rest(ctx, purgesEnd) {
			t.mu.Lock()
			t.still = false
			t.mu.Unlock()
			return ctx.Err()
		}
	}
}

// count goes through a snapshot, leaving out the keys in last.
func (r *Local) count(ctx context.Context, s store.Snapshot, last map[string]outcome, life int, t *tree, depth int) (err error) {
	defer func() { err = errors.Join(err, s.Close()) }()
	sum := merkle.New(r.skip(), depth)
	n, blind := 0, false
	for e, err := range s.All() {
		if n++; n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, store.ErrDamaged) {
			blind = true // nobody knows what it was; the others will see that it is not here
			continue
		}
		if err != nil {
			return err
		}
		if _, ok := last[string(e.Key)]; !ok {
			sum.Change(e.Hash, 0, e.Record.Ballot)
		}
	}
	for _, o := range last {
		sum.Change(o.hash, 0, o.ballot)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if life != t.life || t.later == nil {
		return errForgotten
	}
	sum.Add(t.later)
	t.sums, t.known, t.later, t.noting, t.blind = *sum, true, nil, false, blind
	return nil
}

// guessDepth is the depth of a tree over an average bucket of this node.
func (r *Local) guessDepth() int {
	s := r.engine.Stats()
	held := int64(0)
	top := r.topology()
	for b := range top.Buckets {
		if r.member(top.Route(unkai.Bucket(b))) {
			held++
		}
	}
	return merkle.DepthFor((s.Items + s.Tombstones) / max(held, 1))
}
