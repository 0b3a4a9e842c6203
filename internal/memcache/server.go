// Package memcache is the front door: it speaks memcached's classic text and
// meta protocols. A connection parses all complete requests it has read into
// one unkai.Batch, has them answered together, and writes all replies at once.
package memcache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"unkai"
)

// Handler answers operations.
type Handler interface {
	// Do appends to b.Results the answers to b.Ops[len(b.Results):], in order.
	// It may stop early when b.Values exceeds b.Room, but answers at least one.
	Do(b *unkai.Batch)
}

// Config is what a Server needs. Handler, FlushAll, Stats and Now must be set.
type Config struct {
	Handler Handler
	// FlushAll makes everything absent at a moment (milliseconds since 1970);
	// one that has passed means now. It returns when that is done or written down.
	// An error other than NotApplied leaves that in doubt.
	FlushAll func(at int64) error
	// Stats is the node's part of a section of the command stats; false: there
	// is no such section.
	Stats func(section string) ([]Stat, bool)
	Now   func() int64
	Log   *slog.Logger
	// Version is the answer to the command of that name.
	Version string
	// MaxConns bounds the connections, MaxValue the length of values in bytes.
	MaxConns, MaxValue int
	// IdleTimeout closes connections that say nothing; 0: never.
	IdleTimeout time.Duration
	// Buffers bounds the bytes that all connections together may hold for
	// requests and replies that exceed their small buffers.
	Buffers int64
}

// Stat is a line of the command stats.
type Stat struct{ Name, Value string }

// NotApplied is the error of what has certainly not happened.
type NotApplied struct{ Err error }

func (e NotApplied) Error() string { return e.Err.Error() }

// Unwrap gives the error that it was made of.
func (e NotApplied) Unwrap() error { return e.Err }

// Server serves memcached clients. Use New.
type Server struct {
	cfg     Config
	started int64
	budget  budget
	buffers sync.Pool // of *[]byte
	desks   sync.Pool // of *desk
	open    atomic.Int64
	total   counters
	base    tally // at the last stats reset; under mu

	mu      sync.Mutex
	conns   map[*conn]struct{}
	closing bool
	served  sync.WaitGroup
	ln      net.Listener
}

// DefaultBuffers is Config.Buffers where that is 0, in bytes.
const DefaultBuffers = 512 << 20

// New is a server that does not listen yet.
func New(cfg Config) *Server {
	if cfg.Buffers == 0 {
		cfg.Buffers = DefaultBuffers
	}
	s := &Server{cfg: cfg, started: cfg.Now(), conns: map[*conn]struct{}{}}
	s.budget.left.Store(cfg.Buffers)
	s.buffers.New = func() any { b := make([]byte, smallBuffer); return &b }
	s.desks.New = func() any { return &desk{batch: unkai.Batch{Room: room}} }
	return s
}

// Serve accepts connections until Shutdown, and then returns nil.
func (s *Server) Serve(ln net.Listener) error {
	s.mu.Lock()
	s.ln = ln
	closing := s.closing
	if !closing {
		s.served.Add(1) // who is accepted last is waited for, too
		defer s.served.Done()
	}
	s.mu.Unlock()
	if closing {
		return ln.Close()
	}
	if s.cfg.IdleTimeout > 0 {
		stop := make(chan struct{})
		defer close(stop)
		go s.closeIdle(stop)
	}
	pause := acceptPause
	for {
		nc, err := ln.Accept()
		if err == nil {
			pause = acceptPause
			s.admit(nc)
			continue
		}
		s.mu.Lock()
		closing := s.closing
		s.mu.Unlock()
		if closing {
			return nil
		}
		var ne net.Error
		if !errors.As(err, &ne) {
			return fmt.Errorf("accept a connection: %w", err)
		}
		// Out of file descriptors, most likely: it passes when somebody leaves.
		s.cfg.Log.Warn("a connection could not be accepted", "err", err)
		time.Sleep(pause)
		pause = min(2*pause, time.Second)
	}
}

const acceptPause = 5 * time.Millisecond

// admit starts a goroutine for a connection, unless there are too many. One that came
// just before the server closed is served as those are that it had.
func (s *Server) admit(nc net.Conn) {
	s.mu.Lock()
	if len(s.conns) >= s.cfg.MaxConns {
		s.mu.Unlock()
		s.total.rejected.Add(1)
		refuse(nc)
		return
	}
	c := newConn(s, nc)
	s.conns[c] = struct{}{}
	s.total.opened.Add(1)
	s.open.Add(1)
	s.served.Add(1)
	if s.closing {
		c.interrupt()
	}
	s.mu.Unlock()
	go c.serve()
}

func refuse(nc net.Conn) {
	deadline := time.Now().Add(100 * time.Millisecond)
	if nc.SetWriteDeadline(deadline) == nil {
		_, _ = nc.Write([]byte("ERROR Too many open connections\r\n")) // it is leaving either way
	}
	_ = nc.Close()
}

// left takes a connection out of the books and keeps what it counted.
func (s *Server) left(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.total.tally.add(&c.count)
	s.mu.Unlock()
	s.open.Add(-1)
	s.served.Done()
}

// closeIdle closes connections that have said nothing for too long.
func (s *Server) closeIdle(stop chan struct{}) {
	every := min(max(s.cfg.IdleTimeout/4, 10*time.Millisecond), 10*time.Second)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		oldest := time.Now().Add(-s.cfg.IdleTimeout).UnixNano()
		s.mu.Lock()
		for c := range s.conns {
			if at := c.idleSince.Load(); at != 0 && at < oldest && c.idleSince.CompareAndSwap(at, kicked) {
				s.total.idleKicks.Add(1)
				_ = c.nc.Close() // its goroutine learns of it by its read
			}
		}
		s.mu.Unlock()
	}
}

// Shutdown stops accepting, and closes every connection at a moment when its client
// waits for nothing, as far as can be known: see lingering. When ctx ends, what is left
// is cut off; what does not even end then, soon after, is left behind.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	ln := s.ln
	s.mu.Unlock()
	var err error
	if ln != nil { // first: who is told to go must not come back
		if err = ln.Close(); errors.Is(err, net.ErrClosed) {
			err = nil
		}
	}
	s.mu.Lock()
	for c := range s.conns {
		c.interrupt()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { s.served.Wait(); close(done) }()
	select {
	case <-done:
		return err
	case <-ctx.Done():
	}
	s.mu.Lock()
	n := len(s.conns)
	for c := range s.conns {
		_ = c.nc.Close() // cut off on purpose
	}
	s.mu.Unlock()
	err = errors.Join(err, fmt.Errorf("%d connections were cut off: %w", n, ctx.Err()))
	grace := time.NewTimer(cutGrace)
	defer grace.Stop()
	select {
	case <-done:
		return err
	case <-grace.C:
	}
	s.mu.Lock()
	n = len(s.conns)
	s.mu.Unlock()
	return errors.Join(err, fmt.Errorf("%d connections did not end: their operations hang", n))
}

// cutGrace is how long connections that were cut off may take to notice.
const cutGrace = time.Second
