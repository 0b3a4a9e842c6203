// Package replica answers for the buckets that this node holds: it refuses what
// the epoch forbids, decides by the acceptor's law, and keeps what it said in
// the store before it says it.
package replica

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"unkai"
	"unkai/internal/core/register"
	"unkai/internal/core/topology"
	"unkai/internal/store"
)

// Local is the replica in this process. Its methods are safe for concurrent
// use, each Call being one caller's own.
type Local struct {
	engine   store.Engine
	self     unkai.NodeID
	topology func() *topology.Topology
	locks    [locks]lock
	due      []atomic.Int64 // per bucket: when a sweep has something to do; 0: never; see unswept
	dropping []atomic.Bool  // per bucket: everything in it is being forgotten
	trees    []tree         // per bucket
	wounds   wounds
	counters counters
}

// locks is how many locks the keys share.
const locks = 1024

// lock makes reading a key's state, deciding, writing and counting one step. The
// engine takes its own locks inside of it, and then a tree its; nothing else is ever
// locked under it.
type lock struct {
	sync.Mutex
	_ [56]byte
}

type counters struct{ refused, fenced, failed, purged atomic.Int64 }

// Stats counts what a replica did beyond the usual: calls refused for their
// ballot or their epoch, records it could not read, and records purged.
type Stats struct{ Refused, Fenced, Failed, Purged int64 }

// New is the replica of a node, which keeps its records in engine.
func New(engine store.Engine, self unkai.NodeID, top func() *topology.Topology) *Local {
	buckets := top().Buckets
	r := &Local{
		engine: engine, self: self, topology: top,
		due: make([]atomic.Int64, buckets), dropping: make([]atomic.Bool, buckets), trees: make([]tree, buckets),
	}
	for b := range r.due {
		r.due[b].Store(unswept)
	}
	return r
}

// Stats are the counters at this moment.
func (r *Local) Stats() Stats {
	c := &r.counters
	return Stats{c.refused.Load(), c.fenced.Load(), c.failed.Load(), c.purged.Load()}
}

// Read asks for the record of a key and reports whether the answer is there
// already; otherwise c.Answered hears of it. What it answers is durable.
func (r *Local) Read(c *Call) bool {
	c.Status, c.Err, c.Seen, c.replica = Pending, nil, 0, r
	if !r.admit(c) {
		return true
	}
	start := len(c.Buf)
	f, buf, err := store.Found{}, c.Buf, error(nil)
	if c.NoValue {
		f, err = r.engine.Head(c.Bucket, c.Hash, c.Key)
	} else {
		f, buf, err = r.engine.Get(c.Bucket, c.Hash, c.Key, c.Buf, c.Access)
	}
	if err != nil {
		r.counters.failed.Add(1)
		if errors.Is(err, store.ErrDamaged) {
			r.Examine(c.Bucket, c.Hash, c.Key)
		}
		return c.fail(Failed, fmt.Errorf("read: %w", err))
	}
	c.Found, c.Buf = f, buf
	c.Seen = state(&f, r.engine.Floor(c.Bucket)).Promised
	if !f.Unsynced {
		c.Status = OK
		return true
	}
	// The caller goes on with its buffer, and this answer comes later: it
	// needs memory of its own.
	own := append([]byte(nil), buf[start:]...)
	c.Found.Record.Item.Value, c.Buf = own, own
	c.stage.Store(stageStarted)
	c.write = store.Write{Done: (*barrier)(c)}
	r.engine.Barrier(&c.write)
	return c.told()
}

// Prepare asks the replica to promise a ballot, and for what it has accepted
// before. It reports whether the answer is there already; otherwise c.Answered
// hears of it, when the promise is durable.
func (r *Local) Prepare(c *Call) bool { return r.retry(c, (*Local).prepare) }

// Accept asks the replica to accept an item at a ballot and reports whether the
// answer is there already; otherwise c.Answered hears of it. Key and value have
// been copied when it returns.
func (r *Local) Accept(c *Call) bool { return r.retry(c, (*Local).accept) }

// conflictRetries bounds how often a change begins again because a sweep
// removed the very record it was about to replace.
const conflictRetries = 8

func (r *Local) retry(c *Call, change func(*Local, *Call) bool) bool {
	start := len(c.Buf)
	for try := 0; ; try++ {
		c.Status, c.Err, c.Seen, c.replica, c.Buf = Pending, nil, 0, r, c.Buf[:start]
		done := change(r, c)
		if !done || c.Status != Failed || try == conflictRetries || !errors.Is(c.Err, store.ErrConflict) {
			return done
		}
	}
}

func (r *Local) prepare(c *Call) bool {
	l := r.lockOf(c)
	if !r.admit(c) {
		l.Unlock()
		return true
	}
	f, buf, err := r.engine.Get(c.Bucket, c.Hash, c.Key, c.Buf, store.NoAccess)
	if err != nil {
		_ = r.mayHeal(c, err) // a promise says what was accepted before, which nobody knows
		l.Unlock()
		r.counters.failed.Add(1)
		return c.fail(Failed, fmt.Errorf("prepare: %w", err))
	}
	c.Found, c.Buf = f, buf
	c.Forgot = r.engine.Floor(c.Bucket)
	s, ok := state(&f, c.Forgot).Prepare(c.Ballot)
	if !ok {
		l.Unlock()
		return r.refuse(c, s.Promised)
	}
	c.Seen = s.Promised
	rec := f.Record
	rec.Promise = s.Promised
	return r.write(c, l, &f, rec, f.Fetched, f.Accessed, false)
}

func (r *Local) accept(c *Call) bool {
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
		return c.fail(Failed, fmt.Errorf("accept: %w", err))
	}
	floor := r.engine.Floor(c.Bucket)
	if heal {
		floor = 0 // it counts only for keys without a record
	}
	old := state(&f, floor)
	s, ok := old.Accept(c.Ballot, c.Next)
	if !ok {
		l.Unlock()
		return r.refuse(c, old.Promised)
	}
	c.Seen = s.Promised
	if s == old { // the same message again; what it said may still be on its way to the disk
		l.Unlock()
		c.stage.Store(stageStarted)
		c.write = store.Write{Done: (*acceptance)(c)}
		r.engine.Barrier(&c.write)
		return c.told()
	}
	return r.write(c, l, &f, store.Record{
		Ballot: s.Accepted, Promise: s.Promised, Epoch: c.Epoch, Tombstone: !c.Item.Exists(), Item: c.Item,
	}, c.Fetched, c.Accessed, heal)
}

// write replaces a record under its lock, and gives the lock back. To heal is to
// replace a damaged one; see wounds.
func (r *Local) write(c *Call, l *lock, f *store.Found, rec store.Record, fetched bool, accessed uint32, heal bool) bool {
	c.stage.Store(stageStarted)
	c.write = store.Write{
		Bucket: c.Bucket, Hash: c.Hash, Key: c.Key, Expect: f.Record.Ballot, Promised: f.Record.Promise,
		Fetched: fetched, Accessed: accessed, Record: rec, Done: (*acceptance)(c), Heal: heal,
	}
	r.engine.Write(&c.write)
	switch applied := c.applied(); {
	case !applied:
	case heal:
		r.scarred(c)
	default:
		r.whole(c.Bucket, c.Key)
		if rec.Ballot != f.Record.Ballot {
			r.trees[c.Bucket].change(c.Hash, c.Key, f.Record.Ballot, rec.Ballot)
		}
	}
	l.Unlock()
	return c.told()
}

func state(f *store.Found, floor unkai.Ballot) register.State {
	s := register.State{Promised: f.Record.Promise, Accepted: f.Record.Ballot, Epoch: f.Record.Epoch}
	if s.Accepted == 0 {
		s = s.Above(floor)
	}
	return s
}

func (r *Local) lockOf(c *Call) *lock {
	l := &r.locks[c.Hash%uint64(len(r.locks))]
	l.Lock()
	return l
}

// Settle waits until everything that was admitted under an earlier topology has
// been applied: what is scanned afterwards misses nothing of it.
func (r *Local) Settle() {
	for i := range r.locks {
		r.locks[i].Lock()
		r.locks[i].Unlock() //nolint:staticcheck // to have waited is all
	}
}

// errDropping: the bucket has come back before its last time here was forgotten.
var errDropping = errors.New("the replica is about to forget what it held of the bucket before")

// Drop forgets everything of a bucket that this node does not hold any more. It
// does nothing when the node holds it after all.
func (r *Local) Drop(b unkai.Bucket) error {
	r.dropping[b].Store(true)
	defer r.dropping[b].Store(false)
	r.Settle()
	if r.member(r.topology().Route(b)) {
		return nil
	}
	t := &r.trees[b]
	if err := r.engine.Drop(b); err != nil {
		t.forget()
		return fmt.Errorf("forget bucket %d: %w", b, err)
	}
	t.emptied(r.skip())
	r.unharmed(b)
	r.due[b].CompareAndSwap(unswept, 0) // or who joins would be swept while it is filled
	return nil
}

func (r *Local) refuse(c *Call, promised unkai.Ballot) bool {
	r.counters.refused.Add(1)
	c.Status, c.Seen = Refused, promised
	return true
}

// member reports whether this node accepts for a bucket.
func (r *Local) member(route *topology.Route) bool { return slices.Contains(route.Members, r.self) }

// admit is the fence: may this be asked here, in this epoch?
func (r *Local) admit(c *Call) bool {
	route := r.topology().Route(c.Bucket)
	if c.Epoch == route.Epoch && r.member(route) {
		if r.dropping[c.Bucket].Load() {
			return !c.fail(Failed, errDropping)
		}
		return true
	}
	r.counters.fenced.Add(1)
	c.Status, c.Epoch = Fenced, route.Epoch
	return false
}
