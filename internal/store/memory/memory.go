// Package memory is the engine that keeps records in memory, for tens of GB of
// small ones. Nothing of it is on the Go heap but a little bookkeeping without
// pointers, so the garbage collector has nothing to scan.
//
// A bucket is one part or several; a part belongs to one of the shards, whose
// lock guards it. A shard cuts pages from the engine's pool into slots of
// equal size; a slot holds a record (item.go), a piece of a long value, or a
// table of a part's index (table.go).
package memory

import (
	"fmt"
	"hash/crc32"
	"math/bits"
	"sync/atomic"
	"time"

	"unkai"
	"unkai/internal/store"
)

// MinLimit is the smallest limit that an engine can be given.
const MinLimit = 4 << 20

const (
	maxBuckets = 1 << 16
	maxShards  = 256
	// A shard needs room for pages of many sizes of slots: with less than
	// this for each, there are fewer shards.
	limitPerShard = 16 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Errors made once, since they are frequent or come when memory is short.
var (
	errConflict = fmt.Errorf("memory: conditional write: %w", store.ErrConflict)
	errFull     = error(full{})
)

// full is ErrFull, and says so to clients as memcached does.
type full struct{}

// Error implements error.
func (full) Error() string { return "memory: write: " + store.ErrFull.Error() }

// Unwrap implements the error chain.
func (full) Unwrap() error { return store.ErrFull }

// MemcacheText is memcached's own line for it.
func (full) MemcacheText() string { return "out of memory storing object" }

// Config of an Engine.
type Config struct {
	Buckets int   // a power of two, at most 65,536
	Limit   int64 // bytes of records and index together; 0: none
	// Now is the clock for the time of last access, in milliseconds since
	// 1970; nil: the system's.
	Now func() int64
}

// Engine is a store.Engine in memory.
type Engine struct {
	now    func() int64
	pool   *pool
	shards []shard
	parts  []part
	// perBucket is how many parts a bucket has, a power of two.
	perBucket int
	floors    []atomic.Uint64

	closed atomic.Bool
}

var _ store.Engine = (*Engine)(nil)

// Open makes an empty engine.
func Open(cfg Config) (*Engine, error) {
	if cfg.Buckets < 1 || cfg.Buckets > maxBuckets || bits.OnesCount(uint(cfg.Buckets)) != 1 {
		return nil, fmt.Errorf("memory: %d buckets: want a power of two, at most %d", cfg.Buckets, maxBuckets)
	}
	if cfg.Limit != 0 && cfg.Limit < MinLimit {
		return nil, fmt.Errorf("memory: limit of %d bytes: want at least %d, or 0 for none", cfg.Limit, MinLimit)
	}
	shards := maxShards
	for cfg.Limit != 0 && shards > 1 && cfg.Limit/int64(shards) < limitPerShard {
		shards /= 2
	}
	e := &Engine{
		now:       cfg.Now,
		pool:      newPool(cfg.Limit),
		shards:    make([]shard, shards),
		parts:     make([]part, max(shards, cfg.Buckets)),
		perBucket: max(1, shards/cfg.Buckets),
		floors:    make([]atomic.Uint64, cfg.Buckets),
	}
	if e.now == nil {
		e.now = func() int64 { return time.Now().UnixMilli() }
	}
	for i := range e.shards {
		e.shards[i].init(e.pool)
	}
	return e, nil
}

// mix spreads a hash: all hashes of a bucket agree in some bits, and which they
// are is not this package's business.
func mix(h uint64) uint64 {
	h ^= h >> 32
	h *= 0x9fb21c651e98df25
	h ^= h >> 29
	h *= 0xd6e8feb86659fd93
	return h ^ h>>32
}

// locate says where the key's record is kept: its part, the shard of that, and
// the key's tag.
func (e *Engine) locate(b unkai.Bucket, hash uint64) (*part, *shard, uint32) {
	m := mix(hash)
	i := int(b)*e.perBucket + int(m)&(e.perBucket-1)
	return &e.parts[i], &e.shards[i&(len(e.shards)-1)], uint32(m >> (64 - tagBits))
}

// bucketParts are the parts of a bucket, and the number of the first.
func (e *Engine) bucketParts(b unkai.Bucket) ([]part, int) {
	first := int(b) * e.perBucket
	return e.parts[first : first+e.perBucket], first
}

// shardOf is the shard of the i-th part. The parts of one bucket have
// different shards, in rising order: that is the order of locking.
func (e *Engine) shardOf(i int) *shard { return &e.shards[i&(len(e.shards)-1)] }

// lock holds a whole bucket.
func (e *Engine) lock(b unkai.Bucket) {
	parts, first := e.bucketParts(b)
	for i := range parts {
		e.shardOf(first + i).mu.Lock()
	}
}

func (e *Engine) unlock(b unkai.Bucket) {
	parts, first := e.bucketParts(b)
	for i := range parts {
		e.shardOf(first + i).mu.Unlock()
	}
}

// Floor implements store.Engine.
func (e *Engine) Floor(b unkai.Bucket) unkai.Ballot { return unkai.Ballot(e.floors[b].Load()) }

// Barrier implements store.Engine: what is applied is as durable as it gets.
func (e *Engine) Barrier(w *store.Write) {
	w.Err = nil
	w.Done.WriteDone(w)
}

// Stats implements store.Engine.
func (e *Engine) Stats() store.Stats {
	var st store.Stats
	var c counts
	for i := range e.shards {
		s := &e.shards[i]
		s.mu.Lock()
		c.add(s.counts)
		st.Writes += s.writes
		st.Damaged += s.damaged
		s.mu.Unlock()
	}
	st.Items, st.Tombstones, st.Promises, st.Bytes = c.items, c.tombstones, c.promises, c.bytes
	st.Used, st.Full = e.pool.usage()
	st.Limit = e.pool.limit
	return st
}

// Close implements store.Engine: everything is gone.
func (e *Engine) Close() error {
	if e.closed.Swap(true) {
		return fmt.Errorf("memory: close: %w", store.ErrClosed)
	}
	return e.pool.close()
}

// damaged is the error of a record that cannot be read.
func damaged(key []byte, why string) error {
	return fmt.Errorf("memory: key %q: %w: %s", key, store.ErrDamaged, why)
}
