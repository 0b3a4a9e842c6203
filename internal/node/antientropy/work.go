package antientropy

import (
	"context"
	"fmt"
	"slices"
	"time"

	"unkai"
	"unkai/internal/core/topology"
)

// Run works until the context ends.
func (m *Mover) Run(ctx context.Context) {
	m.init()
	defer m.running.Wait()
	for wait := turn; ctx.Err() == nil; {
		pending := m.work(ctx)
		switch failed, busy := m.tell(); {
		case pending || busy:
			wait = min(2*wait, longTurn)
		case failed:
			wait = min(2*wait, look)
		default:
			wait = look
		}
		tick := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-m.changed:
			tick.Stop()
			wait = turn
		case <-tick.C:
		}
	}
}

// departure is that a bucket of which this node is a present replica is on its way.
type departure struct {
	bucket unkai.Bucket
	since  unkai.Epoch
	turn   int // whose it is to bring it: 0 is the first
}

// work begins what the topology asks for, as far as it can be done now, and does not wait
// for the end of it: a joining replica may be slow, and others set out meanwhile. It reports
// whether there are buckets that another replica is to bring first.
func (m *Mover) work(ctx context.Context) (pending bool) {
	m.init()
	top := m.Topology()
	m.forget(top)
	if top.Job != nil && top.Job.Paused {
		return false
	}
	todo := m.departures(top)
	if len(todo) == 0 {
		return false
	}
	// First those that this node coordinates: the others wait until it has brought
	// them, and mostly find that nothing is left to bring.
	slices.SortStableFunc(todo, func(a, b departure) int { return a.turn - b.turn })
	m.Replica.Settle()
	own := 0
	for own < len(todo) && todo[own].turn == 0 {
		own++
	}
	if !m.begin(ctx, todo[:own]) {
		return false
	}
	others := todo[own:]
	if m.bring == nil && len(others) > 0 { // of these most have to wait
		top = m.Topology()
		now := m.wait(ctx, top, others)
		pending = len(now) < len(others)
		others = m.alike(ctx, top, now)
	}
	m.begin(ctx, others)
	return pending
}

// departures are the buckets that this node has not settled and does not bring yet, without
// those that have failed just now. What it had settled is looked at again when a newcomer
// was away since: it lacks what clients wrote meanwhile.
func (m *Mover) departures(top *topology.Topology) (todo []departure) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for b := range top.Buckets {
		bucket := unkai.Bucket(b)
		r := top.Route(bucket)
		if !r.Joining || !slices.Contains(present(r), m.Self) {
			continue
		}
		_, under := m.under[bucket]
		f := m.failed[bucket]
		if under || f.since == r.Since && time.Now().Before(f.again) {
			continue
		}
		if m.bring == nil && m.Repairer.misses(r) {
			m.settled.Delete(bucket)
		}
		if a, ok := m.settled.Load(bucket); !ok || a.(arrival).since != r.Since {
			todo = append(todo, departure{bucket, r.Since, slices.Index(r.Members, m.Self)})
		}
	}
	return todo
}

// begin begins to bring buckets, not too many at once. It reports false when no more is to
// be brought now.
func (m *Mover) begin(ctx context.Context, todo []departure) bool {
	top := m.Topology()
	for _, d := range todo {
		if !m.place(ctx, d.bucket) {
			return false
		}
		if now := m.Topology(); now != top {
			top = now // other buckets have been switched; this one may be on its way still
			m.forget(top)
		}
		if ctx.Err() != nil || top.Job != nil && top.Job.Paused {
			m.leave(d.bucket)
			return false
		}
		m.running.Go(func() {
			defer m.leave(d.bucket)
			m.one(ctx, d.bucket, d.since)
		})
	}
	return true
}

// place waits until there is room for one more bucket, and takes it. It reports false when
// the context has ended before.
func (m *Mover) place(ctx context.Context, b unkai.Bucket) bool {
	for {
		m.mu.Lock()
		free := len(m.under) < max(2, atOnce/max(1, len(m.Topology().Nodes)-1))
		if m.under == nil {
			m.under = map[unkai.Bucket]struct{}{}
		}
		if free {
			m.under[b] = struct{}{}
		}
		m.mu.Unlock()
		if free {
			return true
		}
		select {
		case <-m.ended:
		case <-ctx.Done():
			return false
		}
	}
}

func (m *Mover) leave(b unkai.Bucket) {
	m.mu.Lock()
	delete(m.under, b)
	m.mu.Unlock()
	select {
	case m.ended <- struct{}{}:
	default:
	}
}

// one tries to bring one bucket.
func (m *Mover) one(ctx context.Context, b unkai.Bucket, since unkai.Epoch) {
	bring := m.bring
	if bring == nil {
		bring = m.bringAll
	}
	bytes, err := bring(ctx, b, since)
	if err == nil {
		m.settled.Store(b, arrival{since, bytes})
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed == nil {
		m.failed = map[unkai.Bucket]failure{}
	}
	pause := turn
	if f := m.failed[b]; f.since == since {
		pause = min(2*f.pause, look)
	}
	m.failed[b] = failure{since, time.Now().Add(pause), pause}
	lasts(&m.stuck, b, since)
	m.failures++
	m.last = fmt.Errorf("bucket %d: %w", b, err)
}

// tell says how many buckets could not be brought since the last time, in one line: there
// may be thousands. It reports whether some could not, and whether some are being brought.
func (m *Mover) tell() (failed, busy bool) {
	m.mu.Lock()
	n, last := m.failures, m.last
	m.failures, m.last = 0, nil
	busy = len(m.under) > 0
	m.mu.Unlock()
	if n > 0 {
		m.Log.Debug("buckets could not be brought to their new replicas yet; they will be tried again", "buckets", n, "one", last)
	}
	return n > 0, busy
}
