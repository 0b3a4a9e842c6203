package antientropy

import (
	"context"
	"slices"
	"sync"

	"unkai"
	"unkai/internal/core/merkle"
)

// root is what another replica says of a bucket.
type root struct {
	state   state
	depth   int
	sum     uint64
	records int64
}

// compareRoots asks all others for the roots of all buckets that they share.
func (r *Repairer) compareRoots(ctx context.Context, looks []comparison) {
	shared := map[unkai.NodeID][]int{}
	var order []unkai.NodeID
	for i := range looks {
		for _, id := range present(looks[i].route) {
			if id == r.Self {
				continue
			}
			if id == 0 || !r.Alive(id) {
				looks[i].lacks(absent, id)
				continue
			}
			if shared[id] == nil {
				order = append(order, id)
			}
			shared[id] = append(shared[id], i)
		}
	}
	answers := make([][]root, len(order))
	var wg sync.WaitGroup
	for n, id := range order {
		wg.Go(func() { answers[n] = r.askRoots(ctx, id, looks, shared[id]) })
	}
	wg.Wait()
	for n, id := range order {
		for k, i := range shared[id] {
			l := &looks[i]
			switch {
			case k >= len(answers[n]):
				l.lacks(foreign, id)
				continue
			case answers[n][k].state == stateUnknown:
				l.lacks(counting, id)
				continue
			case answers[n][k].state != stateOK || answers[n][k].depth < merkle.MinDepth || answers[n][k].depth > merkle.MaxDepth:
				l.lacks(foreign, id)
				continue
			}
			a := answers[n][k]
			l.peers = append(l.peers, id)
			l.depth, l.most = min(l.depth, a.depth), max(l.most, a.records)
			l.differ = l.differ || a.sum != l.mine.Root
		}
	}
}

// again asks once more for the roots of the buckets in which all was mended, so that
// it is known at once that they are equal, and not only after the next pass.
func (r *Repairer) again(ctx context.Context, looks []comparison) {
	var mended []comparison
	for i := range looks {
		if l := &looks[i]; l.differ && !l.level && l.all && l.err == nil && l.failed == 0 {
			mended = append(mended, r.look(l.bucket, l.route))
		}
	}
	r.compareRoots(ctx, mended)
	for i := range mended {
		if l := &mended[i]; l.all && l.mine.Known && !l.differ {
			r.found(l, true)
		}
	}
}

func (r *Repairer) askRoots(ctx context.Context, id unkai.NodeID, looks []comparison, which []int) (out []root) {
	for part := range slices.Chunk(which, maxBuckets) {
		q := []byte{byte(askRoots)}
		for _, i := range part {
			q = u32(u16(q, uint16(looks[i].bucket)), uint32(looks[i].route.Epoch))
		}
		reply, err := r.ask(ctx, id, q)
		if err != nil {
			return out
		}
		in := reader{b: reply}
		for range part {
			out = append(out, root{state(in.u8()), int(in.u8()), in.u64(), int64(in.u32())})
		}
		if in.end() != nil {
			return out[:len(out)-len(part)]
		}
	}
	return out
}
