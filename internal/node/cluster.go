package node

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"

	"unkai"
	"unkai/internal/node/antientropy"
	"unkai/internal/node/gateway"
	"unkai/internal/node/replica"
	"unkai/internal/peer"
)

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
	n.book, err = n.dir.Book(func(id unkai.NodeID, addr string) {
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
