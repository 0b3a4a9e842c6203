package replica

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"unkai"
	"unkai/internal/store"
)

// wounds are the keys of which this replica has lost what it promised and accepted: the
// engine says that their records are damaged. Such a key is answered with an error, so
// that nobody counts on this replica, until its bucket is in a later epoch than the one
// in which the damage was noticed. No promise that was forgotten is of that epoch, and
// none is given meanwhile; so what is accepted in it may take the place of what was
// damaged. See docs/decisions/0019.
type wounds struct {
	mu     sync.Mutex
	count  atomic.Int64 // so that nobody else needs the lock
	full   bool
	found  map[unkai.Bucket]map[string]unkai.Epoch
	healed atomic.Int64
}

// maxWounds is how many keys are remembered. Who has more needs another disk.
const maxWounds = 64 << 10

// Wound is a key whose record is damaged.
type Wound struct {
	Bucket unkai.Bucket
	Key    string
	Epoch  unkai.Epoch // the bucket's, when it was noticed
}

// wounded notes that a key's record is damaged. The key's lock is held.
func (r *Local) wounded(b unkai.Bucket, key []byte, e unkai.Epoch) {
	w := &r.wounds
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.found[b][string(key)]; ok {
		return // it was noticed before, and nothing was promised since
	}
	if w.count.Load() == maxWounds {
		w.full = true
		return
	}
	if w.found[b] == nil {
		if w.found == nil {
			w.found = map[unkai.Bucket]map[string]unkai.Epoch{}
		}
		w.found[b] = map[string]unkai.Epoch{}
	}
	w.found[b][string(key)] = e
	w.count.Add(1)
}

// whole notes that a key has a record again, or after all. The key's lock is held: a
// promise that is given from now on must not be taken for one from before the damage.
func (r *Local) whole(b unkai.Bucket, key []byte) {
	w := &r.wounds
	if w.count.Load() == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.found[b][string(key)]; !ok {
		return
	}
	delete(w.found[b], string(key))
	if len(w.found[b]) == 0 {
		delete(w.found, b)
	}
	w.count.Add(-1)
	w.full = false
}

// mayHeal reports whether what a call brings may take the place of a damaged record.
// The key's lock is held, and the call has been admitted. If it may not yet, that the
// record is damaged is noted.
func (r *Local) mayHeal(c *Call, err error) bool {
	if !errors.Is(err, store.ErrDamaged) {
		return false
	}
	w := &r.wounds
	w.mu.Lock()
	at, ok := w.found[c.Bucket][string(c.Key)]
	w.mu.Unlock()
	if !ok {
		r.wounded(c.Bucket, c.Key, c.Epoch)
	}
	return ok && at < c.Epoch
}

// Wounds are the keys known to be damaged, in order.
func (r *Local) Wounds() []Wound {
	w := &r.wounds
	if w.count.Load() == 0 {
		return nil
	}
	w.mu.Lock()
	var out []Wound
	for b, keys := range w.found {
		for key, e := range keys {
			out = append(out, Wound{b, key, e})
		}
	}
	w.mu.Unlock()
	slices.SortFunc(out, func(a, b Wound) int { return cmp.Or(cmp.Compare(a.Bucket, b.Bucket), cmp.Compare(a.Key, b.Key)) })
	return out
}

// Overwhelmed reports whether more keys are damaged than can be healed one by one.
func (r *Local) Overwhelmed() bool {
	r.wounds.mu.Lock()
	defer r.wounds.mu.Unlock()
	return r.wounds.full
}

// Wounded is how many keys are known to be damaged.
func (r *Local) Wounded() int64 { return r.wounds.count.Load() }

// Healed is how many damaged records have given way to others.
func (r *Local) Healed() int64 { return r.wounds.healed.Load() }

// scarred notes that a damaged record has given way to another. The key's lock is held.
// What the tree has counted of it nobody knows, so the bucket has to be counted anew.
func (r *Local) scarred(c *Call) {
	r.whole(c.Bucket, c.Key)
	r.wounds.healed.Add(1)
	r.trees[c.Bucket].forget()
}

// unharmed forgets the wounds of a bucket of which nothing is held any more.
func (r *Local) unharmed(b unkai.Bucket) {
	w := &r.wounds
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count.Add(-int64(len(w.found[b])))
	delete(w.found, b)
}

// Examine looks at a key that may be damaged, and notes it if it is.
func (r *Local) Examine(b unkai.Bucket, hash uint64, key []byte) {
	c := Call{Bucket: b, Hash: hash, Key: key, Epoch: r.topology().Route(b).Epoch}
	l := r.lockOf(&c)
	defer l.Unlock()
	if !r.admit(&c) {
		return
	}
	// The whole record, its value too.
	if _, _, err := r.engine.Get(b, hash, key, nil, store.NoAccess); errors.Is(err, store.ErrDamaged) {
		r.wounded(b, key, c.Epoch)
	} else if err == nil {
		r.whole(b, key)
	}
}

// Bury says that a key of which the record is damaged has nothing that was ever chosen:
// a round in that epoch, which came after the one in which the damage was noticed, has
// found nothing at the others. What is damaged gives way to an empty
// record, which is swept. It does nothing when the key is not damaged any more.
//
// The record keeps the ballot that the others have promised to that round, which is above
// all that they have forgotten: what was damaged may be a tombstone of which they hold
// nothing any more. This replica forgets it, too, and has to know that there was
// something, or a round that waits for what became of an earlier value would hear here
// that there never was any.
func (r *Local) Bury(w Wound, hash uint64, at unkai.Epoch, promised unkai.Ballot) error {
	c := Call{Bucket: w.Bucket, Hash: hash, Key: []byte(w.Key), Epoch: at}
	l := r.lockOf(&c)
	if !r.admit(&c) {
		l.Unlock()
		return nil // in another epoch the others have to be asked again
	}
	_, err := r.engine.Head(w.Bucket, hash, c.Key)
	if err == nil || !r.mayHeal(&c, err) {
		if err == nil {
			r.whole(w.Bucket, c.Key)
		}
		l.Unlock()
		return err
	}
	done := make(durable, 1)
	write := store.Write{
		Bucket: w.Bucket, Hash: hash, Key: c.Key, Heal: true, Done: done,
		Record: store.Record{Promise: max(r.engine.Floor(w.Bucket), promised, 1)},
	}
	r.engine.Write(&write)
	told := true
	select {
	case err = <-done:
	default:
		told, err = false, nil // it is applied, and not durable yet
	}
	if err == nil {
		r.scarred(&c)
	}
	l.Unlock()
	if !told {
		err = <-done
	}
	if err != nil {
		return fmt.Errorf("bury %q: %w", w.Key, err)
	}
	r.expect(w.Bucket, &write.Record)
	return nil
}
