package peer

import (
	"errors"
	"io"
	"math"
)

// maxCalls is how many calls may be open to one node on one connection.
const maxCalls = 16 << 10

// outbound is a connection that this node dialled: its calls, and the answers.
// Calls may be put into it before it is connected.
type outbound struct {
	wire
	port     *Port
	unused   int64  // ticks without a call after which it is given up; 0: never
	theirRun uint64 // set before it is up

	// Guarded by wire.mu. A call's id is its slot and the slot's generation,
	// so that an answer which comes too late finds nobody. Whoever takes a call
	// out of its slot is the one who tells it.
	slots   []slot
	free    []uint32
	soonest int64 // no deadline is before it
	used    int64 // the tick of the last call
	retired bool  // closed because nobody used it
}

type slot struct {
	call *Call
	gen  uint32
}

func newOutbound(p *Port) *outbound {
	o := &outbound{port: p, soonest: math.MaxInt64, used: p.ticks.Load()}
	o.init(&p.ticks)
	return o
}

// call sends c. It reports false when the connection was given up for want of
// use: then nothing was done.
func (o *outbound) call(c *Call) bool {
	body := pack(c.Body)
	deadline := o.port.now() + int64(c.Timeout)
	o.mu.Lock()
	if o.retired {
		o.mu.Unlock()
		return false
	}
	var err error
	switch {
	case o.closed:
		err = ErrDown
	case len(o.slots)-len(o.free) >= maxCalls || o.full(len(c.Body)):
		err = ErrBusy
		o.count.Busy++
	}
	if err != nil {
		o.mu.Unlock()
		c.end(err)
		return true
	}
	o.count.Calls++
	o.used = o.ticks.Load()
	o.soonest = min(o.soonest, deadline)
	c.deadline, c.batch = deadline, o.batch
	o.put(frame{what: question, kind: c.Kind, id: o.place(c), body: c.Body}, body)
	o.mu.Unlock()
	return true
}

// end tells the owner of c.
func (c *Call) end(err error) {
	c.Err = err
	c.Done.CallDone(c)
}

func (o *outbound) place(c *Call) (id uint64) {
	var at uint32
	if n := len(o.free); n > 0 {
		at, o.free = o.free[n-1], o.free[:n-1]
	} else {
		at = uint32(len(o.slots))
		o.slots = append(o.slots, slot{})
	}
	s := &o.slots[at]
	s.call = c
	return uint64(s.gen)<<32 | uint64(at)
}

// take empties a slot and gives the call that was in it.
func (o *outbound) take(at uint32) *Call {
	s := &o.slots[at]
	c := s.call
	s.call = nil
	s.gen++
	o.free = append(o.free, at)
	return c
}

// answered is told what came back.
func (o *outbound) answered(f frame) {
	at, gen := uint32(f.id), uint32(f.id>>32)
	o.mu.Lock()
	if int(at) >= len(o.slots) || o.slots[at].gen != gen || o.slots[at].call == nil {
		o.mu.Unlock()
		return // its time was up
	}
	c := o.take(at)
	o.count.Answers++
	o.mu.Unlock()
	var err error
	if f.what == refusal {
		c.Reply, err = c.Reply[:0], &RemoteError{Text: string(f.body)}
	} else {
		c.Reply = append(c.Reply[:0], f.body...)
	}
	c.end(err)
}

// expire ends the calls whose time is up.
func (o *outbound) expire(now int64) {
	var list *Call
	o.mu.Lock()
	if now >= o.soonest {
		o.soonest = math.MaxInt64
		for at := range o.slots {
			switch c := o.slots[at].call; {
			case c == nil:
			case c.deadline <= now:
				o.take(uint32(at)).next = list
				list = c
				o.count.Timeouts++
			default:
				o.soonest = min(o.soonest, c.deadline)
			}
		}
	}
	o.mu.Unlock()
	tell(list, ErrTimeout)
}

func tell(list *Call, err error) {
	for c := list; c != nil; {
		next := c.next
		c.next = nil
		c.end(err)
		c = next
	}
}

// retire gives the connection up if nobody has used it for long.
func (o *outbound) retire(now int64) {
	o.mu.Lock()
	o.retired = o.retired || o.unused > 0 && len(o.slots) == len(o.free) && now-o.used > o.unused
	retired := o.retired
	o.mu.Unlock()
	if retired {
		o.abort(errUnused)
	}
}

// fail ends the connection and all calls on it. What was not yet given to the
// writer has certainly not been sent.
func (o *outbound) fail() {
	var unsent, lost *Call
	o.abort(errStopped)
	o.mu.Lock()
	for at := range o.slots {
		c := o.slots[at].call
		if c == nil {
			continue
		}
		o.take(uint32(at))
		list := &lost
		if c.batch == o.batch {
			list = &unsent
		} else {
			o.count.Lost++
		}
		c.next = *list
		*list = c
	}
	o.gather, o.large = nil, nil
	o.mu.Unlock()
	tell(unsent, ErrDown)
	tell(lost, ErrLost)
}

// read takes the answers that come.
func (o *outbound) read() error {
	r := frameReader{src: o}
	for {
		f, err := r.next()
		if errors.Is(err, io.EOF) {
			return errHungUp
		} else if err != nil {
			return err
		}
		switch f.what {
		case answer, refusal:
			o.answered(f)
		case question:
			return errWhat // they are asked on the connection that the other dials
		case beat:
		}
	}
}
