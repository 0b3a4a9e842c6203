package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"unkai"
)

// claim is who uses a node id at this moment, and on how many connections.
type claim struct {
	run   uint64
	conns int
}

// errCrowded is said of connections beyond Config.MaxIncoming.
var errCrowded = errors.New("too many connections")

// accept lets others in until the listener is closed.
func (p *Port) accept() {
	for {
		c, err := p.cfg.Listener.Accept()
		switch {
		case err == nil:
			p.letIn(c)
		case p.ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return
		default:
			p.cfg.Log.Warn("cannot take a connection of another node", "err", err)
			select {
			case <-p.ctx.Done():
			case <-time.After(100 * time.Millisecond): // out of descriptors, most likely
			}
		}
	}
}

func (p *Port) letIn(c net.Conn) {
	p.mu.Lock()
	crowded := p.accepted >= p.cfg.MaxIncoming
	if crowded {
		p.total.Refused++
	} else {
		p.accepted++
	}
	p.mu.Unlock()
	if crowded {
		_ = c.Close()
		p.turnedAway(c, errCrowded)
		return
	}
	p.wg.Go(func() {
		p.host(c)
		p.mu.Lock()
		p.accepted--
		p.mu.Unlock()
	})
}

const (
	// sayAgain is after what time the log says again that a host was turned away for
	// the same reason: it tries twice a second.
	sayAgain = 10 * time.Minute
	maxSaid  = 64
)

// turnedAway tells the log, unless it has just heard that.
func (p *Port) turnedAway(c net.Conn, err error) {
	host, _, cut := net.SplitHostPort(c.RemoteAddr().String())
	if cut != nil {
		host = c.RemoteAddr().String()
	}
	what, now := host+": "+reason(err), time.Now()
	p.mu.Lock()
	at, said := p.said[what]
	said = said && now.Sub(at) < sayAgain
	if !said {
		if len(p.said) >= maxSaid {
			clear(p.said)
		}
		p.said[what] = now
	}
	p.mu.Unlock()
	level := slog.LevelWarn
	if said {
		level = slog.LevelDebug
	}
	p.cfg.Log.Log(p.ctx, level, "turned away a connection", "from", c.RemoteAddr(), "err", err)
}

// host does all there is to do on a connection of another node.
func (p *Port) host(raw net.Conn) {
	ctx, cancel := context.WithTimeout(p.ctx, handshakeTime)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	c, first, err := p.firstByte(ctx, raw)
	if err == nil && first != firstByte && p.cfg.Other != nil {
		if stop() {
			p.cfg.Other(first, &unread{Conn: c, b: []byte{first}})
		}
		return
	}
	var g *greeted
	if err == nil {
		g, err = p.welcome(&unread{Conn: c, b: []byte{first}})
	}
	if !stop() {
		if err == nil && g.stays() {
			p.unclaim(g.theirs.self)
		}
		err = errors.Join(err, ctx.Err())
	}
	if err != nil {
		_ = raw.Close()
		if p.ctx.Err() == nil {
			p.turnedAway(raw, err)
			p.mu.Lock()
			p.total.Refused++
			p.mu.Unlock()
		}
		return
	}
	if !g.stays() {
		_ = c.Close()
		return
	}
	g.Conn = c
	p.listen(g)
}

func (p *Port) firstByte(ctx context.Context, c net.Conn) (net.Conn, byte, error) {
	if p.server != nil {
		t := tls.Server(c, p.server)
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, 0, fmt.Errorf("setting up TLS: %w", err)
		}
		c = t
	}
	var b [1]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return nil, 0, fmt.Errorf("waiting for the first byte: %w", err)
	}
	return c, b[0], nil
}

// unread is a connection whose first bytes are read again.
type unread struct {
	net.Conn
	b []byte
}

func (u *unread) Read(b []byte) (int, error) {
	if len(u.b) == 0 {
		return u.Conn.Read(b)
	}
	n := copy(b, u.b)
	u.b = u.b[n:]
	return n, nil
}

// welcome is the listener's side of the handshake. When there is no error, the
// caller is counted as a user of its id if it is going to stay.
func (p *Port) welcome(c net.Conn) (*greeted, error) {
	theirs, err := readHello(c)
	if err != nil {
		return nil, err
	}
	mine := p.hello()
	mine.verdict = judgeHello(&mine, &theirs)
	stays := mine.verdict == welcome && theirs.lane != meeting
	if stays && !p.claim(&theirs) {
		mine.verdict, stays = sameID, false
	}
	_, err = c.Write(mine.append(nil))
	if mine.verdict != welcome {
		return nil, fmt.Errorf("the node %s: %w", theirs.self, explain(mine.verdict, &mine, &theirs))
	}
	if err != nil {
		if stays {
			p.unclaim(theirs.self)
		}
		return nil, fmt.Errorf("saying hello: %w", err)
	}
	return &greeted{c, mine, theirs}, nil
}

// stays reports whether questions are to follow the handshake.
func (g *greeted) stays() bool { return g.theirs.lane != meeting }

// claim notes that a process uses a node id, unless another one does.
func (p *Port) claim(h *hello) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	have := p.claims[h.self]
	if have == nil {
		have = &claim{run: h.run}
		p.claims[h.self] = have
	}
	if have.run != h.run {
		return false
	}
	have.conns++
	return true
}

func (p *Port) unclaim(id unkai.NodeID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	have := p.claims[id]
	if have.conns--; have.conns == 0 {
		delete(p.claims, id)
	}
}

// listen answers what is asked on a connection until it ends.
func (p *Port) listen(g *greeted) {
	defer p.unclaim(g.theirs.self)
	i := newInbound(p, g.theirs.self)
	i.mine, i.theirs = g.mine.cluster, g.theirs.cluster
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		_ = g.Close()
		return
	}
	p.in[i] = struct{}{}
	p.mu.Unlock()
	err := i.run(g.Conn, i.read)
	p.mu.Lock()
	delete(p.in, i)
	i.addTo(&p.total)
	p.mu.Unlock()
	if p.ctx.Err() == nil {
		level := p.cfg.Log.Warn
		if errors.Is(err, io.EOF) {
			level = p.cfg.Log.Debug // it hung up
		}
		level("a connection of another node ended", "node", g.theirs.self, "from", g.RemoteAddr(), "err", err)
	}
}
