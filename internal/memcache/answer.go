package memcache

import (
	"errors"
	"net"
	"time"

	"unkai"
)

// answer has the batch's operations answered and writes all replies, up to the
// buffer that waits to be sent.
func (c *conn) answer() bool {
	next := 0 // request
	for first := 0; first < len(c.batch.Ops); {
		c.below = true
		c.s.cfg.Handler.Do(&c.batch)
		c.below = false
		if !c.hold() {
			c.shed(first)
		}
		done := len(c.batch.Results)
		for next < len(c.requests) {
			q := &c.requests[next]
			last := min(done, q.first+q.ops)
			for i := max(first, q.first); i < last; i++ {
				c.reply(q, i)
				if c.full() && !c.flush() {
					return false
				}
			}
			if done < q.first+q.ops {
				break
			}
			c.endReply(q)
			next++
		}
		first = done
		if len(c.insets) > 0 && !c.flush() {
			return false
		}
		c.batch.Values = c.batch.Values[:0]
	}
	for ; next < len(c.requests); next++ {
		c.endReply(&c.requests[next])
	}
	return !c.broken
}

// errNoRoom answers an operation whose value the server has no memory for. The
// operation itself may have changed its item.
type errNoRoom struct{}

func (errNoRoom) Error() string { return noReadMemory }

const noReadMemory = "out of memory writing get response"

// shed gives up the values of the results from first on, for which the budget
// has no room, but for what fits into a small buffer.
func (c *conn) shed(first int) {
	c.s.total.noMemory.Add(1)
	kept := make([]byte, 0, smallBuffer)
	for i := first; i < len(c.batch.Results); i++ {
		res := &c.batch.Results[i]
		v := res.Item.Value
		switch {
		case len(v) == 0:
		case len(v) <= cap(kept)-len(kept):
			kept = append(kept, v...)
			res.Item.Value = kept[len(kept)-len(v):]
		default:
			*res = unkai.Result{Status: unkai.InDoubt, Err: errNoRoom{}}
		}
	}
	c.batch.Values = kept
	c.hold()
}

// full reports whether replies have to be sent before more are added: at
// flushAt, or earlier when the budget has no room for more than a small buffer.
func (c *conn) full() bool {
	return len(c.out) >= smallBuffer && (len(c.out) >= flushAt || !c.hold())
}

// inset is a value that belongs into the replies at a place. It is not copied,
// and has to be sent before the batch's values are given up.
type inset struct {
	at    int // in out
	value []byte
}

// data adds the value of a reply.
func (c *conn) data(value []byte) {
	if len(value) < smallBuffer {
		c.out = append(c.out, value...)
	} else {
		c.insets = append(c.insets, inset{len(c.out), value})
	}
	c.out = append(c.out, '\r', '\n')
}

// flush sends the replies that wait. Once it has failed nothing is sent any
// more.
func (c *conn) flush() bool {
	if c.broken || len(c.out) == 0 {
		c.out, c.insets = c.out[:0], c.insets[:0]
		return !c.broken
	}
	n, err := c.send()
	c.count[bytesWritten] += n
	c.out, c.insets = c.out[:0], c.insets[:0]
	if err == nil {
		return true
	}
	c.broken = true
	if !errors.Is(err, net.ErrClosed) {
		c.s.cfg.Log.Debug("a client did not take its replies", "client", c.nc.RemoteAddr(), "err", err)
	}
	return false
}

func (c *conn) send() (int64, error) {
	size := len(c.out)
	for _, in := range c.insets {
		size += len(in.value)
	}
	// Set ahead and seldom: a deadline costs as much as a small request.
	if now := time.Now(); c.writeBy.Sub(now) < writeTimeout || size > smallBuffer {
		c.writeBy = now.Add(2*writeTimeout + allowance(size))
		if err := c.nc.SetWriteDeadline(c.writeBy); err != nil {
			return 0, err
		}
	}
	if len(c.insets) == 0 {
		n, err := c.nc.Write(c.out)
		return int64(n), err
	}
	c.pieces = c.pieces[:0]
	from := 0
	for _, in := range c.insets {
		c.pieces = append(c.pieces, c.out[from:in.at], in.value)
		from = in.at
	}
	c.pieces = append(c.pieces, c.out[from:])
	pieces := net.Buffers(c.pieces)
	return pieces.WriteTo(c.nc) // as a rule one system call
}
