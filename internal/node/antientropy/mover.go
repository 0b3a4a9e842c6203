// Package antientropy makes replicas agree with the topology and with each other:
// it brings buckets to the replica sets that take the place of their present ones,
// forgets what a node holds no more, compares replicas by their trees, and mends
// where they differ.
package antientropy

import (
	"context"
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
	settled sync.Map // unkai.Bucket → unkai.Epoch under which it was settled
	held    []bool
	keys    atomic.Int64
}

// Replica is what a Mover needs of this node's.
type Replica interface {
	// Settle waits for what was admitted under an earlier topology.
	Settle()
	// Keys passes the keys of a bucket to yield.
	Keys(b unkai.Bucket, yield func(key []byte) bool) error
	// Drop forgets a bucket that the node does not hold.
	Drop(b unkai.Bucket) error
}

const (
	// batch is how many keys are settled at once: they share round trips and
	// syncs.
	batch = 256
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

// Settled are the buckets on their way that this node has settled, under the
// epoch in which they set out.
func (m *Mover) Settled() (out []unkai.Bucket) {
	top := m.Topology()
	for b := range top.Buckets {
		bucket := unkai.Bucket(b)
		r := top.Route(bucket)
		if e, ok := m.settled.Load(bucket); ok && r.Joining && e == r.Since {
			out = append(out, bucket)
		}
	}
	return out
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
	var todo []unkai.Bucket
	for b := range top.Buckets {
		bucket := unkai.Bucket(b)
		r := top.Route(bucket)
		if !r.Joining || !slices.Contains(r.Members[:r.Write.Present.Members.Count()], m.Self) {
			continue
		}
		if e, ok := m.settled.Load(bucket); !ok || e != r.Since {
			todo = append(todo, bucket)
		}
	}
	if len(todo) == 0 {
		return
	}
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
			if err := m.settle(ctx, b); err != nil {
				m.Log.Debug("a bucket could not be brought to its new replicas yet; it will be tried again", "bucket", b, "err", err)
				return
			}
			m.settled.Store(b, top.Route(b).Since)
		})
	}
	wg.Wait()
}

// settle settles every key of one bucket.
func (m *Mover) settle(ctx context.Context, b unkai.Bucket) error {
	var keys [][]byte
	var failed error
	flush := func() bool {
		if len(keys) > 0 {
			if failed = m.Settle(keys); failed == nil {
				m.keys.Add(int64(len(keys)))
			}
			keys = keys[:0]
		}
		if failed == nil {
			failed = ctx.Err()
		}
		return failed == nil
	}
	err := m.Replica.Keys(b, func(key []byte) bool {
		keys = append(keys, slices.Clone(key))
		return len(keys) < batch || flush()
	})
	if err != nil {
		return err
	}
	if failed == nil {
		flush()
	}
	return failed
}

// forget drops the buckets that this node held under an earlier topology, or
// may have held before it was started, and holds no more.
func (m *Mover) forget(top *topology.Topology) {
	if m.held == nil {
		m.held = make([]bool, top.Buckets)
		for b := range m.held {
			m.held[b] = true
		}
	}
	for b := range top.Buckets {
		holds := slices.Contains(top.Route(unkai.Bucket(b)).Members, m.Self)
		if m.held[b] && !holds {
			if err := m.Replica.Drop(unkai.Bucket(b)); err != nil {
				m.Log.Warn("a bucket that is held elsewhere now could not be forgotten; it will be tried again", "bucket", b, "err", err)
				continue
			}
		}
		m.held[b] = holds
	}
}
