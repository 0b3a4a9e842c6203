package peer

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"unkai"
)

// Config is what a Port needs. Listener, Self and Log must be set.
type Config struct {
	Listener net.Listener
	Self     unkai.NodeID
	// Cluster is this node's cluster, 0 while it is no member. Nodes of two
	// clusters do not talk to each other. Nil: 0.
	Cluster func() uint64
	// Dial connects to an address; nil: TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// TLS, if not nil, protects every connection; it should ask both sides for
	// certificates.
	TLS *tls.Config
	Log *slog.Logger
}

// Bounds of a Port.
const (
	maxIncoming    = 1024
	handshakeTime  = 3 * time.Second
	dialTime       = time.Second
	maxOutstanding = 8192     // calls to one node, and requests of one connection
	maxQueued      = 32 << 20 // bytes that wait to be sent to one node, but for the last call's
	maxHeld        = 64 << 20 // bytes of the requests of one connection that are not answered
	writeTime      = 10 * time.Second
	smallBuffer    = 64 << 10
)

// Liveness. A silent connection is pinged; one on which something is awaited and
// nothing comes is dead.
const (
	pingAfter = 150 * time.Millisecond
	deadAfter = 500 * time.Millisecond
	lookEvery = 25 * time.Millisecond // for calls whose time is up
)

// Port is a node's end of the connections to all other nodes. It is a Network.
type Port struct {
	cfg      Config
	handlers [kinds]Handler
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup

	links sync.Map // unkai.NodeID → *link

	mu       sync.Mutex
	incoming map[*inbound]struct{}
	closed   bool
	stats    stats
}

type stats struct{ calls, served, timeouts, lost, busy, reconnects, sent, received atomic.Int64 }

// Stats counts what a Port did.
type Stats struct {
	Calls      int64 // questions sent
	Served     int64 // questions answered
	Timeouts   int64 // calls that got no answer in time
	Lost       int64 // calls whose connection broke
	Busy       int64 // calls that were not sent because too much waited
	Reconnects int64 // connections made
	Sent       int64 // bytes
	Received   int64 // bytes
	Incoming   int   // connections from other nodes now
}

// Open is a Port on a listener, which it closes. Serve it.
func Open(cfg Config) (*Port, error) {
	if cfg.Self == 0 {
		return nil, errors.New("peer: a node without an id")
	}
	if cfg.Cluster == nil {
		cfg.Cluster = func() uint64 { return 0 }
	}
	if cfg.Dial == nil {
		cfg.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr)
		}
	}
	p := &Port{cfg: cfg, incoming: map[*inbound]struct{}{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p, nil
}

// Handle implements Network.
func (p *Port) Handle(k Kind, h Handler) { p.handlers[k] = h }

// Stats are the counters at this moment.
func (p *Port) Stats() Stats {
	s := &p.stats
	p.mu.Lock()
	defer p.mu.Unlock()
	return Stats{
		s.calls.Load(), s.served.Load(), s.timeouts.Load(), s.lost.Load(), s.busy.Load(),
		s.reconnects.Load(), s.sent.Load(), s.received.Load(), len(p.incoming),
	}
}

// Serve accepts connections until Close.
func (p *Port) Serve() {
	for {
		nc, err := p.cfg.Listener.Accept()
		if err != nil {
			if p.ctx.Err() != nil {
				return
			}
			p.cfg.Log.Warn("a connection of another node could not be accepted", "err", err)
			select {
			case <-p.ctx.Done():
				return
			case <-time.After(handshakeTime / 100):
			}
			continue
		}
		in := &inbound{port: p, nc: nc, wake: make(chan struct{}, 1), free: make(chan struct{}, 1), done: make(chan struct{})}
		p.mu.Lock()
		full := p.closed || len(p.incoming) >= maxIncoming
		if !full {
			p.incoming[in] = struct{}{}
			p.running.Add(1)
		}
		p.mu.Unlock()
		if full {
			_ = nc.Close() // one too many, whoever it was
			continue
		}
		go in.serve()
	}
}

// farewell is how long Close waits for answers to be written.
const farewell = time.Second

// Close ends everything: what was asked of this node is answered, if that does
// not take long, and calls under way end with ErrClosed.
func (p *Port) Close() error {
	p.mu.Lock()
	p.closed = true
	for in := range p.incoming {
		_ = in.put(frameBye, 0, nil) // who does not read learns it by the connection's end
	}
	p.mu.Unlock()
	for until := time.Now().Add(farewell); !p.said() && time.Now().Before(until); {
		time.Sleep(farewell / 500)
	}
	p.mu.Lock()
	for in := range p.incoming {
		_ = in.nc.Close() // cut off on purpose
	}
	p.mu.Unlock()
	p.cancel()
	err := p.cfg.Listener.Close()
	p.links.Range(func(_, l any) bool {
		l.(*link).close()
		return true
	})
	p.running.Wait()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close the port for other nodes: %w", err)
	}
	return nil
}

func (p *Port) said() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for in := range p.incoming {
		if !in.said() {
			return false
		}
	}
	return true
}

// Know implements Network.
func (p *Port) Know(id unkai.NodeID, addr string) { p.link(id).know(addr) }

// Alive implements Network.
func (p *Port) Alive(id unkai.NodeID) bool {
	l, ok := p.links.Load(id)
	return ok && l.(*link).up.Load()
}

// Call implements Network.
func (p *Port) Call(to unkai.NodeID, c *Call) {
	p.stats.calls.Add(1)
	p.link(to).call(c)
}

func (p *Port) link(id unkai.NodeID) *link {
	if l, ok := p.links.Load(id); ok {
		return l.(*link)
	}
	l, _ := p.links.LoadOrStore(id, newLink(p, id))
	return l.(*link)
}

// Introduce implements Network.
func (p *Port) Introduce(ctx context.Context, addr string) (unkai.NodeID, error) {
	nc, _, who, err := p.dial(ctx, addr, 0)
	if err != nil {
		return 0, err
	}
	_ = nc.Close() // who is there is known; calls get a connection of their own
	p.Know(who.self, addr)
	return who.self, nil
}

// dial connects to an address and finds out who is there.
func (p *Port) dial(ctx context.Context, addr string, wanted unkai.NodeID) (net.Conn, *bufio.Reader, intro, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	nc, err := p.cfg.Dial(ctx, addr)
	if err != nil {
		return nil, nil, intro{}, fmt.Errorf("connect to %s: %w", addr, err)
	}
	if p.cfg.TLS != nil {
		host, _, _ := net.SplitHostPort(addr) // without a host the certificate is checked against nothing and fails
		cfg := p.cfg.TLS.Clone()
		if cfg.ServerName == "" {
			cfg.ServerName = host
		}
		nc = tls.Client(nc, cfg)
	}
	r := bufio.NewReaderSize(nc, smallBuffer)
	who, err := p.greet(nc, r, wanted)
	if err != nil {
		return nil, nil, intro{}, errors.Join(fmt.Errorf("node at %s: %w", addr, err), nc.Close())
	}
	return nc, r, who, nil
}

// greet is the dialling side's part of the handshake.
func (p *Port) greet(nc net.Conn, r *bufio.Reader, wanted unkai.NodeID) (intro, error) {
	if err := nc.SetDeadline(time.Now().Add(handshakeTime)); err != nil {
		return intro{}, err
	}
	me := intro{oldest: oldestVersion, newest: newestVersion, cluster: p.cfg.Cluster(), self: p.cfg.Self, wanted: wanted}
	if _, err := nc.Write(me.encode()); err != nil {
		return intro{}, err
	}
	who, err := readIntro(r)
	switch {
	case err != nil:
		return intro{}, err
	case who.refusal != "":
		return intro{}, Refusal(who.refusal)
	case wanted != 0 && who.self != wanted:
		return intro{}, fmt.Errorf("it is node %v, and not %v", who.self, wanted)
	}
	if err := who.check(p.cfg.Self, me.cluster); err != nil {
		return intro{}, err
	}
	return who, nc.SetDeadline(time.Time{})
}
