package memcache

import (
	"sync/atomic"

	"unkai"
)

// budget is how many bytes are left for large buffers.
type budget struct{ left atomic.Int64 }

func (b *budget) take(n int) bool {
	if b.left.Add(int64(-n)) >= 0 {
		return true
	}
	b.left.Add(int64(n))
	return false
}

func (b *budget) give(n int) { b.left.Add(int64(n)) }

// hold charges the budget with what the connection holds beyond its small
// buffers, or gives back what it no longer holds. It reports false, and has
// charged nothing more, when there is no room.
func (c *conn) hold() bool {
	held := 0
	if c.desk != nil {
		held = beyond(cap(c.out)) + beyond(cap(c.batch.Values))
	}
	if c.small == nil {
		held += len(c.buf)
	}
	switch more := held - c.taken; {
	case more > 0:
		if !c.s.budget.take(more) {
			return false
		}
	case more < 0:
		c.s.budget.give(-more)
	}
	c.taken = held
	return true
}

// beyond is how much of a buffer counts as large.
func beyond(n int) int { return max(n-smallBuffer, 0) }

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
	c.taken += size
	larger := make([]byte, size)
	copy(larger, c.buf[:c.w])
	if c.small != nil {
		c.s.buffers.Put(c.small)
		c.small = nil
	}
	c.buf = larger
	c.hold() // without the older one
}

// noMemory is memcached's answer to a value for which it has no memory.
const noMemory = "SERVER_ERROR out of memory storing object"

// refuseBody throws away a request for which there is no memory.
func (c *conn) refuseBody() {
	c.s.total.noMemory.Add(1)
	if c.need == 0 { // a line without end
		c.quit = true
		return
	}
	if c.refusal != "" {
		c.line(c.refusal)
	}
	c.skip = c.need - (c.w - c.r)
	c.r, c.w = 0, 0
}

// desk is what a connection needs while it answers requests. Connections share
// desks, so that one which waits holds little, and the next finds a warm one.
type desk struct {
	batch    unkai.Batch
	requests []request
	scratch  []byte // decoded keys
	out      []byte // replies that wait to be sent
	insets   []inset
	pieces   [][]byte // out with the insets, while it is sent
}

// tidy gives up what the connection does not need to wait for its client: its
// desk, and a large buffer that is empty.
func (c *conn) tidy() {
	d := c.desk
	large := c.small == nil && c.buf != nil
	if c.r == c.w {
		c.r, c.w = 0, 0
		if large {
			c.buf = nil
		}
	}
	if cap(d.out) > 2*flushAt {
		d.out = nil
	}
	if cap(d.batch.Values) > 2*room {
		d.batch.Values, large = nil, true
	}
	if large { // the desk must not keep it alive
		clear(d.batch.Ops[:cap(d.batch.Ops)])
		clear(d.batch.Results[:cap(d.batch.Results)])
		clear(d.requests[:cap(d.requests)])
		clear(d.insets[:cap(d.insets)])
		clear(d.pieces[:cap(d.pieces)])
	}
	c.s.desks.Put(d)
	c.desk = nil
	c.hold()
}
