package antientropy

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
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
	packing  packing
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
