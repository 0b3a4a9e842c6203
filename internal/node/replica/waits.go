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
	NotHeld    Held = iota // it may be
	HeldMove               // its bucket is on its way, or just was
	HeldAway               // a replica is away
	HeldSilent             // a replica is there, and did not answer
	HeldOther              // a replica may hold something older, which repair will find
	HeldLost               // a replica was lost, and nobody has its place yet
	HeldSoon               // what it waited for is over: the next sweep will see
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
	for b, kept := range s.waiting.buckets {
		for hold, w := range kept {
			if s.ended(b, hold) {
				hold = Hold{Held: HeldSoon}
			}
			count(all, hold, w.Items, w.Bytes)
		}
	}
	s.waiting.mu.Unlock()
	return slices.SortedFunc(maps.Values(all), func(a, b Waits) int {
		return cmp.Or(cmp.Compare(b.Items, a.Items), cmp.Compare(a.Held, b.Held), cmp.Compare(a.Node, b.Node))
	})
}

// over reports whether something that a bucket's tombstones waited for is over.
func (s *Sweeper) over(b unkai.Bucket) bool {
	s.waiting.mu.Lock()
	defer s.waiting.mu.Unlock()
	for hold := range s.waiting.buckets[b] {
		if s.ended(b, hold) {
			return true
		}
	}
	return false
}

// ended reports whether a reason not to forget tombstones of a bucket is one no more.
func (s *Sweeper) ended(b unkai.Bucket, h Hold) bool {
	route := s.Replica.topology().Route(b)
	member := slices.Contains(route.Members, h.Node)
	switch h.Held {
	case HeldAway:
		return !member || s.Alive == nil || s.Alive(h.Node)
	case HeldMove:
		return !route.Moving
	default: // nodes may differ for long: it is the one that lacks something who looks
		return !member
	}
}

func count(to map[Hold]Waits, h Hold, items, bytes int64) {
	w := to[h]
	to[h] = Waits{h, w.Items + items, w.Bytes + bytes}
}
