package antientropy

import (
	"context"
	"sync"

	"unkai"
	"unkai/internal/core/topology"
	"unkai/internal/node/replica"
)

// comparison is that of a bucket's root with the others'.
type comparison struct {
	bucket unkai.Bucket
	route  *topology.Route
	peers  []unkai.NodeID // those who have answered
	differ bool
	depth  int
	most   int64 // records of the one who has most
	all    bool  // nobody was away
	keys   int64 // that were found to differ
	mine   replica.Tree

	hurried bool    // what changes all the time is mended too
	why     trouble // if not all were compared
	absent  string
	// What became of it: whether nothing differed after all; whether all that
	// differed was changing under the eyes, and has been mended.
	level, restless                 bool
	err                             error
	brought, settled, failed, bytes int64
}

// pass compares all buckets of this node, or only those that somebody waits for, and mends
// where they differ.
func (r *Repairer) pass(ctx context.Context, wanted bool) {
	top := r.Topology()
	looks := r.looks(top, wanted)
	r.compareRoots(ctx, looks)
	var wg sync.WaitGroup
	slots := make(chan struct{}, sessions)
	for i := range looks {
		l := &looks[i]
		if ctx.Err() != nil {
			break
		}
		if !l.differ {
			r.found(l, l.all)
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			r.stats.differed.Add(1)
			if l.level, l.err = r.mend(ctx, top, l); l.err != nil && ctx.Err() == nil {
				l.keys = max(l.keys, 1)
				r.Log.Debug("a bucket could not be compared to the end; it will be tried again", "bucket", l.bucket, "err", l.err)
			}
			r.found(l, l.level && l.all && l.err == nil)
		})
	}
	wg.Wait()
	r.again(ctx, looks)
}

// found notes what a comparison has found.
func (r *Repairer) found(l *comparison, equal bool) {
	r.demands.note(l, equal)
	now := r.Now()
	v := &r.verified[l.bucket]
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.first == 0 {
		v.first = now
	}
	v.differ = l.keys
	if equal {
		r.stats.compared.Add(1)
		v.at, v.epoch, v.by = now, l.route.Epoch, present(l.route)
	}
}

// looks are the buckets that this node leads and has counted; or only those of them
// that somebody waits for.
func (r *Repairer) looks(top *topology.Topology, only bool) (out []comparison) {
	for b := range top.Buckets {
		route := top.Route(unkai.Bucket(b))
		wanted, hurried := r.demands.wants(unkai.Bucket(b))
		if !r.leads(route) {
			r.verified[b].leave()
			continue
		}
		if only && !wanted {
			continue
		}
		l := r.look(unkai.Bucket(b), route)
		l.hurried = hurried
		if !l.mine.Known {
			l.lacks(counting, r.Self)
			r.found(&l, false)
			continue
		}
		out = append(out, l)
	}
	return out
}

// look begins the comparison of a bucket with what this node holds of it.
func (r *Repairer) look(b unkai.Bucket, route *topology.Route) comparison {
	t := r.Replica.Tree(b)
	return comparison{bucket: b, route: route, all: true, mine: t, depth: t.Depth, most: t.Records}
}
