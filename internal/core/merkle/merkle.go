// Package merkle is the law of comparing two replicas of a bucket without looking
// at every record: a tree of sums over what they hold.
//
// A leaf is the sum of the digests of its records, modulo 2^64; which leaf a record
// belongs to is told by the bits of its key's hash below those of the bucket. A sum
// further up is that of the two below it. So a change costs two additions wherever
// it comes, in any order, and trees of different depths can be compared at the
// lesser one.
package merkle

import (
	"math/bits"

	"unkai"
)

// The least and the greatest depth of a tree. A tree of depth d has 2^d leaves.
const (
	MinDepth = 3
	MaxDepth = 20
)

// perLeaf is how many records a leaf of eight bytes has at least, once there are
// enough of them: 1.6 bytes for each record, so that with what else belongs to a tree
// it stays below two.
const perLeaf = 5

// DepthFor is the depth of a tree over that many records.
func DepthFor(records int64) int {
	if records < perLeaf<<MinDepth {
		return MinDepth
	}
	return min(bits.Len64(uint64(records/perLeaf))-1, MaxDepth)
}

// Digest stands for the fact that a key, named by its hash, has the record of a
// ballot. That determines the record: no ballot is used twice for one key.
func Digest(hash uint64, b unkai.Ballot) uint64 {
	h := bits.RotateLeft64(uint64(b)*0x9e3779b97f4a7c15, 32) ^ hash
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// Tree is the tree of one bucket. Make it with New.
type Tree struct {
	leaves  []uint64
	root    uint64
	records int64
	skip    uint8 // bits of a hash that tell the bucket
	depth   uint8
}

// New is the tree of an empty bucket, whose number is the first skip bits of its
// keys' hashes.
func New(skip uint, depth int) *Tree {
	return &Tree{skip: uint8(skip), depth: uint8(depth), leaves: make([]uint64, 1<<depth)}
}

// Depth is how often the bucket is halved down to a leaf.
func (t *Tree) Depth() int { return int(t.depth) }

// Records is how many records the tree counts.
func (t *Tree) Records() int64 { return t.records }

// Root is the sum of everything.
func (t *Tree) Root() uint64 { return t.root }

// Node is the node of a level under which the keys with that hash are. Level 0 is
// the root's.
func (t *Tree) Node(hash uint64, level int) uint32 { return Node(hash, uint(t.skip), level) }

// Node is Tree.Node, of every tree of a bucket that has skip bits.
func Node(hash uint64, skip uint, level int) uint32 {
	return uint32(hash << skip >> 1 >> (63 - level))
}

// Hashes are the first and the last hash below a node, of a bucket whose number is the
// first skip bits of its hashes.
func Hashes(bucket uint64, skip uint, level int, node uint32) (first, last uint64) {
	below := 64 - int(skip) - level
	first = bucket<<(63-skip)<<1 | uint64(node)<<below
	return first, first | (1<<below - 1)
}

// Change counts that a key's record of ballot old has given way to that of ballot
// next; 0 is no record.
func (t *Tree) Change(hash uint64, old, next unkai.Ballot) {
	var d uint64
	if old != 0 {
		d -= Digest(hash, old)
		t.records--
	}
	if next != 0 {
		d += Digest(hash, next)
		t.records++
	}
	t.leaves[t.Node(hash, int(t.depth))] += d
	t.root += d
}

// Add counts everything that o counts, which has the same depth.
func (t *Tree) Add(o *Tree) {
	for i, s := range o.leaves {
		t.leaves[i] += s
	}
	t.root += o.root
	t.records += o.records
}

// Sum is that of one node of a level, which is none below the leaves.
func (t *Tree) Sum(level int, node uint32) (sum uint64) {
	if level == 0 {
		return t.root
	}
	below := int(t.depth) - level
	for _, s := range t.leaves[node<<below : (node+1)<<below] {
		sum += s
	}
	return sum
}

// Fold makes the tree one of a lesser depth.
func (t *Tree) Fold(depth int) {
	leaves := make([]uint64, 1<<depth)
	for i := range leaves {
		leaves[i] = t.Sum(depth, uint32(i))
	}
	t.leaves, t.depth = leaves, uint8(depth)
}

// Fit is the depth that the tree should have by now: its own, unless that is too
// little for what it counts, or so much that it wastes memory. A greater depth takes
// counting anew, a lesser one only Fold.
func (t *Tree) Fit() int {
	want := DepthFor(t.records)
	if want > t.Depth() || want < t.Depth()-1 {
		return want
	}
	return t.Depth()
}
