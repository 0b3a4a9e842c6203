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

func (errNoRoom) Error() string        { return noReadMemory }
func (errNoRoom) MemcacheText() string { return noReadMemory }

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

// data adds the value of a reply. What is long is not copied, but sent at once.
func (c *conn) data(value []byte) {
	if len(value) < smallBuffer {
		c.out = append(c.out, value...)
	} else {
		c.write(value)
	}
	c.out = append(c.out, '\r', '\n')
}

// flush sends the replies that wait.
func (c *conn) flush() bool {
	if len(c.out) == 0 {
		return !c.broken
	}
	return c.write(nil)
}

// write sends the replies that wait and value behind them. Once it has failed
// nothing is sent any more.
func (c *conn) write(value []byte) bool {
	if c.broken {
		c.out = c.out[:0]
		return false
	}
	n, err := c.send(value)
	c.count[bytesWritten] += n
	c.out = c.out[:0]
	if err == nil {
		return true
	}
	c.broken = true
	if !errors.Is(err, net.ErrClosed) {
		c.s.cfg.Log.Debug("a client did not take its replies", "client", c.nc.RemoteAddr(), "err", err)
	}
	return false
}

func (c *conn) send(value []byte) (int64, error) {
	size := len(c.out) + len(value)
	// Set ahead and seldom: a deadline costs as much as a small request.
	if now := time.Now(); c.writeBy.Sub(now) < writeTimeout || size > smallBuffer {
		c.writeBy = now.Add(2*writeTimeout + allowance(size))
		if err := c.nc.SetWriteDeadline(c.writeBy); err != nil {
			return 0, err
		}
	}
	if value == nil {
		n, err := c.nc.Write(c.out)
		return int64(n), err
	}
	both := net.Buffers{c.out, value} // one system call for the two
	return both.WriteTo(c.nc)
}
