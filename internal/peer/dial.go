package peer

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"unkai"
)

// greeted is a connection whose handshake is done.
type greeted struct {
	net.Conn
	mine, theirs hello
}

// dial connects to the node at addr, which is to be want unless that is 0.
func (p *Port) dial(ctx context.Context, addr string, l lane, want unkai.NodeID) (*greeted, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := p.cfg.Dial(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("dialling %s: %w", addr, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	g, err := p.meet(ctx, c, addr, l, want)
	if !stop() {
		err = ctx.Err() // not that the connection was closed because of it
	}
	if err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("meeting %s: %w", addr, err)
	}
	return g, nil
}

func (p *Port) meet(ctx context.Context, c net.Conn, addr string, l lane, want unkai.NodeID) (*greeted, error) {
	if p.cfg.TLS != nil {
		t := tls.Client(c, p.clientTLS(addr))
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		c = t
	}
	mine, theirs, err := p.greet(c, l, want)
	return &greeted{c, mine, theirs}, err
}

// clientTLS checks the certificate for the host that was dialled, unless the
// configuration names another.
func (p *Port) clientTLS(addr string) *tls.Config {
	if p.cfg.TLS.ServerName != "" || p.cfg.TLS.InsecureSkipVerify {
		return p.cfg.TLS
	}
	cfg := p.cfg.TLS.Clone()
	cfg.ServerName = addr
	if host, _, err := net.SplitHostPort(addr); err == nil {
		cfg.ServerName = host
	}
	return cfg
}

// handshakeTime is how long another node may take to say who it is.
const handshakeTime = 2 * time.Second
