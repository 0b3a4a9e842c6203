package replica

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"slices"
	"sync"

	"unkai"
	"unkai/internal/store"
)

// bulkMost is how many records are adopted together, under the locks of all their keys.
const bulkMost = 256

// Adoption is that many records are being adopted.
type Adoption struct {
	r       *Local
	bucket  unkai.Bucket
	epoch   unkai.Epoch
	probe   Call // for what is decided about each
	adopted int
	others  []*Call
	due     int64 // when a sweep has something to do about those adopted together
	left    []int
	open    sync.WaitGroup // for what is to be durable
	mu      sync.Mutex
	err     error
}

// AdoptAll is Adopt of many records of one bucket, which is in an epoch. It costs less
// where this replica holds nothing of most of their keys. It puts them into the order of
// hashes and keys, and does not wait for the disk. Keys and values must stay until Wait has
// returned.
func (r *Local) AdoptAll(b unkai.Bucket, at unkai.Epoch, entries []store.Entry) *Adoption {
	a := &Adoption{r: r, bucket: b, epoch: at}
	if !slices.IsSortedFunc(entries, inOrder) { // they come from a store of another kind
		slices.SortFunc(entries, inOrder)
	}
	for len(entries) > 0 {
		n := min(len(entries), bulkMost)
		a.part(entries[:n])
		entries = entries[n:]
	}
	return a
}

func inOrder(a, b store.Entry) int {
	return cmp.Or(cmp.Compare(a.Hash, b.Hash), bytes.Compare(a.Key, b.Key))
}

// Wait waits until all that was adopted is durable. It tells how many records were adopted
// together, and gives the calls of the others, answered. The error is the store's: it may
// have lost what was adopted together.
func (a *Adoption) Wait() (adopted int, others []*Call, err error) {
	a.open.Wait()
	if a.err != nil {
		return 0, a.others, fmt.Errorf("adopt: %w", a.err)
	}
	if a.due != 0 {
		lower(&a.r.due[a.bucket], a.due)
	}
	return a.adopted, a.others, nil
}

// WriteDone implements store.Done.
func (a *Adoption) WriteDone(w *store.Write) {
	if w.Err != nil {
		a.mu.Lock()
		a.err = errors.Join(a.err, w.Err)
		a.mu.Unlock()
	}
	a.open.Done()
}

// CallAnswered implements Answered.
func (a *Adoption) CallAnswered(*Call) { a.open.Done() }

// part adopts records as if there were nothing of their keys, and one by one those for
// which that is not so, as the engine says then.
func (a *Adoption) part(entries []store.Entry) {
	from := len(a.others)
	a.together(entries)
	for _, c := range a.others[from:] {
		a.open.Add(1)
		if a.r.Adopt(c) {
			a.open.Done()
		}
	}
}

// singly notes that a record has to be looked at by itself.
func (a *Adoption) singly(t *store.Entry) {
	a.others = append(a.others, &Call{
		Epoch: a.epoch, Bucket: a.bucket, Hash: t.Hash, Key: t.Key,
		Ballot: t.Record.Ballot, Item: t.Record.Item, Under: t.Record.Epoch, Answered: a,
	})
}

func (a *Adoption) together(entries []store.Entry) {
	r, b := a.r, a.bucket
	locked := r.lockAll(entries)
	defer r.unlockAll(&locked)
	t := &r.trees[b]
	if !r.admit(&Call{Bucket: b, Epoch: a.epoch}) || !t.mayBulk() {
		for i := range entries {
			a.singly(&entries[i])
		}
		return
	}
	floor := r.engine.Floor(b) // nothing is purged from here on, which would raise it
	fit := entries[:0]
	for i := range entries {
		switch ok := a.fit(&entries[i], floor); {
		case ok && len(fit) == i:
			fit = entries[:i+1]
		case ok:
			fit = append(fit, entries[i])
		}
	}
	a.open.Add(1)
	a.left = store.WriteNew(r.engine, b, fit, a.left[:0], &store.Write{Done: a})
	t.bulkDone(fit, a.left)
	a.count(fit)
}

// nothing is what is found of a key that has no record.
var nothing store.Found

// fit makes of an entry the record that is to be written if there is nothing of its key.
func (a *Adoption) fit(t *store.Entry, floor unkai.Ballot) bool {
	a.probe.Ballot, a.probe.Under, a.probe.Item = t.Record.Ballot, t.Record.Epoch, t.Record.Item
	rec, fate := a.r.adopted(&a.probe, &nothing, floor)
	if fate != Pending {
		a.singly(t)
		return false
	}
	t.Record = rec
	return true
}

// count goes through what was written, and what was not. The keys' locks are held.
func (a *Adoption) count(entries []store.Entry) {
	left := a.left
	for i := range entries {
		t := &entries[i]
		if len(left) > 0 && left[0] == i {
			left = left[1:]
			a.singly(t)
			continue
		}
		a.adopted++
		a.r.whole(a.bucket, t.Key)
		if due := dueOf(&t.Record); due != 0 && (a.due == 0 || due < a.due) {
			a.due = due
		}
	}
}

// lockSet says which locks are held.
type lockSet [locks / 64]uint64

// lockAll locks the keys of some records, in the order of the locks: nobody who holds one
// waits for one before it.
func (r *Local) lockAll(entries []store.Entry) (set lockSet) {
	for i := range entries {
		n := entries[i].Hash % locks
		set[n/64] |= 1 << (n % 64)
	}
	for i := range set.all() {
		r.locks[i].Lock()
	}
	return set
}

func (r *Local) unlockAll(set *lockSet) {
	for i := range set.all() {
		r.locks[i].Unlock()
	}
}

// all are the numbers of the locks, in their order.
func (s *lockSet) all() iter.Seq[int] {
	return func(yield func(int) bool) {
		for i, word := range s {
			for ; word != 0; word &= word - 1 {
				if !yield(64*i + bits.TrailingZeros64(word)) {
					return
				}
			}
		}
	}
}
