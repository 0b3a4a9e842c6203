package replica

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"unkai"
	"unkai/internal/core/merkle"
	"unkai/internal/core/register"
	"unkai/internal/store"
)

// Adopt brings a record here that was chosen, and that this replica lacks: Ballot,
// Item, Under, Fetched and Accessed are the record's, Epoch is the bucket's. It is
// answered like an Accept, and is OK too when what is here comes after it already;
// Adopted says whether it was taken.
//
// It is the message Accept of that ballot, late. What was not chosen must not be
// brought this way: whoever proposed it may have been told by this replica that it
// does not have it, and conclude that nobody has seen it (register.Fate).
func (r *Local) Adopt(c *Call) bool {
	return r.retry(c, (*Local).adopt)
}

func (r *Local) adopt(c *Call) bool {
	c.Adopted = false
	l := r.lockOf(c)
	if !r.admit(c) {
		l.Unlock()
		return true
	}
	f, err := r.engine.Head(c.Bucket, c.Hash, c.Key)
	heal := err != nil && r.mayHeal(c, err)
	if err != nil && !heal {
		l.Unlock()
		r.counters.failed.Add(1)
		return c.fail(Failed, fmt.Errorf("adopt: %w", err))
	}
	floor := r.engine.Floor(c.Bucket) // after the record: a purge raises it first
	if heal {
		floor = 0 // it counts only for keys without a record
	}
	rec, fate := r.adopted(c, &f, floor)
	if fate != Pending {
		l.Unlock()
		if c.Status = fate; fate == Refused {
			return r.refuse(c, c.Seen)
		}
		return true
	}
	return r.write(c, l, &f, rec, c.Fetched, c.Accessed, heal)
}

// adopted decides whether what c brings takes the place of what there is of its key. It
// gives the record to be written; or OK, or Refused, and there is nothing to be done.
func (r *Local) adopted(c *Call, f *store.Found, floor unkai.Ballot) (store.Record, Status) {
	if r.topology().Forgotten(c.Under) || !comesAfter(c, f, floor) {
		return store.Record{}, OK
	}
	old := state(f, floor)
	s, ok := old.Accept(c.Ballot, 0)
	if !ok {
		c.Seen = old.Promised
		return store.Record{}, Refused
	}
	c.Seen, c.Adopted = s.Promised, true
	return store.Record{
		Ballot: s.Accepted, Promise: s.Promised, Epoch: c.Under, Tombstone: !c.Item.Exists(), Item: c.Item,
	}, Pending
}

// comesAfter reports whether the record in c is something that this replica lacks. A
// tombstone at or below the floor of a bucket that has nothing of the key is what
// was purged here, or as good as that.
func comesAfter(c *Call, f *store.Found, floor unkai.Ballot) bool {
	return !level(f, c.Under, c.Ballot, floor, !c.Item.Exists())
}

// level reports whether what is held of a key makes up for a record of that epoch
// and ballot: it does not come before it; or nothing is held, nothing of an earlier
// ballot will be, and the record is a tombstone.
func level(f *store.Found, e unkai.Epoch, b, floor unkai.Ballot, tombstone bool) bool {
	if f.Record.Ballot == 0 {
		return tombstone && b <= floor
	}
	return !register.State{Accepted: b, Epoch: e}.After(f.Record.Epoch, f.Record.Ballot)
}

// Level reports whether this replica makes up for a tombstone that another one holds,
// so that nothing that was before it can come from here any more. What it rests on
// may not be durable yet.
func (r *Local) Level(b unkai.Bucket, t *Gone) bool {
	f, err := r.engine.Head(b, t.Hash, t.Key)
	if errors.Is(err, store.ErrDamaged) {
		// Who compares finds no difference where the floor is above the tombstone.
		r.Examine(b, t.Hash, t.Key)
	}
	return err == nil && level(&f, t.Epoch, t.Ballot, max(r.Forgot(b), f.Record.Promise), true)
}

// Get is the record that this replica holds of a key; the value is appended to dst.
// It leaves no trace, and may not be durable yet.
func (r *Local) Get(b unkai.Bucket, hash uint64, key, dst []byte) (store.Found, []byte, error) {
	f, dst, err := r.engine.Get(b, hash, key, dst, store.NoAccess)
	if err != nil {
		return f, dst, fmt.Errorf("look at %q: %w", key, err)
	}
	return f, dst, nil
}

// Durable waits until everything that this replica holds by now is durable.
func (r *Local) Durable() error { return r.BeginDurable()() }

// BeginDurable is Durable in two steps: what it gives waits, for what is held now.
func (r *Local) BeginDurable() (wait func() error) {
	done := make(chan error, 1)
	r.engine.Barrier(&store.Write{Done: durable(done)})
	return func() error {
		if err := <-done; err != nil {
			return fmt.Errorf("wait for the disk: %w", err)
		}
		return nil
	}
}

// durable hears of a barrier.
type durable chan error

// WriteDone implements store.Done.
func (d durable) WriteDone(w *store.Write) { d <- w.Err }

// Forgot is the ballot up to which a key of the bucket without a record is known to
// have been purged here, durably.
func (r *Local) Forgot(b unkai.Bucket) unkai.Ballot {
	t := &r.trees[b]
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.purging > 0 {
		return 0 // the floor may be higher than what is durable
	}
	return r.engine.Floor(b)
}

// Floor is Forgot, or higher: it may not be durable yet.
func (r *Local) Floor(b unkai.Bucket) unkai.Ballot { return r.engine.Floor(b) }

// RaiseFloor has this replica take over what another one has forgotten of a bucket, as
// if it had done so itself. Too high a floor harms nobody: keys of which nothing is held
// need higher ballots.
func (r *Local) RaiseFloor(b unkai.Bucket, at unkai.Ballot) error {
	if r.dropping[b].Load() {
		return errDropping
	}
	if r.Forgot(b) >= at {
		return nil
	}
	if err := r.engine.RaiseFloor(b, at); err != nil {
		return fmt.Errorf("take over what was forgotten: %w", err)
	}
	return nil
}

// Under passes the records of a bucket that are under some nodes of its tree to
// yield, until that returns false. The key is valid during the call only, and the
// value too. Damaged ones are passed over, and some may not be durable yet.
func (r *Local) Under(b unkai.Bucket, level int, nodes map[uint32]struct{}, yield func(*store.Entry) bool) error {
	ranges := make([]store.Range, 0, len(nodes))
	for _, n := range slices.Sorted(maps.Keys(nodes)) {
		first, last := merkle.Hashes(uint64(b), r.skip(), level, n)
		ranges = append(ranges, store.Range{First: first, Last: last})
	}
	for e, err := range store.ScanRanges(r.engine, b, ranges) {
		if errors.Is(err, store.ErrDamaged) {
			continue
		}
		if err != nil {
			return fmt.Errorf("scan bucket %d: %w", b, err)
		}
		if e.Record.Ballot == 0 {
			continue
		}
		if !yield(&e) {
			return nil
		}
	}
	return nil
}

// Each passes the records of a bucket that somebody can see, or might, to yield,
// until that returns false. Key and value are valid during the call only. It ends
// at one that is damaged: nobody knows what that was. At its end the bucket's floor is
// above what it has passed over since it was flushed, as if that was purged by now: who
// gets only the others must not conclude that there was nothing.
func (r *Local) Each(b unkai.Bucket, yield func(*store.Entry) bool) error {
	top, flushed := r.topology(), unkai.Ballot(0)
	var e store.Entry // one for all, which yield may have for the time of the call
	for each, err := range r.engine.Scan(b) {
		e = each
		if err != nil {
			if errors.Is(err, store.ErrDamaged) && len(e.Key) > 0 && top.Space().Hash(e.Key) == e.Hash {
				r.Examine(b, e.Hash, e.Key) // or nobody would heal it
			}
			return fmt.Errorf("scan bucket %d: %w", b, err)
		}
		if e.Record.Ballot == 0 {
			continue
		}
		if top.Forgotten(e.Record.Epoch) {
			if e.Record.Promise.Counter() <= HighestFloor { // as the sweeper does
				flushed = max(flushed, e.Record.Promise)
			}
			continue
		}
		if !yield(&e) {
			return nil
		}
	}
	if flushed <= r.Floor(b) {
		return nil
	}
	return r.RaiseFloor(b, flushed)
}
