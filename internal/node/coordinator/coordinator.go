// Package coordinator runs operations on keys. For each key it keeps one round
// going: a round reads the key's state, applies every operation that waits by
// then, in order, and has the result accepted once. Nothing is locked while a
// round waits for replicas, and many waiting operations share one round.
//
// A round runs in the goroutine of one of the operations it serves, its leader;
// when it ends the next waiting operation leads the next round. Replicas that
// answer at once cost no goroutine switch at all.
package coordinator

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"unkai"
	"unkai/internal/core/command"
	"unkai/internal/core/register"
	"unkai/internal/core/ring"
	"unkai/internal/core/topology"
	"unkai/internal/node/replica"
	"unkai/internal/store"
)

// Replica is one holder of a key. Each method reports whether the answer is in
// the call already; otherwise the call's Answered hears of it.
type Replica interface {
	Read(*replica.Call) bool
	Accept(*replica.Call) bool
}

// Config is what a coordinator needs.
type Config struct {
	// Replica holds every key of a cluster of one node.
	Replica  Replica
	Self     unkai.NodeID
	Topology func() *topology.Topology
	Now      func() int64  // milliseconds since 1970
	MaxValue int           // bytes
	Timeout  time.Duration // for one batch
}

// Why an operation failed without having been applied.
var (
	errTimeout = errors.New("the replicas did not answer in time")
	errFenced  = errors.New("the topology keeps changing; try again")
	errRefused = errors.New("another coordinator was faster; try again")
)

// Coordinator is safe for concurrent use; a batch is one goroutine's.
type Coordinator struct {
	cfg     Config
	space   ring.Space
	stripes [4096]stripe
	works   sync.Pool
	rounds  sync.Pool

	counters counters
}

type counters struct {
	shared, expired, retried, timeouts atomic.Int64
}

// Stats counts what a coordinator did beyond the usual, so that the usual need
// not touch a counter that all cores share.
type Stats struct {
	Shared   int64 // operations that another operation's round served
	Expired  int64 // items found expired and made tombstones
	Retried  int64 // rounds begun again under a newer epoch or ballot
	Timeouts int64 // operations that got no answer in time
}

// stripe holds the rounds of the keys that hash to it.
type stripe struct {
	sync.Mutex
	open atomic.Int32 // len(rounds), to be read without the lock
	head *round
	_    [40]byte
}

// New is a coordinator. The hash space of its cluster is fixed from then on.
func New(cfg Config) *Coordinator {
	return &Coordinator{
		cfg:    cfg,
		space:  cfg.Topology().Space(),
		works:  sync.Pool{New: func() any { return newWork() }},
		rounds: sync.Pool{New: func() any { return new(round) }},
	}
}

// Stats are the counters at this moment.
func (c *Coordinator) Stats() Stats {
	n := &c.counters
	return Stats{n.shared.Load(), n.expired.Load(), n.retried.Load(), n.timeouts.Load()}
}

// Do answers the operations of b that have no result yet, in order, and at
// least one of them; it stops early when the values of the answers have filled
// b.Room.
func (c *Coordinator) Do(b *unkai.Batch) {
	first := len(b.Results)
	n := len(b.Ops) - first
	if n <= 0 {
		return
	}
	w := c.works.Get().(*work)
	w.begin(c, b, n)
	b.Results = slices.Grow(b.Results, n)[:first+n]
	started := 0
	late := 0 // reads whose values will come, and count when it is too late
	for started < n && (started == 0 || b.Room == 0 || len(b.Values) < b.Room && late < maxLate) {
		t, op := &w.tasks[started], &b.Ops[first+started]
		result := &b.Results[first+started]
		*result = unkai.Result{}
		*t = task{op: op, hash: c.space.Hash(op.Key), work: w, result: result, index: started}
		started++
		open := w.open
		w.open++
		c.start(w, t)
		if w.open > open && op.Kind == unkai.Get && !op.NoValue {
			late++
		}
	}
	b.Results = b.Results[:first+started]
	if w.open > 0 && !w.wait(started) {
		return // rounds still point to w: it goes to the collector with the last of them
	}
	w.end()
	c.works.Put(w)
}

// maxLate bounds how many reads of a batch with limited room wait at once.
const maxLate = 8

// start answers an operation, or sees to it that it will be answered.
func (c *Coordinator) start(w *work, t *task) {
	s := c.stripe(t.hash)
	if command.ReadsOnly(t.op) && (s.open.Load() == 0 || !s.has(t)) && c.direct(w, t) {
		return
	}
	if r := c.join(s, t); r != nil {
		c.lead(w, r)
	}
}

func (c *Coordinator) stripe(hash uint64) *stripe { return &c.stripes[hash%uint64(len(c.stripes))] }

// has reports whether a round is open for t's key.
func (s *stripe) has(t *task) bool {
	s.Lock()
	defer s.Unlock()
	return s.find(t) != nil
}

func (s *stripe) find(t *task) *round {
	for r := s.head; r != nil; r = r.next {
		if r.hash == t.hash && bytes.Equal(r.key, t.op.Key) {
			return r
		}
	}
	return nil
}

// direct answers a read without a round, or will when the replica has. It
// reports false when only a round can: when the item has to be changed after
// all, or the epoch has passed.
func (c *Coordinator) direct(w *work, t *task) bool {
	top := c.cfg.Topology()
	call := w.call
	call.Epoch, call.Bucket, call.Hash, call.Key = top.Epoch, c.space.Bucket(t.hash), t.hash, t.op.Key
	call.Access, call.Buf, call.Answered, call.Tag = access(t.op, w.now), w.batch.Values, w, t.index
	if !c.cfg.Replica.Read(call) {
		w.call = new(replica.Call) // this one is the replica's until it has answered
		t.state = inFlight
		return true
	}
	if call.Status == replica.OK {
		w.batch.Values = call.Buf
	}
	return c.directed(w, t, top, call)
}

// directed ends a direct read.
func (c *Coordinator) directed(w *work, t *task, top *topology.Topology, call *replica.Call) bool {
	if call.Status == replica.Fenced {
		return false
	}
	if call.Status != replica.OK {
		*t.result = failure(call)
		t.state = answered
		w.open--
		return true
	}
	law := command.Law{Now: w.now, MaxValue: c.cfg.MaxValue}
	out, _ := law.Apply(visible(top, &call.Found.Record), t.op, nil)
	if out.Changed {
		// The round will read again; the key was not read by anybody in between.
		t.peeked, t.fetched, t.accessed = true, call.Found.Fetched, call.Found.Accessed
		return false
	}
	*t.result = out.Result
	t.result.Fetched, t.result.Accessed = call.Found.Fetched, call.Found.Accessed
	t.state = answered
	w.open--
	return true
}

// access is how an operation counts as an access of its key.
func access(op *unkai.Op, now int64) store.Access {
	if op.NoBump || op.Kind != unkai.Get && op.Kind != unkai.Touch {
		return store.NoAccess
	}
	return store.Access(now / 1000)
}

// visible is the item of a record, as far as flushes have left it.
func visible(top *topology.Topology, r *store.Record) unkai.Item {
	if r.Tombstone || r.Ballot == 0 || top.Forgotten(r.Epoch) {
		return unkai.Item{}
	}
	return r.Item
}

// failure is the result of a call that did not end well.
func failure(call *replica.Call) unkai.Result {
	switch call.Status {
	case replica.Unknown:
		return unkai.Result{Status: unkai.InDoubt, Err: call.Err}
	case replica.Fenced:
		return unkai.Result{Status: unkai.Failed, Err: errFenced}
	case replica.Refused:
		return unkai.Result{Status: unkai.Failed, Err: errRefused}
	default:
		return unkai.Result{Status: unkai.Failed, Err: call.Err}
	}
}

// ballot is the next ballot of this node above everything seen.
func (c *Coordinator) ballot(top *topology.Topology, seen unkai.Ballot) (unkai.Ballot, bool) {
	self, ok := top.Node(c.cfg.Self)
	if !ok {
		return 0, false
	}
	return register.Next(seen, self.Seat), true
}
