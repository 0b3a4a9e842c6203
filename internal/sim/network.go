package sim

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"unkai"
	"unkai/internal/peer"
)

// Weather is how the network behaves while it is not cut.
type Weather struct {
	// Loss and Twice are how many of a thousand messages get lost, or arrive
	// again later, though their connection stands.
	Loss, Twice int
	// Slow is how many of a thousand messages take up to a second.
	Slow int
}

// endpoint is one life of a node on the network. Its methods are those of
// peer.Network; everything else belongs to the bus.
type endpoint struct {
	w        *World
	host     *host
	id       unkai.NodeID
	addr     string
	run      uint64 // which life of its host
	handlers [8]peer.Handler

	mu      sync.Mutex
	known   map[unkai.NodeID]string
	up      map[unkai.NodeID]uint64 // the runs it is connected to, as it judges that; 0: to none
	dead    bool
	pending []*call // in the order in which they were sent
}

// call is one question on its way.
type call struct {
	from *endpoint
	to   unkai.NodeID
	c    *peer.Call
	seq  uint64 // in the order in which questions departed
	done bool
}

var _ peer.Network = (*endpoint)(nil)

// Handle implements peer.Network.
func (e *endpoint) Handle(k peer.Kind, h peer.Handler) { e.handlers[k] = h }

// Alive implements peer.Network.
func (e *endpoint) Alive(id unkai.NodeID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.up[id] != 0
}

// Run implements peer.Network.
func (e *endpoint) Run(id unkai.NodeID) uint64 {
	if id == e.id {
		return e.run
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.up[id]
}

// Know implements peer.Network.
func (e *endpoint) Know(id unkai.NodeID, addr string) {
	e.mu.Lock()
	if addr == "" {
		delete(e.known, id)
	} else {
		e.known[id] = addr
	}
	e.mu.Unlock()
	e.w.bus.send(&event{name: "know", from: e.id, to: id, plan: func(*event) { e.w.judge() }})
}

// Introduce implements peer.Network.
func (e *endpoint) Introduce(ctx context.Context, addr string) (unkai.NodeID, error) {
	type answer struct {
		id  unkai.NodeID
		err error
	}
	told := make(chan answer, 1)
	e.w.bus.send(&event{name: "introduce", from: e.id, body: []byte(addr), plan: func(ev *event) {
		ev.do = func() {
			for _, h := range e.w.hosts {
				o := h.endpoint
				if o == nil || o.addr != addr || !e.w.connected(e, o) {
					continue
				}
				e.mu.Lock()
				e.known[o.id] = addr
				if o != e {
					e.up[o.id] = o.run
				}
				e.mu.Unlock()
				told <- answer{id: o.id}
				return
			}
			told <- answer{err: fmt.Errorf("%s: %w", addr, peer.ErrDown)}
		}
		e.w.bus.after(e.w.delay(), ev)
	}})
	select {
	case a := <-told:
		return a.id, a.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Call implements peer.Network.
func (e *endpoint) Call(to unkai.NodeID, c *peer.Call) {
	e.mu.Lock()
	down := e.dead || e.up[to] == 0
	e.mu.Unlock()
	if down {
		c.Err = peer.ErrDown
		c.Done.CallDone(c)
		return
	}
	q := &call{from: e, to: to, c: c}
	e.w.bus.send(&event{name: "question", from: e.id, to: to, kind: c.Kind, body: bytes.Clone(c.Body), plan: func(ev *event) { e.depart(q, ev) }})
}

// depart decides what becomes of a question.
func (e *endpoint) depart(q *call, ev *event) {
	if e.dead {
		e.end(q, nil, peer.ErrDown)
		return
	}
	q.seq = e.w.bus.count
	e.pending = append(e.pending, q)
	e.w.bus.after(q.c.Timeout, &event{name: "timeout", from: e.id, to: q.to, kind: ev.kind, do: func() { e.end(q, nil, peer.ErrTimeout) }})
	arrive := func(answered bool) func() { return func() { e.arrive(q, ev, answered) } }
	if !e.w.chance(e.w.weather.Loss) {
		ev.do = arrive(true)
		e.w.bus.after(e.w.delayFrom(e), ev)
	}
	// Only once: what a client asked for is not idempotent, and connections
	// do not repeat.
	if ev.kind != peer.Operations && e.w.chance(e.w.weather.Twice) {
		again := *ev
		again.name, again.do = "repeated", arrive(false)
		e.w.bus.after(e.w.delayFrom(e)+time.Duration(e.w.bus.rng.IntN(int(2*time.Second))), &again)
	}
}

// arrive hands a question to its node.
func (e *endpoint) arrive(q *call, ev *event, answered bool) {
	o := e.w.endpointOf(q.to)
	switch {
	case o == nil || o.dead:
		e.end(q, nil, peer.ErrLost)
		return
	case e.w.cut[e.host.number][o.host.number]:
		return
	case o.host.stalled():
		again := *ev
		again.do = func() { e.arrive(q, ev, answered) } // ev may be lost, and this its repetition
		e.w.bus.after(time.Until(o.host.until)+e.w.delay(), &again)
		return
	}
	var to peer.Asker = nobody{}
	if answered {
		to = asker{o, q}
	}
	r := peer.NewRequest(e.id, ev.kind, bytes.Clone(ev.body), to)
	h := o.handlers[ev.kind]
	if h == nil {
		r.Refuse("nobody answers that here")
		return
	}
	go h.Serve(r)
}

// asker carries an answer back.
type asker struct {
	of *endpoint
	q  *call
}

// Answered implements peer.Asker.
func (a asker) Answered(_ *peer.Request, reply []byte, refused bool) {
	e, body := a.of, bytes.Clone(reply)
	e.w.bus.send(&event{name: "answer", from: e.id, to: a.q.from.id, body: body, of: a.q.seq, plan: func(ev *event) {
		if e.dead || e.w.chance(e.w.weather.Loss) {
			return
		}
		ev.do = func() {
			back := a.q.from
			if e.w.cut[e.host.number][back.host.number] {
				return
			}
			if refused {
				back.end(a.q, nil, &peer.RemoteError{Text: string(body)})
				return
			}
			back.end(a.q, body, nil)
		}
		e.w.bus.after(e.w.delayFrom(e), ev)
	}})
}

// nobody wants the answer.
type nobody struct{}

// Answered implements peer.Asker.
func (nobody) Answered(*peer.Request, []byte, bool) {}

// end tells the caller how its call ended, once.
func (e *endpoint) end(q *call, reply []byte, err error) {
	if q.done {
		return
	}
	q.done = true
	if i := slices.Index(e.pending, q); i >= 0 {
		e.pending = slices.Delete(e.pending, i, i+1)
	}
	q.c.Err = err
	q.c.Reply = append(q.c.Reply[:0], reply...)
	go q.c.Done.CallDone(q.c)
}

// lost ends all calls to a node whose connection broke, one after the other.
func (e *endpoint) lost(to unkai.NodeID) {
	for _, q := range e.pending {
		if q.to == to || e.dead {
			e.w.bus.after(0, &event{name: "lost", from: e.id, to: to, do: func() { e.end(q, nil, peer.ErrLost) }})
		}
	}
}

// chance is true in so many of a thousand cases.
func (w *World) chance(perMille int) bool { return w.bus.rng.IntN(1000) < perMille }

// delay is how long a message is on its way.
func (w *World) delay() time.Duration {
	d := 50*time.Microsecond + time.Duration(w.bus.rng.IntN(500_000))
	if w.chance(w.weather.Slow) {
		d += time.Duration(w.bus.rng.IntN(1_000_000_000))
	}
	return d
}

// delayFrom is delay, and what is left of a stall of the sender.
func (w *World) delayFrom(e *endpoint) time.Duration {
	d := w.delay()
	if e.host.stalled() {
		d += time.Until(e.host.until)
	}
	return d
}
