package peer

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"unkai"
)

// Config is what a Port needs.
type Config struct {
	Listener net.Listener // the Port closes it
	Self     unkai.NodeID
	// Cluster is the id of this node's cluster, 0 as long as it is in none.
	// A node without cluster talks to all, one with a cluster to no other.
	Cluster func() uint64
	Log     *slog.Logger // nil: none
	// Dial opens a connection; nil: over TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// TLS, if not nil, is used on every connection, in both directions. Unless
	// it says otherwise, both sides must show a certificate of its RootCAs.
	TLS *tls.Config
	// Other takes over incoming connections that begin with a byte which is
	// not ours, behind TLS if there is any. It reads that byte again from c, and
	// the Port neither counts nor closes c from then on. Nil: they are closed.
	Other func(first byte, c net.Conn)
	// MaxIncoming bounds the connections of others; 0: 1024.
	MaxIncoming int
}

// Port is the real Network.
type Port struct {
	cfg      Config
	server   *tls.Config
	run      uint64
	began    time.Time
	ticks    atomic.Int64
	handlers [256]Handler
	requests sync.Pool
	knowing  sync.Mutex                               // who may change peers
	peers    atomic.Pointer[map[unkai.NodeID]*remote] // copied on write
	down     atomic.Int64

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	out      map[*outbound]struct{}
	in       map[*inbound]struct{}
	claims   map[unkai.NodeID]*claim
	accepted int                  // connections of others, those in a handshake too
	said     map[string]time.Time // whom the log knows to have been turned away, and why
	total    Stats
}

var _ Network = (*Port)(nil)

// Open makes a Port, which can call; it answers from Start on.
func Open(cfg Config) (*Port, error) {
	if cfg.Self == 0 || cfg.Listener == nil || cfg.Cluster == nil {
		return nil, errors.New("opening the peer port: a listener, a node id and a cluster are needed")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Dial == nil {
		var d net.Dialer
		cfg.Dial = func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
	}
	if cfg.MaxIncoming == 0 {
		cfg.MaxIncoming = 1024
	}
	var run [8]byte
	if _, err := rand.Read(run[:]); err != nil {
		return nil, fmt.Errorf("opening the peer port: %w", err)
	}
	p := &Port{
		cfg: cfg, run: binary.LittleEndian.Uint64(run[:]), began: time.Now(),
		out: map[*outbound]struct{}{}, in: map[*inbound]struct{}{}, claims: map[unkai.NodeID]*claim{}, said: map[string]time.Time{},
	}
	if cfg.TLS != nil {
		p.server = cfg.TLS.Clone()
		if p.server.ClientAuth == tls.NoClientCert {
			p.server.ClientAuth = tls.RequireAndVerifyClientCert
		}
		if p.server.ClientCAs == nil {
			p.server.ClientCAs = cfg.TLS.RootCAs
		}
	}
	p.ticks.Store(1) // 0 means none
	p.peers.Store(&map[unkai.NodeID]*remote{})
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.wg.Go(p.watch)
	return p, nil
}

// Handle gives the questions of a kind to h. It is used before Start.
func (p *Port) Handle(k Kind, h Handler) { p.handlers[k] = h }

// Start lets others in.
func (p *Port) Start() { p.wg.Go(p.accept) }

// Call asks another node; see Network.
func (p *Port) Call(to unkai.NodeID, c *Call) {
	switch r := (*p.peers.Load())[to]; {
	case len(c.Body) > MaxBody:
		c.end(ErrTooLarge)
	case r != nil && r.call(c):
	default:
		p.down.Add(1)
		if r != nil {
			r.down.Add(1)
		}
		c.end(ErrDown)
	}
}

// Alive reports whether this node is connected to that one.
func (p *Port) Alive(id unkai.NodeID) bool { return p.Run(id) != 0 }

// Run is which run of a node is connected; see Network.
func (p *Port) Run(id unkai.NodeID) uint64 {
	if id == p.cfg.Self {
		return p.run
	}
	r := (*p.peers.Load())[id]
	if r == nil {
		return 0
	}
	o := r.small.Load()
	if o == nil || !o.up.Load() {
		return 0
	}
	return o.theirRun
}

// Know says where a node is; see Network.
func (p *Port) Know(id unkai.NodeID, addr string) {
	if id == 0 || id == p.cfg.Self {
		return
	}
	p.knowing.Lock()
	defer p.knowing.Unlock()
	old := *p.peers.Load()
	peers := maps.Clone(old)
	switch r := old[id]; {
	case r != nil && addr != "":
		r.moveTo(addr)
		return
	case r != nil:
		delete(peers, id)
		r.cancel()
	case addr != "":
		r = newRemote(p, id, addr)
		first := newOutbound(p)
		r.small.Store(first)
		if !p.add(first, func() { r.keep(first) }) {
			return
		}
		peers[id] = r
	}
	p.peers.Store(&peers)
}

// Introduce asks who is at an address; see Network. This node itself is not an
// error.
func (p *Port) Introduce(ctx context.Context, addr string) (unkai.NodeID, error) {
	c, err := p.dial(ctx, addr, meeting, 0)
	if errors.Is(err, errYourself) {
		return p.cfg.Self, nil
	}
	if err != nil {
		return 0, err
	}
	_ = c.Close()
	p.Know(c.theirs.self, addr)
	return c.theirs.self, nil
}

// Close ends all connections. Answers that were given are still sent, for up to
// a second; calls that are open end as lost.
func (p *Port) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	for i := range p.in {
		i.drain()
	}
	for o := range p.out {
		o.abort(errStopped)
	}
	p.mu.Unlock()
	err := p.cfg.Listener.Close()
	p.cancel()
	timer := time.AfterFunc(time.Second, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for i := range p.in {
			i.abort(errStopped)
		}
	})
	p.wg.Wait()
	timer.Stop()
	if err != nil {
		return fmt.Errorf("closing the peer port: %w", err)
	}
	return nil
}

// add counts o among the connections and runs f, unless the Port is closed.
func (p *Port) add(o *outbound, f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.out[o] = struct{}{}
	p.wg.Go(f)
	return true
}

// remove forgets o, and keeps what it counted.
func (p *Port) remove(o *outbound) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.out, o)
	o.addTo(&p.total)
}

// now is a clock for deadlines.
func (p *Port) now() int64 { return int64(time.Since(p.began)) }
