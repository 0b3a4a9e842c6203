package sim

import (
	"slices"
	"time"

	"unkai"
	"unkai/internal/core/topology"
)

// Plights are what by chance alone comes together seldom: several things that go wrong
// with one another.

// ran may have a host crash, or all, while records are on their way to its disk together.
func (w *World) ran(h *host) {
	w.did("run of records")
	if time.Now().After(w.until) || !w.chance(40) {
		return
	}
	life := h.life
	w.before(w.upTo(2*time.Millisecond), "crash in a run", func() {
		if h.life != life || h.endpoint == nil {
			return
		}
		w.note("crash in a run")
		if w.chance(300) {
			w.powerCut()
			return
		}
		w.crash(h)
		w.restart(h, 20*time.Second)
	})
}

// bereave has a node die for long, and another one join that may take its place by itself,
// which may die in the midst of that.
func (w *World) bereave() bool {
	spare := slices.IndexFunc(w.hosts, (*host).unused)
	top := w.newest()
	if w.cfg.Memory || spare < 0 || top == nil || top.Job != nil || len(top.Attached()) < 3 ||
		slices.ContainsFunc(top.Nodes, func(n topology.Node) bool { return w.endpointOf(n.ID) == nil }) {
		return false
	}
	held := top.Attached()
	h := w.endpointOf(held[w.bus.rng.IntN(len(held))].ID).host
	w.note("bereaved")
	w.mend() // nobody is replaced while others are silent too
	w.crash(h)
	w.restart(h, 90*time.Second)
	w.before(w.upTo(time.Second), "spare", func() {
		if s := w.hosts[spare]; s.unused() {
			s.manual = false
			w.start(s)
			w.haunt(s, 100)
		}
	})
	return true
}

// haunt looks so often whether a spare is taking the place of a dead node by itself, and
// has it die then, or not.
func (w *World) haunt(spare *host, looks int) {
	life := spare.life
	w.before(200*time.Millisecond, "haunt", func() {
		top := w.newest()
		switch {
		case looks == 0 || spare.life != life || spare.endpoint == nil:
		case top == nil || top.Job == nil || !top.Job.Auto || top.Job.Kind != topology.KindReplace:
			w.haunt(spare, looks-1)
		default:
			w.note("spare takes over")
			if w.chance(500) {
				back := 30 * time.Second // mostly too late for the job that waits for it
				if w.chance(500) {
					back = 2 * time.Second
				}
				w.note("spare dies")
				w.before(w.upTo(500*time.Millisecond), "spare dies", func() {
					if spare.life == life {
						w.crash(spare)
						w.restart(spare, back)
					}
				})
			}
		}
	})
}

// unused says that a host has never had a node, or what it had was removed.
func (h *host) unused() bool { return h.life == 0 || h.empty }

// leader is the manager who takes jobs forward; 0 if none lives.
func (w *World) leader(top *topology.Topology) unkai.NodeID {
	for _, id := range top.Managers {
		if w.endpointOf(id) != nil {
			return id
		}
	}
	return 0
}

// depose has the node that takes jobs forward go, mostly: so another one finds a job that
// is paused.
func (w *World) depose(lead unkai.NodeID) {
	e := w.endpointOf(lead)
	if e == nil || w.cfg.Memory || !w.chance(120) {
		return
	}
	w.note("deposed")
	w.crash(e.host)
	w.restart(e.host, 20*time.Second)
}
