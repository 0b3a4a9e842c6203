// Package ring is the law of where a key belongs: its hash, and its bucket.
package ring

import (
	"math/bits"

	"github.com/zeebo/xxh3"

	"unkai"
)

// Space is a cluster's hash space: 64 bits, seeded, cut into a power of two of
// buckets. Both are fixed for the cluster's life, and so is this mapping: it is
// a format, on disk and between nodes. The zero Space is of no use.
type Space struct {
	seed  uint64
	shift uint
}

// The least and the most buckets of a cluster.
const (
	MinBuckets = 16
	MaxBuckets = 65536
)

// ValidBuckets reports whether a cluster may have n buckets.
func ValidBuckets(n int) bool {
	return n >= MinBuckets && n <= MaxBuckets && n&(n-1) == 0
}

// NewSpace is the hash space with that seed and number of buckets, for which
// ValidBuckets must hold.
func NewSpace(seed uint64, buckets int) Space {
	return Space{seed: seed, shift: uint(64 - bits.TrailingZeros(uint(buckets)))}
}

// Hash is the key's place in the space.
func (s Space) Hash(key []byte) uint64 { return xxh3.HashSeed(key, s.seed) }

// Bucket is the slice of the space in which a hash lies: its upper bits.
func (s Space) Bucket(hash uint64) unkai.Bucket { return unkai.Bucket(hash >> s.shift) }
