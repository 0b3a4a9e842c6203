package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"unkai"
	"unkai/internal/core/topology"
	"unkai/internal/node/antientropy"
	"unkai/internal/node/gateway"
	"unkai/internal/node/manager"
	"unkai/internal/node/replica"
	"unkai/internal/peer"
)

const (
	// greetEvery is how often a node says hello to the others, and to how many of
	// them it tells all addresses it knows.
	greetEvery = time.Second
	greetFully = 2
	// tellEvery is how many hellos go by until a node notes, and tells, that it is
	// still there: by that much an old copy of its directory may escape notice.
	tellEvery = 10
	// joinRetry is how long a node waits before it asks again to be let in.
	joinRetry = 500 * time.Millisecond
)

// topology is the present one; nil before there is one.
func (n *Node) topology() *topology.Topology {
	if m := n.managerRef.Load(); m != nil {
		return m.Topology()
	}
	return nil
}

func (n *Node) openedMover() *antientropy.Mover {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mover
}

// alive reports whether another node answers.
func (n *Node) alive(id unkai.NodeID) bool { return n.network.Alive(id) }

// room is a peer.Handler that refuses until it has one to pass requests to.
type room struct{ to atomic.Pointer[peer.Handler] }

// Serve implements peer.Handler.
func (r *room) Serve(q *peer.Request) {
	if h := r.to.Load(); h != nil {
		(*h).Serve(q)
		return
	}
	q.Refuse("this node is starting or stopping; ask again")
}

func (r *room) open(h peer.Handler) { r.to.Store(&h) }

func (r *room) close() { r.to.Store(nil) }

// openPeers opens the port for other nodes. What needs rooms is refused until
// they are open.
func (n *Node) openPeers() error {
	if n.cfg.Network != nil {
		n.network.Network = n.cfg.Network(n.id)
	} else {
		secret, err := n.peerKey()
		if err != nil {
			return err
		}
		p, err := peer.Open(peer.Config{
			Listener: n.peer, Self: n.id, Log: n.log, TLS: secret,
			Cluster: func() uint64 {
				if top := n.topology(); top != nil {
					return top.Cluster
				}
				return 0
			},
		})
		if err != nil {
			return fmt.Errorf("open the port for other nodes: %w", err)
		}
		n.network.Network, n.port = p, p
	}
	controls := newServed(n.serveControl)
	decrees := newServed(func(from unkai.NodeID, question []byte) ([]byte, error) {
		m := n.managerRef.Load()
		if m == nil {
			return nil, errors.New("this node is not a member yet")
		}
		return m.Serve(from, question), nil
	})
	n.asked = []*served{controls, decrees}
	n.network.Handle(peer.Control, controls)
	n.network.Handle(peer.Topology, decrees)
	n.network.Handle(peer.Replica, &n.replicas)
	n.network.Handle(peer.Operations, &n.operations)
	n.network.Handle(peer.Repair, &n.repairs)
	// Who is let in may ask at once: the book has to be there.
	var err error
	n.book, err = openBook(n.dir.file(bookFile), n.id, func(id unkai.NodeID, addr string) {
		if id != n.id {
			n.network.Know(id, addr)
		}
	})
	if err != nil {
		return err
	}
	if n.port != nil {
		n.port.Start()
	}
	return nil
}

// peerKey is what the port for other nodes is protected with.
func (n *Node) peerKey() (*tls.Config, error) {
	if n.cfg.PeerKey == "" {
		return nil, nil
	}
	text, err := os.ReadFile(n.cfg.PeerKey)
	if err != nil {
		return nil, fmt.Errorf("read the key between nodes: %w", err)
	}
	secret, err := peer.Secret(text)
	if err != nil {
		return nil, fmt.Errorf("peer-key: %s: %w", n.cfg.PeerKey, err)
	}
	return secret, nil
}

// peerAddress is where other nodes find this one.
func (n *Node) peerAddress() string {
	if n.peer == nil {
		return n.cfg.Peer
	}
	addr := n.peer.Addr().String()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	// Listening everywhere is no address; what was configured may be a name.
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		if given, _, err := net.SplitHostPort(n.cfg.Peer); err == nil && given != "" && net.ParseIP(given) == nil {
			return net.JoinHostPort(given, port)
		}
		if own := outwardAddress(); own != "" {
			return net.JoinHostPort(own, port)
		}
	}
	return addr
}

// outwardAddress is an address of this machine that others may reach.
func outwardAddress() string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return ""
	}
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.IsGlobalUnicast() {
			return ip.IP.String()
		}
	}
	return ""
}

// self is this node as it wants to be in the topology.
func (n *Node) self() topology.Node {
	return topology.Node{ID: n.id, Weight: n.cfg.Weight, Zone: n.cfg.Zone, Manual: n.cfg.Attach == Manual}
}

// join asks the nodes that were named to let this one in, again or as a new one,
// until one has.
func (n *Node) join(ctx context.Context, again bool) (*topology.Topology, error) {
	n.setState("joining")
	for try := 0; ; try++ {
		var errs []error
		for _, addr := range n.cfg.Join {
			top, err := n.joinAt(ctx, addr, again)
			if err == nil {
				return top, nil
			}
			errs = append(errs, fmt.Errorf("%s: %w", addr, err))
			if errors.Is(err, topology.ErrRemoved) {
				return nil, fmt.Errorf("join: %w", errors.Join(errs...))
			}
		}
		err := fmt.Errorf("join: %w", errors.Join(errs...))
		if try%20 == 0 {
			n.log.Warn("no node has let this one in yet; it keeps trying", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(joinRetry):
		}
	}
}

func (n *Node) joinAt(ctx context.Context, addr string, again bool) (*topology.Topology, error) {
	ctx, cancel := context.WithTimeout(ctx, changeLimit)
	defer cancel()
	id, err := n.network.Introduce(ctx, addr)
	if err != nil {
		return nil, err
	}
	if id == n.id {
		return nil, errors.New("this is the node itself")
	}
	if a, err := n.askControl(ctx, id, control{Hello: n.hello()}); err != nil {
		return nil, err
	} else if a.Hello != nil {
		err := n.book.learn(a.Hello.Book)
		if again && errors.Is(err, errOlder) { // its clock was ahead; it begins anew in any case
			err = n.book.tellOwn(n.peerAddress(), n.cfg.Now())
		}
		if err != nil {
			return nil, err
		}
	}
	a, err := n.askControl(ctx, id, control{Join: &join{Node: n.self(), Reborn: again}})
	if err != nil {
		return nil, err
	}
	switch {
	case a.Join == nil:
		return nil, errors.New("it gave no answer")
	case a.Join.Never != "":
		return nil, fmt.Errorf("node %v: %w", n.id, topology.ErrRemoved)
	case a.Join.Topology == nil:
		return nil, errors.New("it gave no topology")
	}
	top := a.Join.Topology
	if err := top.Seal(); err != nil {
		return nil, err
	}
	if _, ok := top.Node(n.id); !ok {
		return nil, errors.New("it gave a topology without this node")
	}
	return top, nil
}

// greet says hello to the others now and then: so addresses and epochs spread,
// and connections stay open.
func (n *Node) greet(ctx context.Context) {
	seeds := n.cfg.Join
	tick := time.NewTicker(greetEvery)
	defer tick.Stop()
	slots := make(chan struct{}, servedAtOnce)
	for round := 0; ; round++ {
		top := n.topology()
		others := make([]unkai.NodeID, 0, len(top.Nodes))
		reached := false
		for _, m := range top.Nodes {
			if m.ID != n.id {
				others = append(others, m.ID)
				reached = reached || n.alive(m.ID)
			}
		}
		if !reached && round%4 == 0 { // all addresses may have changed
			for _, addr := range seeds {
				n.try(slots, func() {
					ctx, cancel := context.WithTimeout(ctx, answerLimit)
					defer cancel()
					if id, err := n.network.Introduce(ctx, addr); err == nil && id != n.id {
						n.greetOne(ctx, id, n.hello())
					}
				})
			}
		}
		n.noteFull(n.id, n.engine.Stats().Full)
		if round%tellEvery == tellEvery-1 {
			n.stillHere()
		}
		for i, id := range others {
			h := n.hello()
			if (i+round)%max(len(others), 1) >= greetFully {
				h.Book = nil
			}
			n.try(slots, func() { n.greetOne(ctx, id, h) })
		}
		select {
		case <-ctx.Done():
			for range servedAtOnce {
				slots <- struct{}{}
			}
			return
		case <-tick.C:
		}
	}
}

// try runs f in a goroutine of its own when there is a slot for it.
func (n *Node) try(slots chan struct{}, f func()) {
	select {
	case slots <- struct{}{}:
		go func() {
			defer func() { <-slots }()
			f()
		}()
	default:
	}
}

func (n *Node) greetOne(ctx context.Context, id unkai.NodeID, h *hello) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	a, err := n.askControl(ctx, id, control{Hello: h})
	if err != nil || a.Hello == nil {
		return // it is not there now; its connection says so
	}
	if err := n.greeted(id, a.Hello); errors.Is(err, errOlder) {
		n.outlived(err)
	} else if err != nil {
		n.log.Warn("what another node knows could not be kept", "node", id.String(), "err", err)
	} else if h.Book != nil && n.network.waits.Load() {
		n.vouch(id)
	}
}

// behind notes that another node has a newer topology.
func (n *Node) behind(from unkai.NodeID) {
	select {
	case n.newer <- from:
	default: // one is being fetched; if that is not new enough it will be noticed
	}
}

// catchUp fetches newer topologies from nodes that have them.
func (n *Node) catchUp(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case from := <-n.newer:
			limited, cancel := context.WithTimeout(ctx, answerLimit)
			if err := n.manager.Catch(limited, from); err != nil {
				n.log.Debug("a newer topology could not be fetched", "node", from.String(), "err", err)
			}
			cancel()
		}
	}
}

// flush makes everything stored so far absent, everywhere: it returns when no
// node can read or write under an earlier topology any more.
func (n *Node) flush(at int64) error {
	if n.network.waits.Load() {
		return errUnvouched
	}
	if err := n.manager.Flush(at); err != nil {
		return err
	}
	top := n.manager.Topology()
	ctx, cancel := context.WithTimeout(context.Background(), changeLimit)
	defer cancel()
	for {
		if top.Fenced(n.heard(ctx, top)) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: it is decided, and too few replicas have heard of it so far", manager.ErrInDoubt)
		case <-time.After(joinRetry / 10):
		}
	}
}

// heard are the seats of the nodes that know a topology, or a newer one.
func (n *Node) heard(ctx context.Context, top *topology.Topology) (heard []unkai.Seat) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, m := range top.Nodes {
		wg.Go(func() {
			if m.ID != n.id {
				a, err := n.askControl(ctx, m.ID, control{Hello: &hello{Epoch: top.Epoch}})
				if err != nil || a.Hello == nil || a.Hello.Epoch < top.Epoch {
					return
				}
			}
			mu.Lock()
			heard = append(heard, m.Seat)
			mu.Unlock()
		})
	}
	wg.Wait()
	return heard
}

// remotes are the replicas of other nodes, made when they are first wanted.
func (n *Node) remote(id unkai.NodeID) *replica.Remote {
	if r, ok := n.remotes.Load(id); ok {
		return r.(*replica.Remote)
	}
	r, _ := n.remotes.LoadOrStore(id, replica.NewRemote(&n.network, id, n.cfg.RequestTimeout/2))
	return r.(*replica.Remote)
}

// openToPeers lets other nodes in.
func (n *Node) openToPeers() {
	n.replicas.open(&replica.Server{Replica: n.replica, Behind: n.behind})
	repairs := newServed(n.repairer.Serve)
	n.asked = append(n.asked, repairs)
	n.repairs.open(repairs)
	n.batches = gateway.NewServer(n.timed)
	n.operations.open(n.batches)
}
