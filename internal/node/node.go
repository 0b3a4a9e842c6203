// Package node opens the rooms of a node in order and joins them: store,
// manager, replica, coordinator, gateway, and then the doors.
package node

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"unkai"
	"unkai/internal/admin"
	"unkai/internal/core/topology"
	"unkai/internal/memcache"
	"unkai/internal/node/antientropy"
	"unkai/internal/node/coordinator"
	"unkai/internal/node/directory"
	"unkai/internal/node/gateway"
	"unkai/internal/node/jobs"
	"unkai/internal/node/manager"
	"unkai/internal/node/pace"
	"unkai/internal/node/replica"
	"unkai/internal/peer"
	"unkai/internal/store"
)

// Node is one running node.
type Node struct {
	cfg   Config
	log   *slog.Logger
	id    unkai.NodeID
	since int64
	dir   *directory.Directory

	// The other nodes: where they are, how they are asked, and what they have told.
	book       *directory.Book
	peer       net.Listener // nil when the network is another's
	port       *peer.Port   // nil when the network is another's
	network    vouched
	remotes    sync.Map // unkai.NodeID → *replica.Remote
	asked      []*served
	replicas   room
	operations room
	repairs    room
	newer      chan unkai.NodeID // a node that knows a newer topology
	full       sync.Map          // unkai.NodeID → nothing: those that have told that their stores are full
	guests     sync.Map          // unkai.NodeID → int64: clients, as far as it was told
	prospects  prospects
	sight      sight
	stray      atomic.Pointer[string] // what to do about a cluster that is not this node's

	// The rooms, in the order in which they are opened.
	jobs        *jobs.Operator
	managerRef  atomic.Pointer[manager.Manager]
	manager     *manager.Manager
	engine      store.Engine
	replica     *replica.Local
	coordinator *coordinator.Coordinator
	pacer       *pace.Pacer
	timed       *timed
	gateway     *gateway.Gateway
	repairer    *antientropy.Repairer
	mover       *antientropy.Mover
	sweeper     *replica.Sweeper
	scrubber    replica.Scrubber
	batches     *gateway.Server
	calm        calm
	flushed     atomic.Uint32 // the flush that was noticed last, see flushedAnew

	// The doors.
	listen, http net.Listener
	door         door
	memcache     *memcache.Server
	admin        *admin.Server
	side         sync.WaitGroup // the side door, which closes last

	// How it lives, and ends.
	restored bool // the data directory is an older copy
	drained  drain
	cancel   context.CancelFunc
	running  sync.WaitGroup
	stops    atomic.Bool // it is being stopped, or was
	done     chan struct{}
	failed   chan error

	mu    sync.Mutex
	state string // why the node is not ready; "" when it is
	err   error
}

// Start opens a node. When ctx ends before it serves, it gives up; afterwards
// only Stop ends it.
func Start(ctx context.Context, cfg Config) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, log: cfg.Log, since: cfg.Now(),
		done: make(chan struct{}), failed: make(chan error, 1), newer: make(chan unkai.NodeID, 1), state: "starting",
	}
	n.door.n, n.door.decided = n, make(chan struct{})
	n.jobs = n.newJobs()
	if err := n.open(ctx); err != nil {
		ctx, cancel := context.WithTimeout(context.Background(), failStop)
		defer cancel()
		return nil, errors.Join(err, n.Stop(ctx))
	}
	return n, nil
}

// open opens the doors, so that it is known whether they are free, then the rooms, and then
// serves.
func (n *Node) open(ctx context.Context) error {
	// The doors first: a port that is taken should be known before anything
	// else is touched, and readiness can be asked for while the store opens.
	var err error
	if n.cfg.Listen != "" {
		if n.listen, err = net.Listen("tcp", n.cfg.Listen); err != nil {
			return fmt.Errorf("listen for memcached clients: %w; choose another address with --listen", err)
		}
	}
	if n.cfg.HTTP != "" {
		if n.http, err = net.Listen("tcp", n.cfg.HTTP); err != nil {
			return fmt.Errorf("listen for administration: %w; choose another address with --http, or --http off", err)
		}
	}
	if n.cfg.Network == nil {
		if n.peer, err = net.Listen("tcp", n.cfg.Peer); err != nil {
			return fmt.Errorf("listen for other nodes: %w; choose another address with --peer", err)
		}
	}
	if n.dir, err = directory.Open(n.cfg.Data, n.cfg.Store, n.random); err != nil {
		return err
	}
	n.id = n.dir.Node()
	n.openMemcache()
	n.openAdmin()
	if err := n.openPeers(); err != nil {
		return err
	}
	if err := n.recall(ctx); err != nil {
		return err
	}
	if err := n.openManager(ctx); err != nil {
		return err
	}
	if len(n.topology().Nodes) == 1 { // whoever else is in the book has gone for good
		n.vouch(n.id)
	}
	began := time.Now()
	if err := n.openStore(ctx); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := n.openRooms(); err != nil {
		return err
	}
	n.openToPeers()
	n.setState("")
	n.door.open(n.gateway)
	s := n.engine.Stats()
	top := n.manager.Topology()
	n.log.Info("serving",
		"listen", addrOf(n.listen), "peer", n.peerAddress(), "http", addrOf(n.http), "data", n.cfg.Data,
		"store", n.cfg.Store, "sync", n.cfg.Sync, "node", n.id.String(), "epoch", top.Epoch, "buckets", top.Buckets,
		"items", s.Items, "tombstones", s.Tombstones, "bytes", s.Bytes, "recovered_in", time.Since(began).Round(time.Millisecond))
	n.heir()
	return nil
}

func addrOf(l net.Listener) string {
	if l == nil {
		return "off"
	}
	return l.Addr().String()
}

// random is what ids are made of.
func (n *Node) random() (uint64, error) {
	if n.cfg.Rand != nil {
		return n.cfg.Rand(), nil
	}
	var b [8]byte
	_, err := rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:]), err
}

// ID is who the node is.
func (n *Node) ID() unkai.NodeID { return n.id }

// Do asks the node as a client of its own would, without a door in between. It
// answers at least one more operation of the batch each time.
func (n *Node) Do(b *unkai.Batch) { n.gateway.Do(b) }

// Flush is flush_all, at an instant in milliseconds since 1970, 0 for now: then it returns
// when nothing stored before can be read anywhere any more.
func (n *Node) Flush(at int64) error { return n.flush(at) }

// Topology is the newest that the node knows.
func (n *Node) Topology() *topology.Topology { return n.topology() }

// Listen is the address for memcached clients.
func (n *Node) Listen() net.Addr { return n.listen.Addr() }

// HTTP is the address for administration; nil when that door is closed.
func (n *Node) HTTP() net.Addr {
	if n.http == nil {
		return nil
	}
	return n.http.Addr()
}

// Peer is the address for other nodes.
func (n *Node) Peer() string { return n.peerAddress() }

func (n *Node) setState(s string) {
	n.mu.Lock()
	n.state = s
	n.mu.Unlock()
}
