package replica

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"unkai"
)

// Held says why a tombstone may not be forgotten yet.
type Held uint8

// The reasons.
const (
	NotHeld   Held = iota // it may be
	HeldMove              // its bucket is on its way, or just was
	HeldAway              // a replica is away, or did not answer
	HeldOther             // a replica may hold something older, which repair will find
)

// Hold is why a tombstone may not be forgotten, and by which node.
type Hold struct {
	Held Held
	Node unkai.NodeID // 0: by none in particular
}

// Waits are tombstones that wait for the same.
type Waits struct {
	Hold
	Items int64
	Bytes int64 // of their keys and records
}

// waiting keeps what the last sweep of each bucket could not forget. The zero value
// is ready; it is bounded by the buckets and the replicas of each.
type waiting struct {
	mu      sync.Mutex
	buckets map[unkai.Bucket]map[Hold]Waits
}

func (w *waiting) set(b unkai.Bucket, kept map[Hold]Waits) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(kept) == 0 {
		delete(w.buckets, b)
		return
	}
	if w.buckets == nil {
		w.buckets = map[unkai.Bucket]map[Hold]Waits{}
	}
	w.buckets[b] = kept
}

// Waiting are the tombstones that the last sweeps could not forget, by what they wait
// for, most first.
func (s *Sweeper) Waiting() []Waits {
	all := map[Hold]Waits{}
	s.waiting.mu.Lock()
	for _, kept := range s.waiting.buckets {
		for _, w := range kept {
			count(all, w.Hold, w.Items, w.Bytes)
		}
	}
	s.waiting.mu.Unlock()
	return slices.SortedFunc(maps.Values(all), func(a, b Waits) int {
		return cmp.Or(cmp.Compare(b.Items, a.Items), cmp.Compare(a.Held, b.Held), cmp.Compare(a.Node, b.Node))
	})
}

func count(to map[Hold]Waits, h Hold, items, bytes int64) {
	w := to[h]
	to[h] = Waits{h, w.Items + items, w.Bytes + bytes}
}
