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
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"unkai"
	"unkai/internal/core/command"
	"unkai/internal/core/quorum"
	"unkai/internal/core/ring"
	"unkai/internal/core/topology"
	"unkai/internal/node/replica"
	"unkai/internal/store"
)

// Replica is one holder of a key. Each method reports whether the answer is in
// the call already; otherwise the call's Answered hears of it, in bounded time
// unless the replica is in this process.
type Replica interface {
	Read(*replica.Call) bool
	Prepare(*replica.Call) bool
	Accept(*replica.Call) bool
}

// Config is what a coordinator needs.
type Config struct {
	Self  unkai.NodeID
	Local Replica // this node's
	// Remote is the replica of another node, nil when there is no way to it.
	// A cluster of one needs none.
	Remote func(unkai.NodeID) Replica
	// Alive reports whether a node is worth asking first. Nil: all are.
	Alive func(unkai.NodeID) bool
	// Behind hears of a node that knows a newer topology. It must not block.
	Behind   func(unkai.NodeID)
	Topology func() *topology.Topology
	Now      func() int64  // milliseconds since 1970
	MaxValue int           // bytes
	Timeout  time.Duration // for one batch
	// Floor is a counter up to which this node may have used ballots in earlier
	// lives; Reserve makes durable that it will use them up to another one. Nil:
	// there was no earlier life and there will be none.
	Floor   uint64
	Reserve func(counter uint64) error
	// Rand gives a random number, which decides how long a round waits before it is
	// tried again. Nil: that of math/rand.
	Rand func() uint64
}

// ErrMoved says that this node does not hold the key's bucket. Nothing was tried.
var ErrMoved = errors.New("the key is held by other nodes")

// ErrElsewhere says that what this node's replica holds of a key is not what the others
// do, and its coordinator, another node, has to sort that out. Only plain reads
// get it. Nothing was tried.
var ErrElsewhere = errors.New("the key is being changed; its coordinator has to answer")

// ErrAway says that this node has reached too few of the key's replicas, where
// another node may reach more. With a result that says so nothing was applied.
var ErrAway = errors.New("too few of its replicas can be reached")

// Why an operation failed without having been applied.
var (
	errTimeout = errors.New("the replicas did not answer in time")
	errFenced  = errors.New("the topology keeps changing; try again")
	errRefused = errors.New("another coordinator was faster; try again")
	errUnclear = errors.New("another coordinator took over before it was known to be stored")
)

// Coordinator is safe for concurrent use; a batch is one goroutine's.
type Coordinator struct {
	cfg      Config
	space    ring.Space
	stripes  [4096]stripe
	works    sync.Pool
	rounds   sync.Pool
	polls    sync.Pool
	reserved reservation
	salt     uint64 // tells the waits of one coordinator from those of others

	counters counters
}

type counters struct {
	shared, expired, retried, timeouts, prepared, hedged atomic.Int64
}

// Stats counts what a coordinator did beyond the usual, so that the usual need
// not touch a counter that all cores share.
type Stats struct {
	Shared   int64 // operations that another operation's round served
	Expired  int64 // items found expired and made tombstones
	Retried  int64 // rounds begun again under a newer epoch or ballot
	Timeouts int64 // operations that got no answer in time
	Prepared int64 // rounds that had to ask for promises
	Hedged   int64 // reads for which more replicas were asked than needed
}

// stripe holds the rounds of the keys that hash to it.
type stripe struct {
	sync.Mutex
	open  atomic.Int32 // len(rounds), to be read without the lock
	head  *round
	owned *[ownedPerStripe]owned
	floor uint64 // counters up to here may have been used for its keys
	_     [24]byte
}

// New is a coordinator. The hash space of its cluster is fixed from then on.
func New(cfg Config) *Coordinator {
	if cfg.Behind == nil {
		cfg.Behind = func(unkai.NodeID) {}
	}
	if cfg.Reserve == nil {
		cfg.Reserve = func(uint64) error { return nil }
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Uint64
	}
	c := &Coordinator{
		cfg:    cfg,
		salt:   cfg.Rand(),
		space:  cfg.Topology().Space(),
		works:  sync.Pool{New: func() any { return newWork() }},
		rounds: sync.Pool{New: func() any { return new(round) }},
		polls:  sync.Pool{New: func() any { return new(poll) }},
	}
	c.reserved.save = cfg.Reserve
	c.reserved.upTo.Store(cfg.Floor)
	return c
}

// Stats are the counters at this moment.
func (c *Coordinator) Stats() Stats {
	n := &c.counters
	return Stats{
		Shared: n.shared.Load(), Expired: n.expired.Load(), Retried: n.retried.Load(),
		Timeouts: n.timeouts.Load(), Prepared: n.prepared.Load(), Hedged: n.hedged.Load(),
	}
}

// Do answers the operations of b that have no result yet, in order, and at
// least one of them; it stops early when the values of the answers have filled
// b.Room.
func (c *Coordinator) Do(b *unkai.Batch) { c.do(b, nil) }

// Settle sees to it that what is chosen for these keys is held by this node's replica,
// and by both sets of replicas of their buckets where one set is taking the place of
// the other. It reports the first key's error, if there is one; then it is to be
// tried again.
func (c *Coordinator) Settle(keys [][]byte) error {
	return c.settleAll(keys, make([]unkai.Ballot, len(keys)))
}

// SettleOne does so with one key, and tells the last ballot that enough replicas have
// promised meanwhile, or zero. None of them has forgotten anything at or above it.
func (c *Coordinator) SettleOne(key []byte) (unkai.Ballot, error) {
	promised := make([]unkai.Ballot, 1)
	err := c.settleAll([][]byte{key}, promised)
	return promised[0], err
}

func (c *Coordinator) settleAll(keys [][]byte, promised []unkai.Ballot) error {
	var b unkai.Batch
	for _, k := range keys {
		op := b.Add()
		op.Key, op.NoValue, op.NoBump = k, true, true
	}
	for len(b.Results) < len(b.Ops) {
		c.do(&b, promised)
	}
	for i := range b.Results {
		if err := b.Results[i].Err; err != nil {
			return fmt.Errorf("settle %q: %w", keys[i], err)
		}
	}
	return nil
}

// do is Do; where settle is not nil it settles, and each key's ballot goes there.
func (c *Coordinator) do(b *unkai.Batch, settle []unkai.Ballot) {
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
		if settle != nil {
			t.settle = &settle[first+started]
		}
		if w.direct > 0 && w.reading(t, started) {
			break // a direct read of the key may yet become a round, and must come first
		}
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
	if t.settle == nil && command.ReadsOnly(t.op) && (s.open.Load() == 0 || !s.has(t)) && c.direct(w, t) {
		return
	}
	t.state = waiting
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

func (c *Coordinator) remote(id unkai.NodeID) Replica {
	if id == 0 || c.cfg.Remote == nil {
		return nil
	}
	return c.cfg.Remote(id)
}

func (c *Coordinator) alive(id unkai.NodeID) bool {
	return id != 0 && (c.cfg.Alive == nil || c.cfg.Alive(id))
}

// manned reports whether enough members of a route are alive for a write.
func (c *Coordinator) manned(route *topology.Route) bool {
	return route.Write.Enough(c.living(route))
}

// living are the members of a route that seem to be alive.
func (c *Coordinator) living(route *topology.Route) (m quorum.Mask) {
	for i, id := range route.Members {
		if id == c.cfg.Self || c.alive(id) {
			m = m.With(i)
		}
	}
	return m
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

// away is an ErrAway that says more.
type away struct{ error }

// Unwrap is why the replicas were not reached.
func (a away) Unwrap() error { return a.error }

// Is makes it an ErrAway.
func (a away) Is(target error) bool { return target == ErrAway }

// short says how many of those it needs a poll could not win.
func (q *poll) short() error {
	need := q.route.Write.Present.Need
	if q.err == nil {
		return errRefused
	}
	err := fmt.Errorf("%d of %d replicas are needed: %w", need, q.route.Write.Present.Members.Count(), q.err)
	if errors.Is(q.err, store.ErrFull) {
		return err
	}
	return away{err}
}
