package antientropy_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"unkai"
	"unkai/internal/core/topology"
	"unkai/internal/node/antientropy"
	"unkai/internal/node/coordinator"
	"unkai/internal/node/replica"
	"unkai/internal/store"
	"unkai/internal/store/memory"
)

// cluster is three nodes that hold all keys, and what is between them.
type cluster struct {
	top   atomic.Pointer[topology.Topology]
	nodes []*node
	bytes atomic.Int64
	now   atomic.Int64
	wrap  func(store.Engine) store.Engine // of the next node; nil: none
}

type node struct {
	*antientropy.Repairer
	id          unkai.NodeID
	engine      store.Engine
	replica     *replica.Local
	coordinator *coordinator.Coordinator
	away        atomic.Bool
	deaf        atomic.Bool // to coordinators only
	mute        atomic.Bool // seems to be alive, and does not answer who compares
	// lossy, if any, is called when the answer to an accept of this node gets lost.
	lossy atomic.Pointer[func()]
}

func newCluster(t testing.TB, size, buckets int, wrap ...func(store.Engine) store.Engine) *cluster {
	t.Helper()
	c := &cluster{}
	if len(wrap) > 0 {
		c.wrap = wrap[0]
	}
	c.now.Store(1_000_000)
	top := topology.New(42, buckets, size, size/2+1, size/2+1, topology.Node{ID: 1, Weight: 1})
	var ids []unkai.NodeID
	for id := unkai.NodeID(2); int(id) <= size; id++ {
		var err error
		if top, err = top.Join(topology.Node{ID: id, Weight: 1}); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	top, err := top.Attach(ids...)
	if err != nil {
		t.Fatal(err)
	}
	var all []unkai.Bucket
	for b := range buckets {
		all = append(all, unkai.Bucket(b))
	}
	top = top.Proceed(all, nil, 1<<16, func(unkai.Bucket) int64 { return 0 })
	top = top.Proceed(nil, all, 1<<16, nil)
	c.set(t, top)
	for i := range size {
		c.nodes = append(c.nodes, c.newNode(t, unkai.NodeID(i+1), buckets))
	}
	return c
}

func (c *cluster) set(t testing.TB, top topology.Topology) {
	t.Helper()
	if err := top.Seal(); err != nil {
		t.Fatal(err)
	}
	c.top.Store(&top)
}

func (c *cluster) newNode(t testing.TB, id unkai.NodeID, buckets int) *node {
	t.Helper()
	e, err := memory.Open(memory.Config{Buckets: buckets})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	n := &node{id: id, engine: e}
	if engineOf != nil {
		n.engine = engineOf(id, e)
	}
	if c.wrap != nil {
		n.engine = c.wrap(n.engine)
	}
	n.replica = replica.New(n.engine, id, c.top.Load)
	n.coordinator = coordinator.New(coordinator.Config{
		Self: id, Local: n.replica, Topology: c.top.Load, Now: c.now.Load, MaxValue: 1 << 20, Timeout: time.Second,
		Remote: func(to unkai.NodeID) coordinator.Replica { return link{n, c.nodes[to-1]} },
		Alive:  func(to unkai.NodeID) bool { return !c.nodes[to-1].away.Load() },
	})
	n.Repairer = &antientropy.Repairer{
		Self: id, Topology: c.top.Load, Replica: n.replica, Settle: n.coordinator.Settle,
		Now: func() int64 { return time.Now().UnixMilli() }, Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
		Alive: func(to unkai.NodeID) bool { return !c.nodes[to-1].away.Load() },
		Ask: func(_ context.Context, to unkai.NodeID, q []byte) ([]byte, error) {
			if n.away.Load() || c.nodes[to-1].away.Load() || c.nodes[to-1].mute.Load() {
				return nil, errAway
			}
			c.bytes.Add(int64(len(q)))
			a, err := c.nodes[to-1].Serve(id, slices.Clone(q))
			c.bytes.Add(int64(len(a)))
			return a, err
		},
	}
	return n
}

// engineOf, if any, puts something around a new node's engine.
var engineOf func(unkai.NodeID, store.Engine) store.Engine

var errAway = errors.New("away")

// link is a replica as another node reaches it.
type link struct{ from, to *node }

func (l link) ask(c *replica.Call, do func(*replica.Local, *replica.Call) bool) bool {
	if l.from.away.Load() || l.to.away.Load() || l.to.deaf.Load() {
		c.Status, c.Err = replica.Failed, errAway
		return true
	}
	return do(l.to.replica, c)
}

func (l link) Read(c *replica.Call) bool    { return l.ask(c, (*replica.Local).Read) }
func (l link) Prepare(c *replica.Call) bool { return l.ask(c, (*replica.Local).Prepare) }
func (l link) Accept(c *replica.Call) bool {
	done := l.ask(c, (*replica.Local).Accept)
	if lost := l.from.lossy.Load(); lost != nil {
		c.Status, c.Err = replica.Unknown, errAway
		(*lost)()
	}
	return done
}

func (c *cluster) count(t testing.TB) {
	t.Helper()
	for _, n := range c.nodes {
		for b := range c.top.Load().Buckets {
			if n.replica.Unfit(unkai.Bucket(b)) {
				if err := n.replica.Count(t.Context(), unkai.Bucket(b)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func (c *cluster) pass(t testing.TB) {
	t.Helper()
	for _, n := range c.nodes {
		if !n.away.Load() {
			n.Pass(t.Context())
		}
	}
}

// call is a question about a key, to be asked directly.
func (c *cluster) call(key string) *replica.Call {
	top := c.top.Load()
	hash := top.Space().Hash([]byte(key))
	b := top.Space().Bucket(hash)
	return &replica.Call{Epoch: top.Route(b).Epoch, Bucket: b, Hash: hash, Key: []byte(key)}
}

// accept has one replica accept a value, or a tombstone if it is "".
func (c *cluster) accept(t testing.TB, n *node, key, value string, b unkai.Ballot) replica.Status {
	t.Helper()
	q := c.call(key)
	q.Ballot = b
	if value != "" {
		q.Item = unkai.Item{Value: []byte(value), CAS: uint64(b)}
	}
	if !n.replica.Accept(q) {
		t.Fatal("a memory store answers at once")
	}
	return q.Status
}

func (c *cluster) held(t testing.TB, n *node, key string) store.Record {
	t.Helper()
	q := c.call(key)
	f, _, err := n.replica.Get(q.Bucket, q.Hash, q.Key, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f.Record
}

// differ is how many buckets are not equal at all replicas.
func (c *cluster) differ() (n int) {
	for b := range unkai.Bucket(c.top.Load().Buckets) {
		for _, o := range c.nodes[1:] {
			if o.replica.Tree(b).Root != c.nodes[0].replica.Tree(b).Root {
				n++
				break
			}
		}
	}
	return n
}

func do(c *coordinator.Coordinator, ops ...unkai.Op) []unkai.Result {
	b := unkai.Batch{Ops: ops}
	for len(b.Results) < len(b.Ops) {
		c.Do(&b)
	}
	return b.Results
}

func contextOf(t testing.TB) (context.Context, context.CancelFunc) {
	return context.WithCancel(t.Context())
}
