// Package antientropy makes replicas agree with the topology and with each other:
// it brings buckets to the replica sets that take the place of their present ones,
// forgets what a node holds no more, compares replicas by their trees, and mends
// where they differ.
package antientropy

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"unkai"
	"unkai/internal/core/topology"
)

// Mover sees, for every bucket on its way of which this node is a present
// replica, that each key this node holds has been accepted by both sets. When
// enough present replicas have (topology.Arrived), the bucket can be switched.
// Set the fields, then Run.
type Mover struct {
	Self     unkai.NodeID
	Topology func() *topology.Topology
	Replica  Replica
	// Settle sees that what is chosen for these keys is held by both sets.
	Settle func(keys [][]byte) error
	Log    *slog.Logger

	changed chan struct{}
	once    sync.Once
	settled sync.Map // unkai.Bucket → arrival
	pace    pace
	mu      sync.Mutex
	dropped []unkai.Epoch // of the set under which each bucket was last forgotten
	keys    atomic.Int64
}

// Replica is what a Mover needs of this node's.
type Replica interface {
	// Settle waits for what was admitted under an earlier topology.
	Settle()
	// Keys passes the keys of a bucket to yield, with the bytes that they and
	// their values have.
	Keys(b unkai.Bucket, yield func(key []byte, size int) bool) error
	// Drop forgets a bucket that the node does not hold.
	Drop(b unkai.Bucket) error
}

const (
	// batch is how many keys are settled at once, and batchBytes with how many
	// bytes: they share round trips and syncs.
	batch      = 256
	batchBytes = 1 << 20
	// atOnce is how many buckets are settled at once.
	atOnce = 4
	// look is how often it looks for what failed before.
	look = time.Second
)

func (m *Mover) init() { m.once.Do(func() { m.changed = make(chan struct{}, 1) }) }

// Changed tells of a new topology. It does not block.
func (m *Mover) Changed() {
	m.init()
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// Moved is how many keys were settled since the start.
func (m *Mover) Moved() int64 { return m.keys.Load() }

// arrival is that a bucket was settled: the epoch in which it had set out, and
// the bytes that this node holds of it.
type arrival struct {
	since unkai.Epoch
	bytes int64
}

// Settled are the buckets on their way that this node has settled, under the
// epoch in which they set out, and the bytes that it holds of each.
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

// Run works until the context ends.
func (m *Mover) Run(ctx context.Context) {
	m.init()
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		m.work(ctx)
		select {
		case <-ctx.Done():
			return
		case <-m.changed:
		case <-tick.C:
		}
	}
}

func (m *Mover) work(ctx context.Context) {
	top := m.Topology()
	m.forget(top)
	if top.Job != nil && top.Job.Paused {
		return
	}
	var todo []unkai.Bucket
	for b := range top.Buckets {
		bucket := unkai.Bucket(b)
		r := top.Route(bucket)
		if !r.Joining || !slices.Contains(r.Members[:r.Write.Present.Members.Count()], m.Self) {
			continue
		}
		if a, ok := m.settled.Load(bucket); !ok || a.(arrival).since != r.Since {
			todo = append(todo, bucket)
		}
	}
	if len(todo) == 0 {
		return
	}
	// First those that this node coordinates: so the replicas of a bucket do not
	// bring the same keys at once, and the later ones find them brought.
	slices.SortStableFunc(todo, func(a, b unkai.Bucket) int {
		return slices.Index(top.Route(a).Members, m.Self) - slices.Index(top.Route(b).Members, m.Self)
	})
	m.Replica.Settle()
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for _, b := range todo {
		if ctx.Err() != nil || m.Topology() != top {
			break
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			since := top.Route(b).Since
			bytes, err := m.settle(ctx, b, since)
			if err != nil {
				m.Log.Debug("a bucket could not be brought to its new replicas yet; it will be tried again", "bucket", b, "err", err)
				return
			}
			m.settled.Store(b, arrival{since, bytes})
		})
	}
	wg.Wait()
}

// settle settles every key of one bucket that has set out in an epoch.
func (m *Mover) settle(ctx context.Context, b unkai.Bucket, since unkai.Epoch) (bytes int64, err error) {
	var keys [][]byte
	var failed error
	waiting := 0 // bytes
	flush := func() bool {
		if len(keys) > 0 {
			if failed = m.Settle(keys); failed == nil {
				m.keys.Add(int64(len(keys)))
				failed = m.pace.wait(ctx, waiting, func() (int64, error) { return m.allowed(b, since) })
			}
			bytes += int64(waiting)
			keys, waiting = keys[:0], 0
		}
		if failed == nil {
			failed = ctx.Err()
		}
		return failed == nil
	}
	err = m.Replica.Keys(b, func(key []byte, size int) bool {
		keys = append(keys, slices.Clone(key))
		waiting += size
		return len(keys) < batch && waiting < batchBytes || flush()
	})
	if err != nil {
		return 0, err
	}
	if failed == nil {
		flush()
	}
	return bytes, failed
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
