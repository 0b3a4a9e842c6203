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

// Status is how a replica answered a call.
type Status uint8

// The answers.
const (
	Pending Status = iota
	// OK: the record was read, or the value was accepted and is durable.
	OK
	// Refused: Call.Seen has been promised or accepted, which is higher.
	Refused
	// Fenced: for the replica the bucket is in another epoch, which is Call.Epoch
	// now, or not its to hold; ask again under the topology that says so.
	Fenced
	// Failed: certainly not done; Call.Err says why.
	Failed
	// Unknown: it may have been done; Call.Err says why.
	Unknown
)

// Call is one question to one replica and its answer. Its owner fills in the
// question and leaves it alone until it is answered; then it may be used again.
type Call struct {
	Epoch  unkai.Epoch
	Bucket unkai.Bucket
	Hash   uint64
	Key    []byte

	// Of a Read or a Prepare: where to append the value; of a Read also how it
	// counts as an access, and whether the value is not wanted at all.
	Buf     []byte
	Access  store.Access
	NoValue bool

	// Of a Prepare: the ballot to be promised. Of an Accept: the ballot, the
	// promise that goes with it (0: none), the item (the zero Item is a
	// tombstone), and the marks of having been read that it begins with; see
	// store.Write.
	Ballot   unkai.Ballot
	Next     unkai.Ballot
	Item     unkai.Item
	Fetched  bool
	Accessed uint32

	// Of an Adopt: the epoch under which the record was accepted.
	Under unkai.Epoch

	// Answered hears of an answer that was not there when the method returned.
	Answered Answered
	// Tag is the caller's own.
	Tag int

	// The answer.
	Status Status
	Found  store.Found  // of a Read; of a Prepare what was accepted before it
	Seen   unkai.Ballot // the highest ballot promised or accepted
	Forgot unkai.Ballot // of a Prepare: the bucket's floor
	Err    error
	// Adopted: an Adopt that was OK has changed something.
	Adopted bool

	replica *Local
	write   store.Write
	stage   atomic.Uint32
}

// Forget lets go of what the call was about, so that one that is kept for later
// keeps no key or value of others; Buf stays.
func (c *Call) Forget() {
	c.Key, c.Item, c.Found, c.Err, c.write = nil, unkai.Item{}, store.Found{}, nil, store.Write{}
}

// Answered is told, from any goroutine, that a call has its answer. It must not
// block.
type Answered interface{ CallAnswered(*Call) }

// Local is the replica in this process. Its methods are safe for concurrent
// use, each Call being one caller's own.
type Local struct {
	engine   store.Engine
	self     unkai.NodeID
	topology func() *topology.Topology
	locks    [locks]lock
	due      []atomic.Int64 // per bucket: when a sweep has something to do; 0: never
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
		r.due[b].Store(1)
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

// applied reports whether the engine, which has just returned, has applied the
// call's write. If it has not, it has said so by now; a store that breaks later
// takes nothing more and is read no more.
func (c *Call) applied() bool { return c.stage.Load() != stageDone || c.write.Err == nil }

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
	if r.engine.Floor(b) == 0 && r.empty(b) {
		t.emptied(r.skip())
		r.unharmed(b)
		return nil // a drop is a write
	}
	if err := r.engine.Drop(b); err != nil {
		t.forget()
		return fmt.Errorf("forget bucket %d: %w", b, err)
	}
	t.emptied(r.skip())
	r.unharmed(b)
	return nil
}

func (r *Local) empty(b unkai.Bucket) bool {
	empty := true
	for range r.engine.Scan(b) { //nolint:errcheck // a damaged record is one too
		empty = false
		break
	}
	return empty
}

// Each passes the records of a bucket that somebody can see, or might, to yield,
// until that returns false. Key and value are valid during the call only. It ends
// at one that is damaged: nobody knows what that was. At its end the bucket's floor is
// above what it has passed over since it was flushed, as if that was purged by now: who
// gets only the others must not conclude that there was nothing.
func (r *Local) Each(b unkai.Bucket, yield func(*store.Entry) bool) error {
	top, flushed := r.topology(), unkai.Ballot(0)
	for e, err := range r.engine.Scan(b) {
		if err != nil {
			return fmt.Errorf("scan bucket %d: %w", b, err)
		}
		if e.Record.Ballot == 0 {
			continue
		}
		if top.Forgotten(e.Record.Epoch) {
			flushed = max(flushed, e.Record.Promise)
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

func (r *Local) refuse(c *Call, promised unkai.Ballot) bool {
	r.counters.refused.Add(1)
	c.Status, c.Seen = Refused, promised
	return true
}

// A call's stages settle who speaks first: the method that returns, or the
// engine that has finished.
const (
	stageStarted = iota
	stageWaited  // the method has returned; the answer goes to Answered
	stageDone
)

// told reports whether the answer is there already; otherwise Answered will hear
// of it.
func (c *Call) told() bool {
	return c.stage.Load() == stageDone || !c.stage.CompareAndSwap(stageStarted, stageWaited)
}

func (c *Call) fail(s Status, err error) bool {
	c.Status, c.Err = s, err
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

func (c *Call) finish() {
	if !c.stage.CompareAndSwap(stageStarted, stageDone) {
		c.Answered.CallAnswered(c)
	}
}

// settle turns how a write ended into the call's answer.
func (c *Call) settle(doing string) {
	switch {
	case c.write.Err == nil:
		c.Status = OK
	case isInDoubt(c.write.Err):
		c.Status, c.Err = Unknown, fmt.Errorf("%s: %w", doing, c.write.Err)
	default:
		c.Status, c.Err = Failed, fmt.Errorf("%s: %w", doing, c.write.Err)
	}
}

// barrier is a Read that waits until what it saw is durable.
type barrier Call

// WriteDone implements store.Done.
func (b *barrier) WriteDone(*store.Write) {
	c := (*Call)(b)
	c.settle("read")
	if c.Status == Unknown {
		c.Status = Failed // a read leaves nothing in doubt
	}
	c.finish()
}

// acceptance is a Prepare or an Accept on its way to the disk.
type acceptance Call

// WriteDone implements store.Done.
func (a *acceptance) WriteDone(w *store.Write) {
	c := (*Call)(a)
	c.settle("write")
	if c.Status == OK {
		c.replica.expect(w.Bucket, &w.Record)
	}
	c.finish()
}
