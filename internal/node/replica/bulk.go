package replica

import (
	"errors"
	"iter"
	"math/bits"
	"slices"

	"unkai/internal/store"
)

// bulkMost is how many records are adopted together, under the locks of all their keys.
const bulkMost = 128

// AdoptAll is Adopt of many records of one bucket. It costs less where this replica
// holds nothing of most of their keys, and they come in the order of hashes and keys.
// Each call is answered through Answered, perhaps before AdoptAll returns; they may be
// used again when all are.
func (r *Local) AdoptAll(calls []Call) {
	for part := range slices.Chunk(calls, bulkMost) {
		for _, c := range r.adoptNew(part) {
			if r.Adopt(c) {
				c.Answered.CallAnswered(c)
			}
		}
	}
}

// adoptNew adopts records as if there were nothing of their keys. It gives those that
// have to be looked at one by one: mostly because there is something after all, as the
// engine says then.
func (r *Local) adoptNew(calls []Call) (left []*Call) {
	locked := r.lockAll(calls)
	t := &r.trees[calls[0].Bucket]
	fresh := t.mayBulk()
	floor := r.engine.Floor(calls[0].Bucket) // nothing is purged from here on, which would raise it
	var bulk, refused []*Call
	ws := make([]*store.Write, 0, len(calls))
	for i := range calls {
		c := &calls[i]
		c.Status, c.Err, c.Seen, c.replica, c.Adopted = Pending, nil, 0, r, false
		if !fresh {
			left = append(left, c)
			continue
		}
		if !r.admit(c) {
			refused = append(refused, c)
			continue
		}
		rec, fate := r.adopted(c, &store.Found{}, floor)
		if fate != Pending {
			left = append(left, c)
			continue
		}
		c.stage.Store(stageStarted)
		c.write = store.Write{
			Bucket: c.Bucket, Hash: c.Hash, Key: c.Key, Record: rec, Fetched: c.Fetched, Accessed: c.Accessed, Done: (*acceptance)(c),
		}
		bulk, ws = append(bulk, c), append(ws, &c.write)
	}
	store.WriteAll(r.engine, ws)
	if fresh {
		t.bulkDone(bulk)
	}
	for _, c := range bulk {
		if c.applied() {
			r.whole(c.Bucket, c.Key)
		}
	}
	r.unlockAll(&locked)
	for _, c := range refused {
		c.Answered.CallAnswered(c)
	}
	for _, c := range bulk {
		switch {
		case !c.told():
		case errors.Is(c.Err, store.ErrConflict) || errors.Is(c.Err, store.ErrDamaged):
			left = append(left, c)
		default:
			c.Answered.CallAnswered(c)
		}
	}
	return left
}

// lockSet says which locks are held.
type lockSet [locks / 64]uint64

// lockAll locks the keys of some calls, in the order of the locks: nobody who holds one
// waits for one before it.
func (r *Local) lockAll(calls []Call) (set lockSet) {
	for i := range calls {
		n := calls[i].Hash % locks
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
