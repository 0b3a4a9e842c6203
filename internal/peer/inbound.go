package peer

import (
	"errors"

	"unkai"
)

// What one connection may have open before no more is read from it.
const (
	maxServed      = 1024
	maxServedBytes = MaxBody
)

// inbound is a connection that another node dialled: its questions, and this
// node's answers.
type inbound struct {
	wire
	port *Port
	from unkai.NodeID

	// Guarded by wire.mu.
	open      int // requests without an answer
	openBytes int
}

func newInbound(p *Port, from unkai.NodeID) *inbound {
	i := &inbound{port: p, from: from}
	i.init(&p.ticks)
	return i
}

// read takes the questions that come, and hands them to the rooms.
func (i *inbound) read() error {
	r := frameReader{src: i}
	for {
		f, err := r.next()
		if err != nil {
			return err
		}
		switch f.what {
		case question:
			if err := i.serve(f); err != nil {
				return err
			}
		case answer, refusal:
			return errWhat
		case beat:
		}
	}
}

func (i *inbound) serve(f frame) error {
	if err := i.admit(len(f.body)); errors.Is(err, errDrained) {
		return nil // the caller will see the connection end
	} else if err != nil {
		return err
	}
	q, _ := i.port.requests.Get().(*Request)
	if q == nil {
		q = new(Request)
	}
	q.own = append(q.own[:0], f.body...)
	q.From, q.Kind, q.Body = i.from, f.kind, q.own
	q.id, q.begun, q.to = f.id, len(f.body), i
	if h := i.port.handlers[f.kind]; h != nil {
		h.Serve(q)
	} else {
		q.Refuse("it has no room for such questions")
	}
	return nil
}

// admit counts a request, when there is room for it.
func (i *inbound) admit(bytes int) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	for !i.hasRoom(bytes) && !i.closed && !i.drained {
		i.blocked = true
		i.room.Wait()
	}
	if i.closed {
		return errStopped
	}
	if i.drained {
		return errDrained
	}
	i.open++
	i.openBytes += bytes
	i.count.Served++
	return nil
}

// hasRoom reports whether one more request may be open. One always may.
func (i *inbound) hasRoom(bytes int) bool {
	return !i.full(0) && (i.open == 0 || i.open < maxServed && i.openBytes+bytes <= maxServedBytes)
}

// Answered sends an answer; see Asker.
func (i *inbound) Answered(q *Request, reply []byte, refused bool) {
	f := frame{what: answer, kind: q.Kind, id: q.id, body: reply}
	if refused {
		f.what = refusal
	}
	if len(reply) > MaxBody {
		f.body = nil // no answer that makes sense; and no refusal, for it may have been acted on
	}
	body := pack(f.body)
	i.mu.Lock()
	if !i.closed {
		i.put(f, body)
	}
	i.open--
	i.openBytes -= q.begun
	i.wakeReader()
	i.mu.Unlock()

	q.Body = nil
	if cap(q.own) > LargeBody {
		q.own = nil
	}
	i.port.requests.Put(q)
}
