package memcache

import (
	"bytes"
	"errors"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"unkai"
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
	// halfTimeout is how long the rest of a request may be on its way, and
	// writeTimeout how long a client may take to accept some of its replies.
	halfTimeout  = 60 * time.Second
	writeTimeout = 60 * time.Second
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
	skip    int // bytes of a refused value still to be thrown away
	need    int // how long buf[r:] has to be before parsing can go on
	out     []byte
	writeBy time.Time // the deadline for writing
	taken   int       // from the server's budget

	batch    unkai.Batch
	requests []request
	quit     bool
	list     keyList
	scratch  []byte // decoded keys
	count    tally

	mu        sync.Mutex
	published tally // what others may see of count
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{s: s, nc: nc}
	c.batch.Room = room
	return c
}

// interrupt wakes a connection that waits for its client, because the server
// is closing.
func (c *conn) interrupt() {
	c.leaving.Store(true)
	_ = c.nc.SetReadDeadline(time.Unix(1, 0)) // if it cannot be set, the connection is gone
}

func (c *conn) serve() {
	defer c.s.left(c)
	defer c.close()
	defer func() {
		if p := recover(); p != nil {
			c.s.total.panics.Add(1)
			c.s.cfg.Log.Error("a connection failed and is closed", "client", c.nc.RemoteAddr(), "panic", p, "stack", string(debug.Stack()))
		}
	}()
	for !c.quit {
		if !c.fill() {
			return
		}
		for !c.quit && c.step() {
		}
		if !c.flush() {
			return
		}
		c.publish()
		c.tidy()
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
	switch {
	case half:
		if c.nc.SetReadDeadline(time.Now().Add(halfTimeout)) != nil || c.leaving.Load() {
			return false
		}
	case c.s.cfg.IdleTimeout > 0:
		c.idleSince.Store(time.Now().UnixNano())
	}
	n, err := c.nc.Read(c.buf[c.w:])
	if !half && c.s.cfg.IdleTimeout > 0 && c.idleSince.Swap(0) == kicked {
		return false
	}
	c.w += n
	c.count[bytesRead] += int64(n)
	if err != nil {
		return false
	}
	if half {
		if c.nc.SetReadDeadline(time.Time{}) != nil {
			return false
		}
		if c.leaving.Load() {
			c.interrupt()
		}
	}
	return true
}

// step parses and answers a batch of requests. It reports whether there may be
// more to do without reading.
func (c *conn) step() bool {
	c.batch.Reset()
	c.requests, c.scratch = c.requests[:0], c.scratch[:0]
	c.need = 0
	complete := true
	var special func() // runs after everything before it was answered
	for len(c.batch.Ops) < maxOps && len(c.requests) < maxOps && !c.quit && special == nil {
		if c.skip > 0 {
			n := min(c.skip, c.w-c.r)
			c.r += n
			if c.skip -= n; c.skip > 0 {
				complete = false
				break
			}
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
	}
	if !c.answer() {
		c.quit = true
		return false
	}
	if special != nil {
		special()
	}
	if c.quit {
		return false
	}
	if !complete {
		c.makeRoom()
	}
	return complete
}

// answer has the batch's operations answered and writes all replies, up to the
// buffer that waits to be sent.
func (c *conn) answer() bool {
	next := 0 // request
	for first := 0; first < len(c.batch.Ops); {
		c.s.cfg.Handler.Do(&c.batch)
		done := len(c.batch.Results)
		for next < len(c.requests) {
			q := &c.requests[next]
			last := min(done, q.first+q.ops)
			for i := max(first, q.first); i < last; i++ {
				c.reply(q, i)
			}
			if done < q.first+q.ops {
				break
			}
			c.endReply(q)
			next++
		}
		first = done
		c.batch.Values = c.batch.Values[:0]
		if len(c.out) >= flushAt && !c.flush() {
			return false
		}
	}
	for ; next < len(c.requests); next++ {
		c.endReply(&c.requests[next])
	}
	return true
}

// flush writes the replies.
func (c *conn) flush() bool {
	for len(c.out) > 0 {
		// Set ahead and seldom: a deadline costs as much as a small request.
		if now := time.Now(); c.writeBy.Sub(now) < writeTimeout || len(c.out) > smallBuffer {
			c.writeBy = now.Add(2 * writeTimeout)
			if c.nc.SetWriteDeadline(c.writeBy) != nil {
				return false
			}
		}
		n, err := c.nc.Write(c.out)
		c.count[bytesWritten] += int64(n)
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				c.s.cfg.Log.Debug("a client did not take its replies", "client", c.nc.RemoteAddr(), "err", err)
			}
			return false
		}
		c.out = c.out[:0]
	}
	return true
}

// makeRoom moves what is unfinished to the front, and gets a larger buffer when
// the request needs it.
func (c *conn) makeRoom() {
	if c.r > 0 {
		copy(c.buf, c.buf[c.r:c.w])
		c.w -= c.r
		c.r = 0
	}
	if c.w < len(c.buf) {
		return
	}
	// Double as the bytes come: what a client says it will send is no reason to
	// set memory aside.
	size := 2 * len(c.buf)
	if c.need > 0 && c.need < size {
		size = max(c.need, len(c.buf)+smallBuffer)
	}
	if !c.s.budget.take(size) {
		c.refuseBody()
		return
	}
	larger := make([]byte, size)
	copy(larger, c.buf[:c.w])
	if c.small != nil {
		c.s.buffers.Put(c.small)
		c.small = nil
	} else {
		c.s.budget.give(len(c.buf))
		c.taken -= len(c.buf)
	}
	c.buf = larger
	c.taken += size
}

// refuseBody throws away a request for which there is no memory.
func (c *conn) refuseBody() {
	c.s.total.noMemory.Add(1)
	if c.need == 0 { // a line without end
		c.quit = true
		return
	}
	c.out = append(c.out, "SERVER_ERROR out of memory storing object\r\n"...)
	c.skip = c.need - (c.w - c.r)
	c.r, c.w = 0, 0
}

// tidy gives large buffers back when they are not in use.
func (c *conn) tidy() {
	if c.r < c.w {
		return
	}
	c.r, c.w = 0, 0
	if c.small == nil && c.buf != nil {
		c.s.budget.give(c.taken)
		c.taken = 0
		c.buf = nil
	}
	if cap(c.out) > 2*flushAt {
		c.out = nil
	}
	if cap(c.batch.Values) > 2*room {
		c.batch.Values = nil
		clear(c.batch.Results[:cap(c.batch.Results)])
	}
	if cap(c.requests) > 4*maxOps || cap(c.batch.Ops) > 64*maxOps {
		c.requests, c.batch.Ops, c.batch.Results = nil, nil, nil
	}
}

// parse reads one request, if all of it is there. What it returns, if anything,
// has to run when everything before it was answered.
func (c *conn) parse() (special func(), complete bool) {
	data := c.buf[c.r:c.w]
	if data[0] == binaryMagic {
		c.s.cfg.Log.Debug("a client speaks the binary protocol, which this version does not", "client", c.nc.RemoteAddr())
		c.quit = true
		return nil, false
	}
	end := bytes.IndexByte(data, '\n')
	long := end
	if end < 0 {
		long = len(data)
	}
	if long > maxLine && (long > maxKeysLine || !isKeysLine(data)) {
		c.quit = true // as memcached does with a line that has no end
		return nil, false
	}
	if end < 0 {
		return nil, false
	}
	line := data[:end]
	if end > 0 && line[end-1] == '\r' {
		line = line[:end-1]
	}
	return c.command(line, end+1)
}

// isKeysLine reports whether a line begins like a command that may name many
// keys.
func isKeysLine(line []byte) bool {
	line = bytes.TrimLeft(line, " ")
	for _, name := range [...]string{"get ", "gets ", "gat ", "gats "} {
		if len(line) >= len(name) && string(line[:len(name)]) == name {
			return true
		}
	}
	return false
}

// body gives the data block of n bytes that follows a line, if all of it is
// there. The bytes behind it must end the line.
func (c *conn) body(lineLen, n int) (value []byte, ended, complete bool) {
	data := c.buf[c.r:c.w]
	total := lineLen + n + 2
	if len(data) < total {
		c.need = total
		return nil, false, false
	}
	value = data[lineLen : lineLen+n : lineLen+n]
	return value, data[total-2] == '\r' && data[total-1] == '\n', true
}

// refuseValue answers a request whose data block will not be taken, and throws
// the block away.
func (c *conn) refuseValue(lineLen, n int, text string) {
	c.r += lineLen
	c.skip = n + 2
	if text != "" {
		c.say(text)
	}
}
