// Package node opens the rooms of a node in order and joins them: store,
// manager, replica, coordinator, gateway, and then the doors.
package node

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"unkai"
	"unkai/internal/admin"
	"unkai/internal/core/topology"
	"unkai/internal/memcache"
	"unkai/internal/node/antientropy"
	"unkai/internal/node/coordinator"
	"unkai/internal/node/gateway"
	"unkai/internal/node/manager"
	"unkai/internal/node/pace"
	"unkai/internal/node/replica"
	"unkai/internal/peer"
	"unkai/internal/store"
	"unkai/internal/store/disk"
	"unkai/internal/store/memory"
)

// Node is one running node.
type Node struct {
	cfg   Config
	log   *slog.Logger
	id    unkai.NodeID
	since int64

	dir         *directory
	book        *book
	network     vouched
	port        *peer.Port // nil when the network is another's
	replicas    room
	operations  room
	repairs     room
	remotes     sync.Map          // unkai.NodeID → *replica.Remote
	newer       chan unkai.NodeID // a node that knows a newer topology
	asked       []*served
	managerRef  atomic.Pointer[manager.Manager]
	engine      store.Engine
	manager     *manager.Manager
	replica     *replica.Local
	batches     *gateway.Server
	mover       *antientropy.Mover
	repairer    *antientropy.Repairer
	pacer       *pace.Pacer
	calm        calm
	timed       *timed
	coordinator *coordinator.Coordinator
	gateway     *gateway.Gateway
	scrubber    replica.Scrubber
	sweeper     *replica.Sweeper
	full        sync.Map // unkai.NodeID → nothing: those that have told that their stores are full
	guests      sync.Map // unkai.NodeID → int64: clients, as far as it was told
	drained     drain
	memcache    *memcache.Server
	admin       *admin.Server

	listen, http net.Listener
	peer         net.Listener // nil when the network is another's
	cancel       context.CancelFunc
	running      sync.WaitGroup
	side         sync.WaitGroup // the side door, which closes last
	stops        atomic.Bool    // it is being stopped, or was
	done         chan struct{}
	failed       chan error
	sight        sight
	progress     progress
	flushed      atomic.Uint32 // the flush that was noticed last, see flushedAnew
	prospects    prospects
	mu           sync.Mutex
	state        string // why the node is not ready; "" when it is
	err          error
	restored     bool // the data directory is an older copy
}

// opsPerConn is how many operations of a connection may run at once, on average
// over all that may be open, before the gateway refuses: half of what each may
// pipeline.
const opsPerConn = 64

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
	if err := n.open(ctx); err != nil {
		return nil, errors.Join(err, n.close())
	}
	return n, nil
}

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
	if n.dir, err = openDirectory(n.cfg.Data, n.cfg.Store, n.random); err != nil {
		return err
	}
	n.id = n.dir.node()
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
	n.openMemcache()
	n.setState("")
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

func (n *Node) openManager(ctx context.Context) error {
	file := n.dir.file(topologyFile)
	first := n.firstTopology
	if _, err := os.Stat(string(file)); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(n.cfg.Data, storeDir)); err == nil {
			return fmt.Errorf("%s has a store but no file %s, without which its keys cannot be found; restore the directory from a copy", n.cfg.Data, topologyFile)
		}
		if len(n.cfg.Join) > 0 {
			// Who is no new node has lost what it held and decided, if it was a member.
			top, err := n.join(ctx, !n.dir.created)
			if err != nil {
				return err
			}
			first = func() (topology.Topology, error) { return *top, nil }
		}
	}
	m, err := manager.Open(manager.Config{
		Self: n.id, Topology: file, Decree: n.dir.file(decreeFile), Network: managers{n},
		Now: n.cfg.Now, Log: n.log, Changed: n.topologyChanged, Rand: n.cfg.Rand, Timeout: time.Second,
	}, first)
	if err != nil {
		return err
	}
	n.manager = m
	if n.restored {
		if err := n.readmit(ctx, m); err != nil {
			return err
		}
	}
	n.managerRef.Store(m)
	top := m.Topology()
	if _, ok := top.Node(n.id); !ok {
		return fmt.Errorf("%s: node %v: %w", n.cfg.Data, n.id, topology.ErrRemoved)
	}
	n.drained.note(top, n.id)
	if top.Buckets != n.cfg.Buckets {
		n.log.Warn("the number of buckets is fixed when a cluster begins; --buckets is ignored", "buckets", top.Buckets)
	}
	if after := n.cfg.AutoReplace; after != 0 && after.Milliseconds() != top.AutoReplace {
		n.log.Warn("--auto-replace is for a new cluster only, and is ignored; unkai auto-replace changes it", "after", patience(top))
	}
	return n.configure(ctx, top)
}

// firstTopology is that of a new cluster of this node.
func (n *Node) firstTopology() (topology.Topology, error) {
	seed, err := n.random()
	if err != nil {
		return topology.Topology{}, fmt.Errorf("choose a cluster id: %w", err)
	}
	c := n.cfg
	top := topology.New(seed|1, c.Buckets, c.N, c.R, c.W, n.self())
	top.AutoReplace = c.AutoReplace.Milliseconds()
	return top, nil
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

// configure brings N:R:W to what was asked for, where that is possible.
func (n *Node) configure(ctx context.Context, top *topology.Topology) error {
	if top.N == n.cfg.N && top.R == n.cfg.R && top.W == n.cfg.W {
		return nil
	}
	if len(top.Nodes) > 1 {
		n.log.Warn("N:R:W are fixed once a cluster has two nodes; --n, --r and --w are ignored", "n", top.N, "r", top.R, "w", top.W)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, changeLimit)
	defer cancel()
	_, err := n.manager.Change(ctx, func(t *topology.Topology) (topology.Topology, error) {
		return t.Configure(n.cfg.N, n.cfg.R, n.cfg.W)
	})
	return err
}

// topologyChanged hears of every change after the first topology.
func (n *Node) topologyChanged() {
	n.mu.Lock()
	r, m := n.replica, n.mover // a flush that was due may come before the rooms are open
	n.mu.Unlock()
	top := n.topology()
	if r != nil && top != nil && n.flushedAnew(top) {
		r.Flushed()
	}
	if m != nil {
		m.Changed()
	}
	if top := n.topology(); top != nil {
		n.belongs(top)
	}
}

func (n *Node) openStore(ctx context.Context) (err error) {
	if n.cfg.Store == Memory && !n.dir.created && !n.restored { // what the memory promised before is forgotten
		if err := n.reborn(ctx); err != nil {
			return err
		}
	}
	top := n.manager.Topology()
	switch {
	case n.cfg.Engine != nil:
		n.engine = n.cfg.Engine
	case n.cfg.Store == Memory:
		n.engine, err = memory.Open(memory.Config{Buckets: top.Buckets, Limit: n.cfg.Memory, Now: n.cfg.Now})
	default:
		err = n.openDisk(ctx, top.Buckets)
	}
	if err != nil {
		return fmt.Errorf("open the store: %w", err)
	}
	if n.restored {
		if err := n.disown(); err != nil {
			return err
		}
		return n.book.tellOwn(n.peerAddress(), n.cfg.Now())
	}
	return nil
}

func (n *Node) openDisk(ctx context.Context, buckets int) error {
	policy, err := disk.ParseSync(n.cfg.Sync)
	if err != nil {
		return err
	}
	engine, err := disk.Open(disk.Config{
		Dir: filepath.Join(n.cfg.Data, storeDir), Buckets: buckets, Sync: policy,
		Cache: n.cfg.Cache, Log: n.log, Failed: n.fail, Now: n.cfg.Now,
	})
	if err != nil {
		return err
	}
	n.engine = engine
	file := marks{n.dir.file(markFile)}
	last, err := file.last()
	if err != nil {
		return err
	}
	if engine.Mark() < last && !n.restored {
		switch alone := len(n.manager.Topology().Nodes) == 1; {
		case !engine.Fresh() && policy != disk.Always:
			// A power cut took what was not synced, here and maybe everywhere. That is
			// what was asked for; all beginning anew would lose the rest, too.
			n.log.Warn("the store has lost what was not synced when the power failed", "sync", n.cfg.Sync)
		case alone:
			return fmt.Errorf("%s is empty or an older copy, while the rest of %s is not: mount or restore the right one; to begin anew, name another directory with --data", filepath.Join(n.cfg.Data, storeDir), n.cfg.Data)
		default:
			n.log.Warn("the store is empty or an older copy: this node begins anew, with what the other nodes hold", "data", n.cfg.Data)
			if err := n.reborn(ctx); err != nil {
				return err
			}
			if err := n.disown(); err != nil {
				return err
			}
		}
	}
	return file.set(engine, max(engine.Mark(), last)+1)
}

func (n *Node) openRooms() error {
	used := counters{n.dir.file(ballotsFile)}
	floor, err := used.floor()
	if err != nil {
		return err
	}
	n.flushedAnew(n.manager.Topology()) // which a new replica sees to in any case
	rep := replica.New(n.engine, n.id, n.manager.Topology)
	n.coordinator = coordinator.New(coordinator.Config{
		Self: n.id, Local: rep, Topology: n.manager.Topology, Alive: n.alive, Behind: n.behind,
		Remote: func(id unkai.NodeID) coordinator.Replica { return n.remote(id) },
		Now:    n.cfg.Now, MaxValue: n.cfg.MaxValue, Timeout: n.cfg.RequestTimeout * 3 / 4, // another node's gateway waits for it
		Floor: floor, Reserve: used.reserve, Rand: n.cfg.Rand,
	})
	pacer := n.newPacer()
	n.timed = &timed{n, &pacer.Latencies}
	n.gateway = gateway.New(gateway.Config{
		Local: n.timed, Self: n.id, Topology: n.manager.Topology, Network: &n.network,
		Timeout: n.cfg.RequestTimeout, MaxRunning: int64(n.cfg.MaxConns) * opsPerConn,
	})
	repairer := &antientropy.Repairer{
		Self: n.id, Topology: n.manager.Topology, Replica: rep, Alive: n.alive, Settle: n.coordinator.Settle, Now: n.cfg.Now, Log: n.log, Pace: pacer,
		Ask: func(ctx context.Context, to unkai.NodeID, question []byte) ([]byte, error) {
			return n.ask(ctx, to, peer.Repair, question)
		},
	}
	mover := &antientropy.Mover{Self: n.id, Topology: n.manager.Topology, Replica: rep, Repairer: repairer, Log: n.log}
	repairer.Pending = mover.Pending
	n.mu.Lock()
	n.replica, n.mover, n.repairer, n.pacer = rep, mover, repairer, pacer
	n.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	n.sweeper = &replica.Sweeper{
		Replica: n.replica, Expire: n.expire, Mine: n.coordinates, Now: n.cfg.Now,
		Level: repairer.Level, Alive: n.alive,
		Failed: func(b unkai.Bucket, err error) {
			n.log.Warn("a bucket could not be swept; it will be tried again", "bucket", b, "err", err)
		},
	}
	n.running.Go(func() { n.sweeper.Run(ctx) })
	n.running.Go(func() { n.watch(ctx) })
	n.running.Go(func() { pacer.Run(ctx) })
	n.running.Go(func() { mover.Run(ctx) })
	n.running.Go(func() { repairer.Run(ctx) })
	n.scrubber.Replica, n.scrubber.Failed = rep, func(b unkai.Bucket, err error) {
		n.log.Warn("a bucket could not be read through; it will be tried again", "bucket", b, "err", err)
	}
	healer := &antientropy.Healer{Self: n.id, Topology: n.manager.Topology, Replica: rep, Settle: n.coordinator.SettleOne, Renew: n.renew, Log: n.log}
	n.running.Go(func() { healer.Run(ctx) })
	n.running.Go(func() { n.scrubber.Run(ctx) })
	n.running.Go(func() { n.greet(ctx) })
	n.running.Go(func() { n.catchUp(ctx) })
	n.running.Go(func() { n.runSteward(ctx) })
	return nil
}

// coordinates reports whether this node is the first replica of a bucket that is
// alive.
func (n *Node) coordinates(b unkai.Bucket) bool {
	for _, id := range n.manager.Topology().Route(b).Members {
		if id == n.id {
			return true
		}
		if id != 0 && n.alive(id) {
			return false
		}
	}
	return false
}

// expire reads keys that have expired, which makes them tombstones.
func (n *Node) expire(keys [][]byte) {
	var b unkai.Batch
	for _, k := range keys {
		op := b.Add()
		op.Key, op.NoValue, op.NoBump = k, true, true
	}
	for len(b.Results) < len(b.Ops) {
		n.coordinator.Do(&b)
	}
}

// spoken begins the answer to the command version: clients read off it which
// commands they may use, so it names the memcached whose protocol this is.
const spoken = "1.6.18-unkai-"

func (n *Node) openMemcache() {
	if n.listen == nil {
		return
	}
	n.memcache = memcache.New(memcache.Config{
		Handler: n.gateway, FlushAll: n.flush, Stats: n.stats, Now: n.cfg.Now, Log: n.log,
		Version: spoken + n.cfg.Version, MaxConns: n.cfg.MaxConns, MaxValue: n.cfg.MaxValue, IdleTimeout: n.cfg.IdleTimeout,
	})
	n.running.Go(func() {
		if err := n.memcache.Serve(n.listen); err != nil {
			n.fail(fmt.Errorf("serve memcached clients: %w", err))
		}
	})
}

// watch stops the node when a part of it has failed.
func (n *Node) watch(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case err := <-n.failed:
		n.mu.Lock()
		n.err = err
		n.mu.Unlock()
		if errors.Is(err, ErrDrained) {
			n.log.Info("this node holds nothing any more, was removed from its cluster, and stops")
		} else {
			n.log.Error("the node cannot go on and stops", "err", err)
		}
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), failStop)
			defer cancel()
			if err := n.Stop(ctx); err != nil {
				n.log.Error("stopping did not end well", "err", err)
			}
		}()
	}
}

// failStop is how long a failed node may take to stop.
const failStop = 10 * time.Second

// fail says, from any goroutine, that the node cannot go on.
func (n *Node) fail(err error) {
	select {
	case n.failed <- err:
	default: // it is stopping already
	}
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

// Done is closed when the node has stopped, by Stop or because it failed.
func (n *Node) Done() <-chan struct{} { return n.done }

// Err says why a node stopped by itself; nil after an orderly stop.
func (n *Node) Err() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}

func (n *Node) setState(s string) {
	n.mu.Lock()
	n.state = s
	n.mu.Unlock()
}

// Stop answers what was accepted, makes it durable and releases everything. It
// waits for connections until ctx ends, and then closes them. Only the first
// call does anything; the others wait for it.
func (n *Node) Stop(ctx context.Context) error {
	var err error
	if n.stops.CompareAndSwap(false, true) {
		n.setState("stopping")
		n.operations.close() // gateways of other nodes turn to others
		if n.memcache != nil {
			err = n.memcache.Shutdown(ctx)
		}
		err = errors.Join(err, n.close())
		close(n.done)
	}
	<-n.done
	return err
}

// close releases what open has opened, the last first.
func (n *Node) close() error {
	var errs []error
	if n.gateway != nil {
		n.gateway.Stop()
	}
	if n.cancel != nil {
		n.cancel()
	}
	if n.memcache == nil && n.listen != nil {
		errs = append(errs, n.listen.Close())
	}
	n.running.Wait()
	n.replicas.close()
	n.operations.close()
	n.repairs.close()
	for _, s := range n.asked {
		s.close()
	}
	if n.batches != nil {
		n.batches.Close()
	}
	if n.port != nil {
		errs = append(errs, n.port.Close())
	} else if n.peer != nil {
		errs = append(errs, n.peer.Close())
	}
	if n.manager != nil {
		errs = append(errs, n.manager.Close())
	}
	if n.engine != nil {
		errs = append(errs, n.engine.Close())
	}
	if n.dir != nil {
		errs = append(errs, n.dir.close())
	}
	errs = append(errs, n.closeAdmin())
	return errors.Join(errs...)
}

// Peer is the address for other nodes.
func (n *Node) Peer() string { return n.peerAddress() }
