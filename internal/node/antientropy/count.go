package antientropy

import (
	"context"
	"slices"
	"time"

	"unkai"
	"unkai/internal/store"
)

const (
	// restShare is how long is rested after counting for a while, and after a pass, as a
	// share of the time that took: who asks for keys meanwhile comes through.
	restShare = 4
	// countFor is that while. To rest after each bucket would take long on a machine on
	// which who wakes has to wait for a processor.
	countFor = 50 * time.Millisecond
)

// weigh is what this node holds of a bucket that is there already, in bytes.
func (c *bringer) weigh() (bytes int64) {
	err := c.Replica.Each(c.b, func(e *store.Entry) bool {
		bytes += int64(len(e.Key) + len(e.Record.Item.Value))
		return true
	})
	if err != nil { // as one that is damaged: nothing is to be brought all the same
		return notCounted
	}
	return bytes
}

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
	worked := time.Duration(0)
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
		if worked += time.Since(began); worked < countFor {
			continue
		}
		if !sleep(ctx, worked/restShare) {
			return false
		}
		worked = 0
	}
	return true
}
