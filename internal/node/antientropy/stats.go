package antientropy

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"unkai"
)

// verified is when a bucket was last found equal at all present replicas.
type verified struct {
	mu    sync.Mutex
	at    int64
	first int64 // when it was first looked at
	epoch unkai.Epoch
	by    []unkai.NodeID
	// differ is how many keys were not equal everywhere at the last look.
	differ int64
}

// leave notes that another node compares the bucket now: what this one has found counts
// no more for how long it has waited.
func (v *verified) leave() {
	v.mu.Lock()
	v.first = 0
	v.mu.Unlock()
}

type counters struct {
	compared, differed, adopted, brought, settled, failed, sent, received, counted atomic.Int64
}

// Stats counts what was compared and mended since the start.
type Stats struct {
	Compared int64 // buckets compared by this node with all other replicas
	Differed int64 // of those, not equal at the first look
	Adopted  int64 // records taken over here
	Brought  int64 // records that other replicas took over because of this node
	Settled  int64 // keys that needed a round
	Failed   int64 // records that a store could not take over
	Sent     int64 // bytes of questions
	Received int64 // bytes of answers
	Counted  int64 // buckets counted anew
	// Unreconciled is how many keys were not equal everywhere when their buckets were
	// looked at last, as far as this node compares them.
	Unreconciled int64
	// Oldest is when the bucket was last found equal at all its replicas for which
	// that is longest ago, among those that this node compares; 0: all of them just
	// were, or there is none. In milliseconds since 1970.
	Oldest int64
	Bucket unkai.Bucket // which that is
}

// Stats are the counters at this moment.
func (r *Repairer) Stats() Stats {
	r.init()
	c := &r.stats
	s := Stats{
		Compared: c.compared.Load(), Differed: c.differed.Load(), Adopted: c.adopted.Load(), Brought: c.brought.Load(),
		Settled: c.settled.Load(), Failed: c.failed.Load(), Sent: c.sent.Load(), Received: c.received.Load(), Counted: c.counted.Load(),
	}
	top := r.Topology()
	oldest := int64(math.MaxInt64)
	for b := range r.verified {
		if !r.leads(top.Route(unkai.Bucket(b))) {
			continue
		}
		v := &r.verified[b]
		v.mu.Lock()
		s.Unreconciled += v.differ
		if at := max(v.at, v.first); v.first != 0 && at < oldest {
			oldest, s.Bucket = at, unkai.Bucket(b)
		}
		v.mu.Unlock()
	}
	if oldest != math.MaxInt64 {
		s.Oldest = oldest
	}
	return s
}

// Verified is when a bucket was last found equal at all of these seats, and at all
// other present replicas, in its present epoch; false: it was not, as far as this node
// knows.
func (r *Repairer) Verified(b unkai.Bucket, seats []unkai.Seat) (at int64, ok bool) {
	r.init()
	top := r.Topology()
	v := &r.verified[b]
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.at == 0 || v.epoch != top.Route(b).Epoch {
		return 0, false
	}
	for _, s := range seats {
		if n, ok := top.Seated(s); !ok || !slices.Contains(v.by, n.ID) {
			return 0, false
		}
	}
	return v.at, true
}
