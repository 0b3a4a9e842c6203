package antientropy

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"unkai"
	"unkai/internal/core/quorum"
	"unkai/internal/core/topology"
	"unkai/internal/node/replica"
)

// Repairer makes replicas equal. Each node goes round the buckets of which it is the
// first present replica that is alive, compares the roots of many at a time with all
// the others, and where they differ descends, finds out who lacks what, and has it
// adopted there; see docs/decisions/0016. Set the fields, then Run.
type Repairer struct {
	Self     unkai.NodeID
	Topology func() *topology.Topology
	Replica  *replica.Local
	Alive    func(unkai.NodeID) bool
	// Ask asks another node's Serve, within some seconds.
	Ask func(ctx context.Context, to unkai.NodeID, question []byte) ([]byte, error)
	// Settle has a round at each of these keys, after which this node's replica holds
	// what is chosen.
	Settle func(keys [][]byte) error
	// Pending reports whether it is this node that will bring a bucket on its way to
	// its joining replicas, and has not tried yet; nil: never.
	Pending func(b unkai.Bucket) bool
	// Pace has to be waited for after whatever was copied, and is told how it was
	// received; nil: nobody's.
	Pace Pacer
	Now  func() int64 // milliseconds since 1970
	Log  *slog.Logger

	once     sync.Once
	verified []verified
	stats    counters
	demands  demands
	wake     chan struct{} // somebody waits for a repair
}

// Pacer keeps what is copied from slowing clients down.
type Pacer interface {
	// Wait waits until bytes that were copied are within what may be.
	Wait(ctx context.Context, bytes int) error
	// Answered tells how long a receiver took for what it was brought, and whether it
	// has refused it.
	Answered(took time.Duration, refused bool)
}

// verified is when a bucket was last found equal at all present replicas.
type verified struct {
	mu    sync.Mutex
	at    int64
	first int64 // when it was first looked at
	epoch unkai.Epoch
	by    []unkai.NodeID
	// differ is how many keys were not equal everywhere at the last look.
	differ int64
}

// leave notes that another node compares the bucket now: what this one has found counts
// no more for how long it has waited.
func (v *verified) leave() {
	v.mu.Lock()
	v.first = 0
	v.mu.Unlock()
}

type counters struct {
	compared, differed, adopted, brought, settled, failed, sent, received, counted atomic.Int64
}

// Stats counts what was compared and mended since the start.
type Stats struct {
	Compared int64 // buckets compared by this node with all other replicas
	Differed int64 // of those, not equal at the first look
	Adopted  int64 // records taken over here
	Brought  int64 // records that other replicas took over because of this node
	Settled  int64 // keys that needed a round
	Failed   int64 // records that a store could not take over
	Sent     int64 // bytes of questions
	Received int64 // bytes of answers
	Counted  int64 // buckets counted anew
	// Unreconciled is how many keys were not equal everywhere when their buckets were
	// looked at last, as far as this node compares them.
	Unreconciled int64
	// Oldest is when the bucket was last found equal at all its replicas for which
	// that is longest ago, among those that this node compares; 0: all of them just
	// were, or there is none. In milliseconds since 1970.
	Oldest int64
	Bucket unkai.Bucket // which that is
}

const (
	// passEvery is how often all roots are compared, if it takes less than that.
	passEvery = time.Second
	// sessions is how many buckets are gone into at once.
	sessions = 8
	// maxRate is how many bytes a second may be exchanged, on average.
	maxRate = 32 << 20
)

func (r *Repairer) init() {
	r.once.Do(func() {
		r.verified = make([]verified, r.Topology().Buckets)
		r.wake = make(chan struct{}, 1)
	})
}

// Stats are the counters at this moment.
func (r *Repairer) Stats() Stats {
	r.init()
	c := &r.stats
	s := Stats{
		Compared: c.compared.Load(), Differed: c.differed.Load(), Adopted: c.adopted.Load(), Brought: c.brought.Load(),
		Settled: c.settled.Load(), Failed: c.failed.Load(), Sent: c.sent.Load(), Received: c.received.Load(), Counted: c.counted.Load(),
	}
	top := r.Topology()
	oldest := int64(math.MaxInt64)
	for b := range r.verified {
		if !r.leads(top.Route(unkai.Bucket(b))) {
			continue
		}
		v := &r.verified[b]
		v.mu.Lock()
		s.Unreconciled += v.differ
		if at := max(v.at, v.first); v.first != 0 && at < oldest {
			oldest, s.Bucket = at, unkai.Bucket(b)
		}
		v.mu.Unlock()
	}
	if oldest != math.MaxInt64 {
		s.Oldest = oldest
	}
	return s
}

// Verified is when a bucket was last found equal at all of these seats, and at all
// other present replicas, in its present epoch; false: it was not, as far as this node
// knows.
func (r *Repairer) Verified(b unkai.Bucket, seats []unkai.Seat) (at int64, ok bool) {
	r.init()
	top := r.Topology()
	v := &r.verified[b]
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.at == 0 || v.epoch != top.Route(b).Epoch {
		return 0, false
	}
	for _, s := range seats {
		if n, ok := top.Seated(s); !ok || !slices.Contains(v.by, n.ID) {
			return 0, false
		}
	}
	return v.at, true
}

// Run counts and compares until the context ends.
func (r *Repairer) Run(ctx context.Context) {
	r.init()
	var counting sync.WaitGroup
	counting.Go(func() { r.keepCounted(ctx) })
	defer counting.Wait()
	// Not at the moment at which everything else that looks every second does.
	if !sleep(ctx, passEvery*2/7) {
		return
	}
	tick := time.NewTicker(passEvery)
	defer tick.Stop()
	var full time.Time // when everything was compared last
	for {
		began := time.Now()
		if r.demands.pressed() && time.Since(full) < passEvery {
			r.pass(ctx, true)
		} else {
			full = began
			r.pass(ctx, false)
		}
		r.review()
		switch pressed := r.demands.pressed(); {
		case pressed && !sleep(ctx, hurry), !pressed && !r.idle(ctx, time.Since(began), tick.C):
			return
		case !pressed && r.demands.pressed():
			full = time.Now() // first what is waited for
		}
	}
}

// idle rests for a share of the time that it has worked, and then until the tick; or
// until somebody waits.
func (r *Repairer) idle(ctx context.Context, worked time.Duration, tick <-chan time.Time) bool {
	rested := time.NewTimer(worked / restShare)
	defer rested.Stop()
	for _, c := range []<-chan time.Time{rested.C, tick} {
		select {
		case <-ctx.Done():
			return false
		case <-r.wake:
			return true
		case <-c:
		}
	}
	return true
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// present are the replicas that are read from.
func present(route *topology.Route) []unkai.NodeID {
	return route.Members[:route.Write.Present.Members.Count()]
}

// leads reports whether it is this node that compares a bucket: the first present
// replica that is alive.
func (r *Repairer) leads(route *topology.Route) bool {
	for _, id := range present(route) {
		if id == r.Self {
			return true
		}
		if id != 0 && r.Alive(id) {
			return false
		}
	}
	return false
}

// comparison is that of a bucket's root with the others'.
type comparison struct {
	bucket unkai.Bucket
	route  *topology.Route
	peers  []unkai.NodeID // those who have answered
	differ bool
	depth  int
	most   int64 // records of the one who has most
	all    bool  // nobody was away
	keys   int64 // that were found to differ
	mine   replica.Tree

	hurried bool    // what changes all the time is mended too
	why     trouble // if not all were compared
	absent  string
	// What became of it: whether nothing differed after all; whether all that
	// differed was changing under the eyes, and has been mended.
	level, restless                 bool
	err                             error
	brought, settled, failed, bytes int64
}

// Pass compares all buckets of this node once, and mends where they differ.
func (r *Repairer) Pass(ctx context.Context) {
	r.init()
	r.pass(ctx, false)
}

// pass compares all buckets, or only those that somebody waits for.
func (r *Repairer) pass(ctx context.Context, wanted bool) {
	top := r.Topology()
	looks := r.looks(top, wanted)
	r.compareRoots(ctx, looks)
	var wg sync.WaitGroup
	slots := make(chan struct{}, sessions)
	for i := range looks {
		l := &looks[i]
		if ctx.Err() != nil {
			break
		}
		if !l.differ {
			r.found(l, l.all)
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			r.stats.differed.Add(1)
			if l.level, l.err = r.mend(ctx, top, l); l.err != nil && ctx.Err() == nil {
				l.keys = max(l.keys, 1)
				r.Log.Debug("a bucket could not be compared to the end; it will be tried again", "bucket", l.bucket, "err", l.err)
			}
			r.found(l, l.level && l.all && l.err == nil)
		})
	}
	wg.Wait()
	r.again(ctx, looks)
}

// found notes what a comparison has found.
func (r *Repairer) found(l *comparison, equal bool) {
	r.demands.note(l, equal)
	now := r.Now()
	v := &r.verified[l.bucket]
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.first == 0 {
		v.first = now
	}
	v.differ = l.keys
	if equal {
		r.stats.compared.Add(1)
		v.at, v.epoch, v.by = now, l.route.Epoch, present(l.route)
	}
}

// looks are the buckets that this node leads and has counted; or only those of them
// that somebody waits for.
func (r *Repairer) looks(top *topology.Topology, only bool) (out []comparison) {
	for b := range top.Buckets {
		route := top.Route(unkai.Bucket(b))
		wanted, hurried := r.demands.wants(unkai.Bucket(b))
		if !r.leads(route) {
			r.verified[b].leave()
			continue
		}
		if only && !wanted {
			continue
		}
		l := r.look(unkai.Bucket(b), route)
		l.hurried = hurried
		if !l.mine.Known {
			l.lacks(counting, r.Self)
			r.found(&l, false)
			continue
		}
		out = append(out, l)
	}
	return out
}

// look begins the comparison of a bucket with what this node holds of it.
func (r *Repairer) look(b unkai.Bucket, route *topology.Route) comparison {
	t := r.Replica.Tree(b)
	return comparison{bucket: b, route: route, all: true, mine: t, depth: t.Depth, most: t.Records}
}

// errState is what another replica answers that cannot.
var errState = errors.New("the other replica cannot answer that now")

// ask asks one node.
func (r *Repairer) ask(ctx context.Context, to unkai.NodeID, q []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil { // who has been told to stop asks nothing more
		return nil, err
	}
	reply, err := r.Ask(ctx, to, q)
	r.stats.sent.Add(int64(len(q)))
	r.stats.received.Add(int64(len(reply)))
	return reply, err
}

// askOne asks one node about one bucket; the rest of its answer is returned.
func (s *session) askOne(ctx context.Context, to unkai.NodeID, q []byte) (*reader, error) {
	reply, err := s.ask(ctx, to, q)
	s.bytes.Add(int64(len(q) + len(reply)))
	s.tally.bytes.Add(int64(len(q) + len(reply)))
	if err != nil {
		return nil, err
	}
	in := &reader{b: reply}
	switch state(in.u8()) {
	case stateOK:
		if !in.short {
			return in, nil
		}
		return nil, errShort
	case stateTooLarge:
		return nil, errTooLarge
	default:
		return nil, errState
	}
}

var errTooLarge = errors.New("the other replica has too much to say at once")

// holders is the mask of those of a route's members.
func holders(route *topology.Route, ids []unkai.NodeID) (m quorum.Mask) {
	for i, id := range route.Members {
		if id != 0 && slices.Contains(ids, id) {
			m = m.With(i)
		}
	}
	return m
}
