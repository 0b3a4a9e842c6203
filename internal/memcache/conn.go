package memcache

import (
	"net"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

const (
	smallBuffer = 16 << 10
	// maxOps bounds a batch, and so how long a connection goes without writing
	// what it has.
	maxOps = 128
	// room is how many bytes of values a batch answers at once.
	room = 256 << 10
	// flushAt is how many bytes of replies wait before they are written early.
	flushAt = 64 << 10
	// maxLine is the longest request line; maxKeysLine that of a get, which may
	// name many keys.
	maxLine     = 2048
	maxKeysLine = 256 << 10
	// halfTimeout is how long a request that has begun may be on its way, and
	// writeTimeout how long a client may take to accept some of its replies:
	// each with an allowance for what is large, at slowest bytes a second.
	halfTimeout  = 60 * time.Second
	writeTimeout = 60 * time.Second
	slowest      = 64 << 10
)

// binaryMagic begins each request of memcached's binary protocol, and no line.
const binaryMagic = 0x80

// kicked marks a connection that was closed for being idle.
const kicked = 1

// conn is one client's connection, and used by its goroutine only, but for
// what is atomic.
type conn struct {
	s         *Server
	nc        net.Conn
	idleSince atomic.Int64 // in nanoseconds since 1970; 0: it is busy
	leaving   atomic.Bool

	small   *[]byte // from the pool; nil while a large buffer is in its place
	buf     []byte  // read so far: buf[r:w]
	r, w    int
	skip    int    // bytes of a refused value still to be thrown away
	need    int    // how long buf[r:] has to be before parsing can go on
	refusal string // what to say when there is no memory for that
	taken   int    // from the server's budget

	begun           time.Time // when the request that is half here was seen first
	size            int       // how long it is, as far as that is known
	readBy, writeBy time.Time // the deadlines
	leaveBy         time.Time // when it ends, quiet or not, once it is leaving
	broken          bool      // writing has failed
	quit            bool      // it ends after this
	below           bool      // it runs what is not the connection's own
	cut             bool      // of the get whose reply is being made, a key has failed: that was its last line

	*desk // nil while it waits for its client
	turn  uint32
	list  keyList
	count tally

	mu        sync.Mutex
	published tally // what others may see of count
}

func newConn(s *Server, nc net.Conn) *conn {
	return &conn{s: s, nc: nc, desk: s.desks.Get().(*desk)}
}

func (c *conn) serve() {
	defer c.s.left(c)
	defer c.close()
	defer c.mend()
	for !c.quit {
		c.tidy()
		if !c.fill() {
			return
		}
		c.desk = c.s.desks.Get().(*desk)
		alone := true // what has come, as far as one batch was enough for it
		for !c.quit && c.step() {
			alone = false
		}
		if !c.flush() {
			return
		}
		c.publish()
		if c.leaving.Load() && alone && c.satisfied() {
			return
		}
		c.yield()
	}
}

// yield lets others be served before the connection reads on. Meanwhile a client
// that sends one request at a time may have sent its next, and the system call
// that would only say "nothing yet" is saved. But two times in three only: while
// somebody yields, the runtime does not ask who else has been sent something.
func (c *conn) yield() {
	if len(c.requests) > 1 || c.s.open.Load() < 2 {
		return
	}
	if c.turn++; c.turn%3 != 0 {
		runtime.Gosched()
	}
}

// mend keeps a panic of the connection's own code from others. One that comes
// from below leaves behind what others would wait for, and ends the process.
func (c *conn) mend() {
	if c.below {
		return
	}
	if p := recover(); p != nil {
		c.s.total.panics.Add(1)
		c.s.cfg.Log.Error("a connection failed and is closed", "client", c.nc.RemoteAddr(), "panic", p, "stack", string(debug.Stack()))
	}
}

func (c *conn) close() {
	_ = c.nc.Close() // nothing is left to be said
	c.s.budget.give(c.taken)
	if c.small != nil {
		c.s.buffers.Put(c.small)
	}
}

// fill reads what the client has sent, and waits until it has sent something.
// It reports false when the connection has ended.
func (c *conn) fill() bool {
	if c.buf == nil {
		c.small = c.s.buffers.Get().(*[]byte)
		c.buf = *c.small
	}
	half := c.w > c.r || c.skip > 0
	if !c.hurry(half) {
		return false
	}
	if !half && c.s.cfg.IdleTimeout > 0 {
		c.idleSince.Store(time.Now().UnixNano())
	}
	n, err := c.nc.Read(c.buf[c.w:])
	if err != nil && n == 0 && c.leaving.Load() && c.again(half) {
		n, err = c.nc.Read(c.buf[c.w:])
	}
	if !half && c.s.cfg.IdleTimeout > 0 && c.idleSince.Swap(0) == kicked {
		return false
	}
	c.w += n
	c.count[bytesRead] += int64(n)
	return err == nil
}

// hurry sets the deadline for reading: one for the whole of a request that has
// begun, however often some of it comes, and else none.
func (c *conn) hurry(half bool) bool {
	if c.leaving.Load() {
		return c.linger(half)
	}
	var by time.Time
	if half {
		if c.begun.IsZero() {
			c.begun = time.Now()
		}
		by = c.begun.Add(halfTimeout + allowance(c.size))
	}
	if by.Equal(c.readBy) {
		return true
	}
	c.readBy = by
	if c.nc.SetReadDeadline(by) != nil {
		return false
	}
	// The server's interrupt sets a deadline too, after it has set leaving.
	return !c.leaving.Load() || c.linger(half)
}

// allowance is how much longer something of that size may take.
func allowance(size int) time.Duration {
	return time.Duration(size) * (time.Second / slowest)
}

// step parses and answers a batch of requests. It reports whether there may be
// more to do without reading.
func (c *conn) step() bool {
	c.batch.Reset()
	c.requests, c.scratch = c.requests[:0], c.scratch[:0]
	c.need = 0
	complete, ended := true, false // ended: a request that had begun is all here
	var special func()             // runs after everything before it was answered
	for len(c.batch.Ops) < maxOps && len(c.requests) < maxOps && !c.quit && special == nil {
		if c.skip > 0 {
			n := min(c.skip, c.w-c.r)
			c.r += n
			if c.skip -= n; c.skip > 0 {
				complete = false
				break
			}
			ended = true
			continue
		}
		if c.r == c.w {
			complete = false
			break
		}
		var ok bool
		if special, ok = c.parse(); !ok {
			complete = false
			break
		}
		ended = ended || c.skip == 0
	}
	if ended {
		c.begun, c.size = time.Time{}, 0
	}
	c.size = max(c.size, c.need, c.skip)
	if !c.answer() {
		c.quit = true
		return false
	}
	if special != nil {
		c.below = true
		special()
		c.below = false
	}
	if c.quit {
		return false
	}
	if !complete {
		c.makeRoom()
	}
	return complete
}
