package peer

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"unkai"
)

// link is this node's way to ask another one. It connects when somebody wants
// it, and again when the connection breaks, as long as somebody does.
type link struct {
	port *Port
	id   unkai.NodeID
	up   atomic.Bool
	wake chan struct{} // something is to be written

	mu      sync.Mutex
	addr    string
	running bool // a goroutine sees to the connection
	fresh   bool // it was never tried at this address: calls wait for it
	closed  bool
	out     []byte
	next    uint64
	waiting map[uint64]*Call
	heard   time.Time
	wanted  time.Time
	cut     context.CancelFunc // ends the present connection or the wait for the next
}

const (
	firstPause = 50 * time.Millisecond
	lastPause  = time.Second
	// unwanted is after how long without a call a link is given up.
	unwanted = time.Minute
)

func newLink(p *Port, id unkai.NodeID) *link {
	return &link{port: p, id: id, wake: make(chan struct{}, 1), waiting: map[uint64]*Call{}}
}

// know sets where the node is believed to be. A connection that stands is kept:
// it is to that node wherever it was dialled.
func (l *link) know(addr string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.addr == addr {
		return
	}
	l.addr, l.fresh = addr, !l.up.Load()
	if l.cut != nil && !l.up.Load() {
		l.cut() // try the new one at once
	}
}

func (l *link) call(c *Call) {
	now := time.Now()
	c.Err, c.Reply, c.deadline = nil, c.Reply[:0], now.Add(c.Timeout)
	l.mu.Lock()
	l.wanted = now
	if !l.running && !l.closed && l.addr != "" {
		l.running = true
		l.port.running.Add(1)
		go l.run()
	}
	var err error
	switch {
	case l.closed:
		err = ErrDown
	case l.addr == "":
		err = fmt.Errorf("%w: its address is not known", ErrDown)
	case !l.up.Load() && !l.fresh:
		err = ErrDown
	case len(l.waiting) >= maxOutstanding || len(l.out) > maxQueued:
		err = ErrBusy
		l.port.stats.busy.Add(1)
	case len(c.Body)+frameHead+1 > maxFrame:
		err = Refusal("the question is too long")
	}
	if err != nil {
		l.mu.Unlock()
		c.end(err)
		return
	}
	l.next++
	c.id = l.next
	l.waiting[c.id] = c
	l.out = appendFrame(l.out, frameQuestion, c.id, c.Kind, c.Body)
	l.mu.Unlock()
	l.poke()
}

func (c *Call) end(err error) {
	c.Err = err
	c.Done.CallDone(c)
}

func (l *link) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *link) close() {
	l.mu.Lock()
	l.closed = true
	if l.cut != nil {
		l.cut()
	}
	l.mu.Unlock()
	l.fail(ErrClosed)
}

// fail ends all calls that wait.
func (l *link) fail(err error) {
	l.mu.Lock()
	failed := l.waiting
	l.waiting, l.out = map[uint64]*Call{}, nil
	l.mu.Unlock()
	for _, c := range failed {
		c.end(err)
	}
}

// run connects, again and again, until nobody wants the link.
func (l *link) run() {
	defer l.port.running.Done()
	pause := firstPause
	for {
		ctx, cancel := context.WithCancel(l.port.ctx)
		l.mu.Lock()
		if l.closed || time.Since(l.wanted) > unwanted {
			l.running = false
			l.mu.Unlock()
			cancel()
			return
		}
		l.cut = cancel
		addr := l.addr
		l.mu.Unlock()
		nc, r, _, err := l.port.dial(ctx, addr, l.id)
		if err == nil {
			began := time.Now()
			err = l.converse(ctx, nc, r)
			if time.Since(began) > lastPause {
				pause = firstPause
			}
			l.port.cfg.Log.Debug("the connection to another node ended", "node", l.id.String(), "addr", addr, "err", err)
		} else {
			l.port.cfg.Log.Debug("another node cannot be reached", "node", l.id.String(), "addr", addr, "err", err)
			l.mu.Lock()
			if l.addr == addr {
				l.fresh = false
			}
			l.mu.Unlock()
			l.fail(ErrDown)
		}
		rest := time.NewTimer(pause + rand.N(pause/2))
		select {
		case <-rest.C:
		case <-ctx.Done():
			rest.Stop()
		}
		pause = min(2*pause, lastPause)
		cancel()
	}
}

// converse asks and hears answers on a connection until it breaks.
func (l *link) converse(ctx context.Context, nc net.Conn, r *bufio.Reader) error {
	l.port.stats.reconnects.Add(1)
	l.mu.Lock()
	l.fresh, l.heard = false, time.Now()
	l.up.Store(true)
	l.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	var both sync.WaitGroup
	both.Go(func() { cancel(l.hear(nc, r)) })
	both.Go(func() { cancel(l.speak(ctx, nc)) })
	l.poke() // what waited for the connection
	l.watch(ctx, cancel)
	l.mu.Lock()
	l.up.Store(false)
	l.mu.Unlock()
	_ = nc.Close() // it is broken, or not wanted
	both.Wait()
	err := ErrLost
	if l.port.ctx.Err() != nil {
		err = ErrClosed
	}
	l.port.stats.lost.Add(int64(l.count()))
	l.fail(err)
	return context.Cause(ctx)
}

func (l *link) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting)
}

// speak writes what waits, all of it at once.
func (l *link) speak(ctx context.Context, nc net.Conn) error {
	var buf []byte
	for {
		select {
		case <-l.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
		l.mu.Lock()
		buf, l.out = l.out, buf[:0]
		l.mu.Unlock()
		if len(buf) == 0 {
			continue
		}
		if err := nc.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
			return err
		}
		if _, err := nc.Write(buf); err != nil {
			return err
		}
		l.port.stats.sent.Add(int64(len(buf)))
		if cap(buf) > 4*smallBuffer {
			buf = nil
		}
	}
}

// hear takes answers to those who wait for them.
func (l *link) hear(nc net.Conn, r *bufio.Reader) error {
	for {
		f, err := readFrame(r)
		if err != nil {
			return err
		}
		l.port.stats.received.Add(int64(f.body + frameHead))
		l.mu.Lock()
		l.heard = time.Now()
		c := l.waiting[f.id]
		answer := f.what == frameAnswer || f.what == frameRefusal
		if f.what == frameBye {
			l.up.Store(false) // what was asked is answered still
		}
		if answer {
			delete(l.waiting, f.id)
		}
		l.mu.Unlock()
		if !answer || c == nil {
			if _, err := r.Discard(f.body); err != nil {
				return err
			}
			continue
		}
		c.Reply, err = readBody(r, c.Reply[:0], f.body)
		switch {
		case err != nil:
			c.end(ErrLost)
			return err
		case f.what == frameRefusal:
			c.end(Refusal(c.Reply))
		default:
			c.end(nil)
		}
	}
}

// watch ends calls whose time is up, and the connection when it is dead.
func (l *link) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	pinged := time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		var late []*Call
		l.mu.Lock()
		for id, c := range l.waiting {
			if now.After(c.deadline) {
				delete(l.waiting, id)
				late = append(late, c)
			}
		}
		silent := now.Sub(l.heard)
		ping := silent > pingAfter && now.Sub(pinged) > pingAfter
		if ping {
			l.out = appendFrame(l.out, framePing, 0, 0)
			pinged = now
		}
		idle := len(l.waiting) == 0 && now.Sub(l.wanted) > unwanted
		l.mu.Unlock()
		l.port.stats.timeouts.Add(int64(len(late)))
		for _, c := range late {
			c.end(ErrTimeout)
		}
		switch {
		case silent > deadAfter:
			cancel(fmt.Errorf("nothing was heard for %v", silent.Round(time.Millisecond)))
			return
		case idle:
			cancel(fmt.Errorf("nobody has wanted it for %v", unwanted))
			return
		case ping:
			l.poke()
		}
	}
}
