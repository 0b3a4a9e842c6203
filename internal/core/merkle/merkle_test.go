package merkle_test

import (
	"math/rand/v2"
	"testing"

	"unkai"
	"unkai/internal/core/merkle"
)

const skip = 4

func hashOf(r *rand.Rand) uint64 { return 5<<(64-skip) | r.Uint64()>>skip }

// A tree that was changed step by step is the one that is counted at once, at every
// level, in any order, and with every depth.
func TestChangesAddUp(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	held := map[uint64]unkai.Ballot{}
	var hashes []uint64
	tree := merkle.New(skip, 8)
	for range 20_000 {
		h := hashOf(r)
		if len(hashes) > 0 && r.IntN(2) == 0 {
			h = hashes[r.IntN(len(hashes))]
		} else {
			hashes = append(hashes, h)
		}
		next := unkai.Ballot(r.Uint64N(4) * r.Uint64())
		tree.Change(h, held[h], next)
		held[h] = next
	}
	for depth := merkle.MinDepth; depth <= 10; depth++ {
		counted, late := merkle.New(skip, depth), merkle.New(skip, depth)
		for i, h := range hashes {
			part := counted
			if i%3 == 0 {
				part = late
			}
			part.Change(h, 0, held[h])
		}
		counted.Add(late)
		if counted.Root() != tree.Root() || counted.Records() != tree.Records() {
			t.Fatalf("depth %d: %d records and root %x, want %d and %x", depth, counted.Records(), counted.Root(), tree.Records(), tree.Root())
		}
		for level := 0; level <= min(depth, tree.Depth()); level++ {
			for node := range uint32(1) << level {
				if counted.Sum(level, node) != tree.Sum(level, node) {
					t.Fatalf("depth %d: level %d, node %d differs", depth, level, node)
				}
			}
		}
		if depth < tree.Depth() {
			folded := merkle.New(skip, tree.Depth())
			folded.Add(tree)
			folded.Fold(depth)
			for node := range uint32(1) << depth {
				if folded.Sum(depth, node) != counted.Sum(depth, node) {
					t.Fatalf("folded to depth %d: node %d differs", depth, node)
				}
			}
		}
	}
}

// One different record shows in its own leaf, and all the way up, and nowhere else.
func TestOneDifference(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	a, b := merkle.New(skip, 9), merkle.New(skip, 6)
	for range 5000 {
		h, v := hashOf(r), unkai.Ballot(r.Uint64()|1)
		a.Change(h, 0, v)
		b.Change(h, 0, v)
	}
	h := hashOf(r)
	b.Change(h, 0, 77)
	for level := 0; level <= b.Depth(); level++ {
		for node := range uint32(1) << level {
			if differ := a.Sum(level, node) != b.Sum(level, node); differ != (node == a.Node(h, level)) {
				t.Fatalf("level %d, node %d: differs %v", level, node, differ)
			}
		}
	}
}

// Ballots of one key, and keys of one ballot, have digests of their own.
func TestDigestsDiffer(t *testing.T) {
	seen := map[uint64]bool{}
	for h := range uint64(300) {
		for c := range uint64(300) {
			d := merkle.Digest(h, unkai.MakeBallot(c*unkai.Stride, unkai.Seat(1+c%3)))
			if seen[d] {
				t.Fatalf("hash %d, counter %d: seen before", h, c)
			}
			seen[d] = true
		}
	}
}

func TestDepth(t *testing.T) {
	for records := int64(1); records < 10_000_000; records = records*5/4 + 1 {
		d := merkle.DepthFor(records)
		if bytes := int64(8) << d; d > merkle.MinDepth && 10*bytes > 16*records {
			t.Errorf("%d records: depth %d takes %d bytes", records, d, bytes)
		}
		if d < merkle.MaxDepth && records > 2*5<<d {
			t.Errorf("%d records: depth %d is too little", records, d)
		}
	}
	tree := merkle.New(skip, 5)
	for i := range uint64(320) {
		if tree.Fit() > 5 {
			t.Fatalf("grows at %d records", i)
		}
		tree.Change(5<<60|i<<40, 0, 1)
	}
	if tree.Fit() != 6 {
		t.Errorf("320 records: depth %d", tree.Fit())
	}
	for i := range uint64(320 - 40) {
		tree.Change(5<<60|i<<40, 1, 0)
	}
	if tree.Fit() != 3 {
		t.Errorf("40 records: depth %d", tree.Fit())
	}
}

func BenchmarkChange(b *testing.B) {
	tree := merkle.New(10, 8)
	r := rand.New(rand.NewPCG(1, 1))
	var hashes [1024]uint64
	for i := range hashes {
		hashes[i] = r.Uint64() >> 10
	}
	i := 0
	for b.Loop() {
		tree.Change(hashes[i&1023], 0, unkai.Ballot(i))
		i++
	}
}

// Below a node are just the hashes from its first to its last.
func TestHashesBelowANode(t *testing.T) {
	for _, skip := range []uint{4, 10, 16} {
		for _, level := range []int{0, 1, 7, 16} {
			for _, bucket := range []uint64{0, 5, 1<<skip - 1} {
				for _, n := range []uint32{0, 1, 1<<level - 1} {
					if n >= 1<<level {
						continue
					}
					first, last := merkle.Hashes(bucket, skip, level, n)
					for _, hash := range []uint64{first, last, first + (last-first)/2} {
						if hash>>(64-skip) != bucket || merkle.Node(hash, skip, level) != n {
							t.Errorf("skip %d level %d: %x is not below node %d of bucket %d", skip, level, hash, n, bucket)
						}
					}
					for _, hash := range []uint64{first - 1, last + 1} {
						if hash>>(64-skip) == bucket && merkle.Node(hash, skip, level) == n {
							t.Errorf("skip %d level %d: %x is below node %d of bucket %d", skip, level, hash, n, bucket)
						}
					}
				}
			}
		}
	}
}
