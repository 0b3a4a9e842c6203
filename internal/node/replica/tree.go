package replica

import (
	"iter"
	"math/bits"
	"sync"
	"sync/atomic"

	"unkai"
	"unkai/internal/core/merkle"
	"unkai/internal/store"
)

// tree is what this node's replica of one bucket sums up to. It is kept with every
// change from the moment on when it was counted; before that it is not known.
//
// A change is counted under its key's lock, after the engine has applied it. A purge
// has no key's lock, and says so beforehand.
type tree struct {
	// What a write touches is one line of the processor's cache.
	mu     sync.Mutex
	known  bool // sums are
	noting bool // last or later is not nil
	still  bool // no purge may begin
	// blind: records were passed over that were damaged when the bucket was counted.
	blind bool
	sums  merkle.Tree
	// While the bucket is being counted: last is what has become of the keys that
	// changed while the snapshot was taken, whether that shows them or not; later
	// are the changes since.
	last    map[string]outcome
	later   *merkle.Tree
	purging int // purges under way
	bulk    int // adoptions of many at once under way; no purge may begin
	life    int // times it was made unknown

	counting atomic.Bool
	_        [16]byte
}

// outcome is what has become of a key.
type outcome struct {
	hash   uint64
	ballot unkai.Ballot
}

// change counts that a key's record has given way to another.
func (t *tree) change(hash uint64, key []byte, old, next unkai.Ballot) {
	t.mu.Lock()
	t.count(hash, key, old, next)
	t.mu.Unlock()
}

// count is change under the tree's lock.
func (t *tree) count(hash uint64, key []byte, old, next unkai.Ballot) {
	if t.known {
		t.sums.Change(hash, old, next)
	}
	if t.noting {
		t.note(hash, key, old, next)
	}
}

// note notes a change for who is counting the bucket.
func (t *tree) note(hash uint64, key []byte, old, next unkai.Ballot) {
	if t.last != nil {
		t.last[string(key)] = outcome{hash, next}
	} else {
		t.later.Change(hash, old, next)
	}
}

// mayPurge begins a purge, unless a snapshot is being taken: a purge and a write
// that comes after it may be counted in the other order, and then nobody could say
// what has become of the key.
func (t *tree) mayPurge() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.still || t.bulk > 0 {
		return false
	}
	t.purging++
	return true
}

// mayBulk begins an adoption of many records at once, unless a purge is under way: that
// raises the floor and takes a record away between two looks at them.
func (t *tree) mayBulk() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.purging > 0 {
		return false
	}
	t.bulk++
	return true
}

// bulkDone ends an adoption of many records, and counts all but those that are left.
func (t *tree) bulkDone(entries []store.Entry, left []int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bulk--
	for i := range entries {
		if len(left) > 0 && left[0] == i {
			left = left[1:]
			continue
		}
		e := &entries[i]
		t.count(e.Hash, e.Key, 0, e.Record.Ballot)
	}
}

// purged ends a purge, which has removed the record or not.
func (t *tree) purged(v *Gone, removed bool) {
	if removed {
		t.change(v.Hash, v.Key, v.Ballot, 0)
	}
	t.mu.Lock()
	t.purging--
	t.mu.Unlock()
}

// forget makes the tree unknown: the bucket was changed in a way that it did not
// see. Whoever is counting it begins again.
func (t *tree) forget() {
	t.mu.Lock()
	t.known, t.sums = false, merkle.Tree{}
	if t.later = nil; t.last == nil {
		t.noting = false
	}
	t.life++
	t.mu.Unlock()
}

// emptied notes that nothing of the bucket is left, and nothing is written to it now.
func (t *tree) emptied(skip uint) {
	t.forget()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.purging == 0 { // else what was removed is still to be counted
		t.sums, t.known, t.blind = *merkle.New(skip, merkle.MinDepth), true, false
	}
}

// deepen gives a tree at least a depth if that costs nothing.
func (t *tree) deepen(skip uint, least int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.known || t.sums.Records() > 0 || t.sums.Root() != 0 {
		return false
	}
	if t.sums.Depth() < least {
		t.sums = *merkle.New(skip, least)
	}
	return true
}

// Tree is a look at the sums of a bucket.
type Tree struct {
	Known   bool // if not, ask again when the bucket has been counted
	Blind   bool // the sums are without records that were damaged when it was counted
	Depth   int
	Records int64
	Root    uint64
}

// Tree looks at a bucket's sums.
func (r *Local) Tree(b unkai.Bucket) Tree {
	t := &r.trees[b]
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.known {
		return Tree{}
	}
	return Tree{Known: true, Blind: t.blind, Depth: t.sums.Depth(), Records: t.sums.Records(), Root: t.sums.Root()}
}

// Sums appends the sums of nodes of a level of a bucket's tree. It reports false
// when that is not known, or not so deep.
func (r *Local) Sums(dst []uint64, b unkai.Bucket, level int, nodes iter.Seq[uint32]) ([]uint64, bool) {
	t := &r.trees[b]
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.known || level > t.sums.Depth() {
		return dst, false
	}
	for n := range nodes {
		if n >= 1<<level {
			return dst, false
		}
		dst = append(dst, t.sums.Sum(level, n))
	}
	return dst, true
}

// Unfit reports whether a bucket has to be counted: because its sums are not known,
// or because it has outgrown them.
func (r *Local) Unfit(b unkai.Bucket) bool {
	t := &r.trees[b]
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.known {
		return true
	}
	fit := t.sums.Fit()
	if fit < t.sums.Depth() {
		t.sums.Fold(fit)
	}
	return fit > t.sums.Depth()
}

// skip is how many bits of a hash tell the bucket.
func (r *Local) skip() uint { return uint(bits.TrailingZeros(uint(len(r.trees)))) }
