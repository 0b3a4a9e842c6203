package sim

import (
	"slices"
	"time"

	"unkai"
)

// endpointOf finds the present life of a node.
func (w *World) endpointOf(id unkai.NodeID) *endpoint {
	for _, h := range w.hosts {
		if h.endpoint != nil && h.endpoint.id == id {
			return h.endpoint
		}
	}
	return nil
}

// connected reports whether a connection between two endpoints works.
func (w *World) connected(a, b *endpoint) bool {
	i, j := a.host.number, b.host.number
	return !a.dead && !b.dead && !a.host.stalled() && !b.host.stalled() && !w.cut[i][j] && !w.cut[j][i]
}

// judge has every endpoint notice, after a while, which of its connections work.
func (w *World) judge() {
	for _, h := range w.hosts {
		e := h.endpoint
		if e == nil || e.dead {
			continue
		}
		e.mu.Lock()
		others := make([]unkai.NodeID, 0, len(e.known))
		for id := range e.known {
			others = append(others, id)
		}
		e.mu.Unlock()
		slices.Sort(others)
		for _, id := range others {
			if id == e.id || w.works(e, id) == e.Alive(id) {
				continue
			}
			wait := time.Duration(50+w.bus.rng.IntN(250)) * time.Millisecond // until it is connected again
			if e.Alive(id) {
				wait = time.Duration(400+w.bus.rng.IntN(100)) * time.Millisecond // without a sign of life
				if o := w.endpointOf(id); o == nil || o.dead {
					wait = w.delay() // its system says so
				}
			}
			w.bus.after(wait, &event{name: "notice", from: e.id, to: id, do: func() { w.notice(e, id) }})
		}
	}
}

func (w *World) works(e *endpoint, id unkai.NodeID) bool {
	o := w.endpointOf(id)
	e.mu.Lock()
	addr := e.known[id]
	e.mu.Unlock()
	return o != nil && o.addr == addr && w.connected(e, o)
}

func (w *World) notice(e *endpoint, id unkai.NodeID) {
	var run uint64
	if w.works(e, id) {
		run = w.endpointOf(id).run
	}
	e.mu.Lock()
	was := e.up[id]
	e.up[id] = run
	e.mu.Unlock()
	if was != 0 && run == 0 {
		e.lost(id)
	}
}
