package antientropy

import (
	"context"
	"slices"
	"time"

	"unkai"
)

// restShare is how long is rested after a bucket was counted, and after a pass, as a
// share of the time that took: who asks for keys meanwhile comes through.
const restShare = 4

// keepCounted counts the buckets of this node that have to be, beside the passes,
// until the context ends: what a node missed is not found before, so it does not wait
// for what is being mended.
func (r *Repairer) keepCounted(ctx context.Context) {
	// Ahead of the first pass.
	if !sleep(ctx, passEvery/7) {
		return
	}
	tick := time.NewTicker(passEvery)
	defer tick.Stop()
	for {
		if !r.count(ctx) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// count goes through all buckets once. It reports false when the context has ended.
func (r *Repairer) count(ctx context.Context) bool {
	top := r.Topology()
	for b := range top.Buckets {
		bucket := unkai.Bucket(b)
		if !slices.Contains(top.Route(bucket).Members, r.Self) || !r.Replica.Unfit(bucket) {
			continue
		}
		began := time.Now()
		err := r.Replica.Count(ctx, bucket)
		switch {
		case ctx.Err() != nil:
			return false
		case err != nil:
			r.Log.Debug("a bucket could not be counted; it will be tried again", "bucket", b, "err", err)
		}
		r.stats.counted.Add(1)
		if took := time.Since(began); took > 0 && !sleep(ctx, took/restShare) {
			return false
		}
	}
	return true
}
