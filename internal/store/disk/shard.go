package disk

import (
	"sync"
	"sync/atomic"

	"unkai"
	"unkai/internal/store"
)

// shardCount is how many locks share the keys; shards are numbered by the bits
// of one word.
const shardCount = 64

// shard is an equal part of the keys: what of them is not durable yet, and
// what of them is in the cache.
type shard struct {
	mu     sync.Mutex
	pend   [2]pending
	turn   int // pend[turn] gathers; the other is of the group under way, or empty
	cache  cache
	counts counts
	taken  counts // what of counts is in a group already
	writes int64
	hits   int64
	miss   int64
	// versions count what was applied, by some bits of the hash. Who looked a
	// key up in the pebble without the lock knows by them whether what it found
	// still holds.
	versions [256]uint32

	_ [64]byte
}

// mix spreads hash and bucket over all bits, whatever hash the caller uses.
func mix(b unkai.Bucket, hash uint64) uint64 {
	x := (hash ^ uint64(b)<<48) * 0x9e3779b97f4a7c15
	x ^= x >> 32
	return x * 0xd6e8feb86659fd93
}

func shardOf(mixed uint64) int     { return int(mixed >> 58) }
func versionOf(mixed uint64) uint8 { return uint8(mixed >> 50) }

func (s *shard) gather() *pending { return &s.pend[s.turn] }
func (s *shard) flight() *pending { return &s.pend[1-s.turn] }

// pending finds the entry of a key that is not durable yet, the latest.
func (s *shard) pending(n name, key []byte) (*pending, *pendingEntry) {
	if t := s.gather().find(n, key); t != nil {
		return s.gather(), t
	}
	if t := s.flight().find(n, key); t != nil {
		return s.flight(), t
	}
	return nil, nil
}

// state is what a write has to know of the record that it replaces.
type state struct {
	ballot, promise unkai.Ballot
	kind            store.Kind
	valueLen        int
}

// known is the state of a key, where memory has it.
func (s *shard) known(n name, key []byte) (state, bool) {
	if _, t := s.pending(n, key); t != nil {
		return state{t.ballot, t.promise, t.kind, int(t.valueLen)}, true
	}
	if slot := s.cache.find(n, key); slot >= 0 {
		t := s.cache.at(slot)
		return state{t.ballot(), t.promise(), t.kind(), t.valueLen()}, true
	}
	return state{}, false
}

// append applies a write that was admitted, and counts what it changes.
func (s *shard) append(n name, w *store.Write, old state, now uint32) {
	s.counts.sub(countOf(old.kind, len(w.Key)+old.valueLen))
	s.counts.add(countOf(w.Record.Kind(), len(w.Key)+len(w.Record.Item.Value)))
	s.writes++
	s.versions[versionOf(n.mixed)]++
	s.gather().add(n, w, now)
}

// take makes what has gathered the group under way, and gives what it changed.
func (s *shard) take() counts {
	s.turn = 1 - s.turn
	delta := s.counts
	delta.sub(s.taken)
	s.taken = s.counts
	return delta
}

// settle moves what has become durable into the cache, and gives the writes to
// be told and their weight.
func (s *shard) settle(gens []atomic.Uint32) (*store.Write, int64) {
	p := s.flight()
	for i := range p.entries {
		t := &p.entries[i]
		if t.dead {
			continue
		}
		n, key := name{t.mixed, gens[t.bucket].Load(), t.bucket}, p.keyOf(t)
		if s.gather().find(n, key) != nil {
			continue // it is replaced already; that one will come here
		}
		if !t.purge() {
			s.cache.put(n, key, p.recordOf(t), about{
				ballot: t.ballot, kind: t.kind, valueLen: int(t.valueLen),
				accessed: t.accessed, fetched: t.fetched,
			})
		} else if slot := s.cache.find(n, key); slot >= 0 {
			s.cache.remove(slot)
		}
	}
	return p.reset()
}
