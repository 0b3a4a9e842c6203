package peer

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"unkai"
)

// How a node is dialled.
const (
	dialTimeout = time.Second
	firstPause  = 50 * time.Millisecond
	lastPause   = time.Second
	idleBulk    = int64(30 * time.Second / tick) // a bulk connection that nobody uses is closed
)

// remote is another node: the connection for small calls, which is kept as long
// as the node is known, and the one for large ones, which is made when needed.
type remote struct {
	port   *Port
	id     unkai.NodeID
	ctx    context.Context
	cancel context.CancelFunc
	moved  chan struct{}

	small atomic.Pointer[outbound]
	bulk  atomic.Pointer[outbound]

	down atomic.Int64 // calls refused because there was no connection

	mu    sync.Mutex // held for the fields below, and while bulk is set
	addr  string
	said  string // the last complaint, so that it is not repeated at every attempt
	count counting
}

func newRemote(p *Port, id unkai.NodeID, addr string) *remote {
	r := &remote{port: p, id: id, addr: addr, moved: make(chan struct{}, 1)}
	r.ctx, r.cancel = context.WithCancel(p.ctx)
	return r
}

// moveTo makes r dial addr from now on, at once if it is waiting to dial.
func (r *remote) moveTo(addr string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if addr == r.addr {
		return
	}
	r.addr = addr
	select {
	case r.moved <- struct{}{}:
	default:
	}
}

func (r *remote) where() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.addr
}

// call takes c on, unless there is no connection.
func (r *remote) call(c *Call) bool {
	o := r.small.Load()
	if o == nil || c.Kind != Copy && c.Kind != Repair && len(c.Body) <= LargeBody {
		return o != nil && o.call(c)
	}
	for {
		o := r.openBulk()
		if o == nil || o.call(c) {
			return o != nil
		}
		r.bulk.CompareAndSwap(o, nil) // it was given up
	}
}

// openBulk is the connection for large calls, nil when this node is stopping.
func (r *remote) openBulk() *outbound {
	if o := r.bulk.Load(); o != nil {
		return o
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if o := r.bulk.Load(); o != nil {
		return o
	}
	o := newOutbound(r.port)
	o.unused = idleBulk
	r.bulk.Store(o)
	if !r.port.add(o, func() { r.carry(o, &r.bulk, bulk) }) {
		r.bulk.Store(nil)
		return nil
	}
	return o
}

// keep keeps the small connection until the node is forgotten. Calls may
// already wait in o, for the first one.
func (r *remote) keep(o *outbound) {
	pause := firstPause
	for {
		if lived := r.carry(o, &r.small, small); lived > lastPause {
			pause = firstPause
		}
		t := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-r.ctx.Done():
		case <-r.moved:
			pause = firstPause
		case <-t.C:
			pause = min(2*pause, lastPause)
		}
		t.Stop()
		o = newOutbound(r.port)
		if r.ctx.Err() != nil || !r.port.add(o, func() {}) {
			return
		}
	}
}

// carry dials and carries the calls in o, which has its place at at, until the
// connection ends. It says how long that was.
func (r *remote) carry(o *outbound, at *atomic.Pointer[outbound], l lane) time.Duration {
	addr := r.where()
	r.begins(o)
	c, err := r.port.dial(r.ctx, addr, l, r.id)
	began := time.Now()
	if err == nil {
		r.connected(addr)
		o.mine, o.theirs = c.mine.cluster, c.theirs.cluster
		o.theirRun = c.theirs.run
		at.Store(o)
		stop := context.AfterFunc(r.ctx, func() { o.abort(errStopped) })
		err = o.run(c.Conn, o.read)
		stop()
	}
	at.CompareAndSwap(o, nil)
	o.fail()
	r.port.remove(o)
	r.ends(o)
	r.complain(addr, err)
	return time.Since(began)
}

func (r *remote) connected(addr string) {
	r.mu.Lock()
	r.said = ""
	r.count.connects++
	r.mu.Unlock()
	r.port.mu.Lock()
	r.port.total.Connects++
	r.port.mu.Unlock()
	r.port.cfg.Log.Info("connected to a node", "node", r.id, "addr", addr)
}

// reason is what an error says without port numbers, which are always others.
func reason(err error) string {
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		return op.Err.Error()
	}
	return err.Error()
}

// complain logs why there is no connection, once for each reason.
func (r *remote) complain(addr string, err error) {
	if r.ctx.Err() != nil || errors.Is(err, errUnused) {
		return
	}
	what := reason(err)
	r.mu.Lock()
	again := what == r.said
	r.said = what
	r.mu.Unlock()
	if !again {
		r.port.cfg.Log.Warn("no connection to a node", "node", r.id, "addr", addr, "err", err)
	}
}
