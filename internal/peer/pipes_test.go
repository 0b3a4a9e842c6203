package peer_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"unkai"
	"unkai/internal/peer"
)

// pipes is a network of pipes in one bubble of virtual time.
type pipes struct {
	mu     sync.Mutex
	places map[string]*place
}

// place is where a node listens. All its connections, those that it dialled
// too, stand still while it is frozen, as those of a stopped process do.
type place struct {
	net  *pipes
	addr string
	in   chan net.Conn
	gone chan struct{}
	once sync.Once

	mu     sync.Mutex
	thawed chan struct{} // closed: not frozen
	dials  atomic.Int64
}

func newPipes() *pipes { return &pipes{places: map[string]*place{}} }

func (n *pipes) place(addr string) *place {
	p := &place{net: n, addr: addr, in: make(chan net.Conn), gone: make(chan struct{}), thawed: make(chan struct{})}
	close(p.thawed)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.places[addr] = p
	return p
}

func (p *place) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.thawed = make(chan struct{})
}

func (p *place) thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.thawed)
}

func (p *place) gate() chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.thawed
}

func (p *place) Accept() (net.Conn, error) {
	select {
	case c := <-p.in:
		return &gated{Conn: c, at: p, closed: make(chan struct{})}, nil
	case <-p.gone:
		return nil, net.ErrClosed
	}
}

func (p *place) Close() error {
	p.once.Do(func() { close(p.gone) })
	return nil
}

func (p *place) Addr() net.Addr { return &net.UnixAddr{Name: p.addr} }

func (p *place) dial(ctx context.Context, addr string) (net.Conn, error) {
	p.dials.Add(1)
	p.net.mu.Lock()
	to := p.net.places[addr]
	p.net.mu.Unlock()
	if to == nil {
		return nil, errors.New("nobody is there")
	}
	mine, theirs := net.Pipe()
	select {
	case to.in <- theirs:
		return &gated{Conn: mine, at: p, closed: make(chan struct{})}, nil
	case <-to.gone:
		return nil, errors.New("nobody is there any more")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// gated is a connection of a place that can freeze.
type gated struct {
	net.Conn
	at     *place
	once   sync.Once
	closed chan struct{}
}

func (g *gated) pass() error {
	select {
	case <-g.at.gate():
		return nil
	case <-g.closed:
		return net.ErrClosed
	}
}

func (g *gated) Read(b []byte) (int, error) {
	n, err := g.Conn.Read(b)
	if perr := g.pass(); perr != nil {
		return 0, perr
	}
	return n, err
}

func (g *gated) Write(b []byte) (int, error) {
	if err := g.pass(); err != nil {
		return 0, err
	}
	return g.Conn.Write(b)
}

// Close is noticed by the other side only when the place is not frozen.
func (g *gated) Close() error {
	g.once.Do(func() {
		close(g.closed)
		thawed := g.at.gate()
		go func() {
			<-thawed
			_ = g.Conn.Close()
		}()
	})
	return nil
}

// openAt starts a Port at a place.
func openAt(t *testing.T, at *place, self unkai.NodeID, handlers map[peer.Kind]peer.Handler) *peer.Port {
	t.Helper()
	return start(t, peer.Config{Listener: at, Self: self, Cluster: cluster(7), Dial: at.dial},
		func(_ *peer.Config, p *peer.Port) {
			for k, h := range handlers {
				if p != nil {
					p.Handle(k, h)
				}
			}
		})
}
