package sim

import (
	"slices"
	"time"
)

// faults has something go wrong every few seconds.
func (w *World) faults() {
	wait := time.Duration(500+w.bus.rng.IntN(8000)) * time.Millisecond
	w.before(wait, "fault", func() {
		w.fault()
		w.faults()
	})
}

// before does something after a while, if things still go wrong then.
func (w *World) before(wait time.Duration, name string, do func()) {
	if !time.Now().Add(wait).After(w.until) {
		w.bus.after(wait, &event{name: name, do: do})
	}
}

// fault is one thing that goes wrong, or becomes right again.
func (w *World) fault() {
	r := w.bus.rng
	h := w.hosts[r.IntN(len(w.hosts))]
	kinds := []struct {
		name  string
		share int
		do    func()
	}{
		{"crash", 20, func() {
			// What was in memory is lost: that may happen to one of three at a time.
			if !w.cfg.Memory || w.mayLose() {
				w.lost = w.lost || w.cfg.Memory
				w.crash(h)
				w.restart(h, 20*time.Second)
			}
		}},
		{"power cut", 3, func() {
			if !w.cfg.Memory {
				w.powerCut()
			}
		}},
		{"stall", 15, func() { w.stall(h, 10*time.Second) }},
		{"isolate", 12, func() { w.isolate(h) }},
		{"halves", 8, w.halves},
		{"one way", 8, func() { w.oneWay(h) }},
		{"heal", 20, w.mend},
		{"clock", 8, func() { w.turnClock(h) }},
		{"join", 8, func() { w.join(w.chance(500)) }},
		{"backup", 8, func() { w.backUp(h) }},
		{"restore", 14, func() { w.soon("restore", 40, w.restore) }},
		{"half", 3, func() {
			if !w.cfg.Memory {
				w.half()
			}
		}},
		{"amnesia", 10, func() { w.soon("amnesia", 60, func() bool { return w.forget(h) }) }},
		{"damage", 14, func() { w.spoil(h) }},
		{"flush", map[bool]int{true: 15}[w.cfg.Flush], func() { w.flush(h) }},
		{"full", 6, func() { w.fill(h) }},
		{"bereave", map[bool]int{true: 10}[w.cfg.AutoReplace > 0], func() { w.soon("bereave", 20, w.bereave) }},
	}
	all := 0
	for i := range kinds {
		if slices.Contains(w.cfg.Often, kinds[i].name) {
			kinds[i].share *= 8
		}
		all += kinds[i].share
	}
	at := r.IntN(all)
	for _, k := range kinds {
		if at -= k.share; at < 0 {
			w.note(k.name)
			w.logf("FAULT %s (host %d)", k.name, h.number)
			k.do()
			return
		}
	}
}

// restart starts a host again within some time.
func (w *World) restart(h *host, within time.Duration) {
	if h.life == 0 {
		return
	}
	life := h.life
	w.bus.after(time.Duration(w.bus.rng.Int64N(int64(within))), &event{name: "restart", do: func() {
		if h.life == life && h.endpoint == nil && !h.empty {
			if w.chance(200) {
				h.addr += "1" // another port
			}
			w.start(h)
		}
	}})
}

// powerCut ends all nodes at one moment.
func (w *World) powerCut() {
	for _, h := range w.hosts {
		if h.endpoint != nil {
			w.crash(h)
			w.restart(h, 5*time.Second)
		}
	}
}

// half ends half of the nodes at one moment.
func (w *World) half() {
	n := 0
	for _, h := range w.hosts {
		if h.endpoint != nil {
			n++
		}
	}
	n = (n + 1) / 2
	for _, i := range w.bus.rng.Perm(len(w.hosts)) {
		if h := w.hosts[i]; h.endpoint != nil && n > 0 {
			n--
			w.crash(h)
			w.restart(h, 10*time.Second)
		}
	}
}

// soon tries something again, a number of times, until it could be done.
func (w *World) soon(name string, tries int, do func() bool) {
	if !do() && tries > 1 {
		w.before(500*time.Millisecond, name, func() { w.soon(name, tries-1, do) })
	}
}

// stall holds up everything that a host sends and receives, for so long at most.
func (w *World) stall(h *host, most time.Duration) {
	d := w.upTo(most)
	h.until = time.Now().Add(d)
	w.judge()
	w.bus.after(d+1, &event{name: "resume", do: w.judge})
}

func (w *World) isolate(h *host) {
	for _, o := range w.hosts {
		w.cut[h.number][o.number], w.cut[o.number][h.number] = o != h, o != h
	}
	w.judge()
}

func (w *World) halves() {
	side := make([]bool, len(w.hosts))
	for i := range side {
		side[i] = w.chance(500)
	}
	for i := range side {
		for j := range side {
			w.cut[i][j] = side[i] != side[j]
		}
	}
	w.judge()
}

// oneWay lets a host hear and not be heard by some, or the other way round.
func (w *World) oneWay(h *host) {
	out := w.chance(500)
	for _, o := range w.hosts {
		if o == h || w.chance(300) {
			continue
		}
		if out {
			w.cut[h.number][o.number] = true
		} else {
			w.cut[o.number][h.number] = true
		}
	}
	w.judge()
}

// mend joins what was cut.
func (w *World) mend() {
	for i := range w.cut {
		clear(w.cut[i])
	}
	w.judge()
}

// turnClock sets a clock wrong, mostly by little.
func (w *World) turnClock(h *host) {
	most := []time.Duration{100 * time.Millisecond, 5 * time.Second, time.Hour}[w.bus.rng.IntN(3)]
	skew := time.Duration(w.bus.rng.Int64N(int64(2*most))) - most
	h.mu.Lock()
	h.skew = skew
	h.mu.Unlock()
}

// join starts a host that has never been there. If manual it gets its share from an
// operator, and else by itself.
func (w *World) join(manual bool) {
	if i := slices.IndexFunc(w.hosts, (*host).unused); i >= 0 {
		w.hosts[i].manual = manual
		w.start(w.hosts[i])
	}
}

// heal undoes everything that went wrong.
func (w *World) heal() {
	w.mend()
	for _, h := range w.hosts {
		h.until = time.Time{}
		if h.endpoint != nil {
			h.engine.Fill(false)
		}
		h.mu.Lock()
		h.skew = 0
		out := h.endpoint != nil && h.node == nil
		h.mu.Unlock()
		if out { // the others may have moved since it was told where they are
			w.crash(h)
			w.bus.after(time.Second, &event{name: "restart", do: func() { w.start(h) }})
			continue
		}
		if h.life > 0 && h.endpoint == nil && !h.empty {
			w.start(h)
		}
	}
	w.weather = Weather{}
	w.judge()
}
