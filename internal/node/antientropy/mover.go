// Package antientropy makes replicas agree with the topology and with each other:
// it brings buckets to the replica sets that take the place of their present ones,
// forgets what a node holds no more, compares replicas by their trees, and mends
// where they differ.
package antientropy

import (
	"context"
	"errors"
	"log/slog"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"unkai"
	"unkai/internal/core/topology"
)

// Mover sees, for every bucket on its way of which this node is a present
// replica, that what this node holds of each key, or something after it, is held
// durably by enough of the joining set; see docs/decisions/0015. When
// enough present replicas have (topology.Arrived), the bucket can be switched.
// Set the fields, then Run.
type Mover struct {
	Self     unkai.NodeID
	Topology func() *topology.Topology
	Replica  Replica
	// Repairer is this node's, which asks the others.
	Repairer *Repairer
	Log      *slog.Logger

	changed chan struct{}
	once    sync.Once
	settled sync.Map // unkai.Bucket → arrival
	pace    pace
	mu      sync.Mutex
	dropped []unkai.Epoch             // of the set under which each bucket was last forgotten
	failed  map[unkai.Bucket]failure  // buckets that could not be brought
	stuck   map[unkai.Bucket]first    // when they could not be brought first
	awaited map[unkai.Bucket]first    // when another node was first found to be behind
	under   map[unkai.Bucket]struct{} // way: they are being brought
	ended   chan struct{}             // one of them is not any more
	running sync.WaitGroup            // for them
	// Since the last look: how many could not be brought, and why one could not.
	failures int
	last     error
	records  atomic.Int64
	bring    func(ctx context.Context, b unkai.Bucket, since unkai.Epoch) (int64, error) // nil: the real one
}

// Replica is what a Mover needs of this node's.
type Replica interface {
	// Settle waits for what was admitted under an earlier topology.
	Settle()
	// Drop forgets a bucket that the node does not hold.
	Drop(b unkai.Bucket) error
}

const (
	// atOnce is how many buckets all nodes together bring at once: one waits for the
	// joining replica's disk while others are read. A node answers few more questions.
	atOnce = 48
	// turn is after what time it is looked whether another replica has brought its
	// buckets, at first; later less and less often, but not after more than longTurn.
	turn     = 20 * time.Millisecond
	longTurn = 160 * time.Millisecond
	// look is how often it looks for what failed before, and after what time that is tried
	// again at the latest: the first time after a turn, and then later and later.
	look = time.Second
	// lenience is for how long a replica that is to bring a bucket is left to it though it
	// cannot yet: mostly it, or one that joins, has only not heard that the bucket is on
	// its way, and then who brings what would be left to chance.
	lenience = time.Second
)

// first is when something was so of a bucket first, since it set out, and whether it was
// so still after more time than others are patient.
type first struct {
	since unkai.Epoch
	at    time.Time
	over  bool
}

// lasts notes that something is so of a bucket, and reports whether it has been for that
// long. The mover's lock is held.
func lasts(notes *map[unkai.Bucket]first, b unkai.Bucket, since unkai.Epoch) bool {
	if *notes == nil {
		*notes = map[unkai.Bucket]first{}
	}
	f := (*notes)[b]
	if f.since != since {
		f = first{since: since, at: time.Now()}
	}
	f.over = time.Since(f.at) >= lenience
	(*notes)[b] = f
	return f.over
}

func (m *Mover) init() {
	m.once.Do(func() { m.changed, m.ended = make(chan struct{}, 1), make(chan struct{}, 1) })
}

// Changed tells of a new topology. It does not block.
func (m *Mover) Changed() {
	m.init()
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// Moved is how many records were brought or settled since the start.
func (m *Mover) Moved() int64 { return m.records.Load() }

// notCounted is for the bytes of a bucket that this node found to be there already, when
// it looked after another one had brought it.
const notCounted = -1

// arrival is that a bucket was settled: the epoch in which it had set out, and
// the bytes that this node holds of it.
type arrival struct {
	since unkai.Epoch
	bytes int64
}

// failure is that a bucket could not be brought: the epoch in which it had set out, when it
// may be tried again, and how long that is after the last time.
type failure struct {
	since unkai.Epoch
	again time.Time
	pause time.Duration
}

// Settled are the buckets on their way that this node has settled, under the
// epoch in which they set out, and the bytes that it holds of each; less than none:
// it has not counted them.
func (m *Mover) Settled() (buckets []unkai.Bucket, bytes []int64) {
	top := m.Topology()
	for b := range top.Buckets {
		bucket := unkai.Bucket(b)
		r := top.Route(bucket)
		if a, ok := m.settled.Load(bucket); ok && r.Joining && a.(arrival).since == r.Since {
			buckets, bytes = append(buckets, bucket), append(bytes, a.(arrival).bytes)
		}
	}
	return buckets, bytes
}

// bringAll brings one bucket that has set out in an epoch.
func (m *Mover) bringAll(ctx context.Context, b unkai.Bucket, since unkai.Epoch) (bytes int64, err error) {
	top := m.Topology()
	route := top.Route(b)
	if _, err := m.allowed(b, since); err != nil {
		return 0, err
	}
	if route.Since != since || !slices.Contains(present(route), m.Self) {
		return 0, errStopped
	}
	allowed := func() (int64, error) { return m.allowed(b, since) }
	c := &bringer{
		Repairer: m.Repairer, b: b, route: route, skip: uint(bits.TrailingZeros(uint(top.Buckets))), allowed: allowed,
		spend: func(ctx context.Context, n int) error {
			if err := m.Repairer.yield(ctx, n); err != nil {
				return err
			}
			return m.pace.wait(ctx, n, allowed)
		},
	}
	if err = c.bring(ctx); err == nil {
		err = c.bringFloor(ctx)
	}
	m.records.Add(c.moved)
	return c.bytes, err
}

// Pending reports whether this node has a bucket to bring and has not tried in vain for long.
func (m *Mover) Pending(b unkai.Bucket) bool {
	r := m.Topology().Route(b)
	if !r.Joining || !slices.Contains(present(r), m.Self) {
		return false
	}
	if a, ok := m.settled.Load(b); ok && a.(arrival).since == r.Since {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.stuck[b]
	return f.since != r.Since || !f.over
}

// errStopped: the bucket is to stay where it is, for now.
var errStopped = errors.New("the job is paused, or the bucket does not move any more")

// allowed is how many bytes in a second may be brought, 0 for any number; or an
// error when the bucket is not to be brought now.
func (m *Mover) allowed(b unkai.Bucket, since unkai.Epoch) (int64, error) {
	top := m.Topology()
	if r := top.Route(b); !r.Joining || r.Since != since || top.Job != nil && top.Job.Paused {
		return 0, errStopped
	}
	return top.Throttle, nil
}

// forget drops the buckets that this node held under an earlier topology, or
// may have held before it was started, and holds no more.
func (m *Mover) forget(top *topology.Topology) {
	m.mu.Lock()
	if m.dropped == nil {
		m.dropped = make([]unkai.Epoch, top.Buckets)
	}
	m.mu.Unlock()
	for b := range top.Buckets {
		r := top.Route(unkai.Bucket(b))
		// The epoch, since the node may have held it under one that was not seen here.
		if slices.Contains(r.Members, m.Self) || m.dropped[b] == r.Since {
			continue
		}
		if err := m.Replica.Drop(unkai.Bucket(b)); err != nil {
			m.Log.Warn("a bucket that is held elsewhere now could not be forgotten; it will be tried again", "bucket", b, "err", err)
			continue
		}
		m.mu.Lock()
		m.dropped[b] = r.Since
		m.mu.Unlock()
	}
}

// Forgot are the buckets of which this node had something left to forget, and
// has.
func (m *Mover) Forgot() (out []unkai.Bucket) {
	top := m.Topology()
	self, ok := top.Node(m.Self)
	if !ok {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dropped == nil {
		return nil
	}
	for _, b := range top.Strayed(self.Seat) {
		if m.dropped[b] == top.Route(b).Since {
			out = append(out, b)
		}
	}
	return out
}
