// Package pace says how fast data may be copied in the background: as fast as it goes
// while nobody waits, and else so fast that clients hardly notice. See
// docs/decisions/0021.
package pace

import "time"

// Limit is how fast may be copied, found by trying: slowly at first, faster while no
// client waits much longer than it would without the copy, and at once slower when
// one does. It knows no clock: it is told what was seen for how long. The zero value
// is ready.
type Limit struct {
	watched [kinds]watched
	afar    float64       // what a receiver has told last of its clients
	told    time.Duration // since then
	rate    float64       // bytes a second; 0: any number
	step    float64       // by which it rises; 0: it was not too fast yet
	moved   float64       // bytes since the last decision
	lasted  time.Duration // since then
	slow    time.Duration // for how long it still counts that a receiver was slow
}

const (
	// Worst is how many times as long as without the copy the slowest hundredth of
	// the clients may wait.
	Worst = 2
	// falling is from where the copy becomes slower, before it is too late, and rising
	// up to where it becomes faster.
	falling = 1.6
	rising  = 1.3
	// Floor is how many bytes a second are copied in any case.
	Floor = 1 << 20
	// first is how many are while there are clients and nothing else is known.
	first = 4 << 20
	// steps is in how many steps the rate would double after it was too high; before
	// that it rises by an opening'th at a time.
	steps   = 24
	opening = 2
	// lately is for how long it counts that a receiver was slow, and what clients
	// waited.
	lately = 3 * time.Second
)

// Phase is what the copy did while something was seen.
type Phase int

// Phases: nothing is copied anywhere; something is; it rests, so that can be seen
// how it is without; or some of each.
const (
	Idle Phase = iota
	Copying
	Resting
	Between
)

// Seen is what was seen for some time.
type Seen struct {
	Lasted time.Duration
	Phase  Phase
	Moved  int64 // bytes copied
	// Receivers is the highest strain that a receiver has told since the last
	// time; 0: none has clients, or none has told anything.
	Receivers float64
	// Slow is that a receiver took long for what it was brought, or did not take it:
	// it waits for its disk.
	Slow    bool
	batches [kinds]tally // that have ended
	waiting [kinds]bool  // some have not
}

// Look learns from what was seen.
func (l *Limit) Look(s *Seen) {
	if s.Phase == Copying {
		l.moved += float64(s.Moved)
		l.lasted += s.Lasted
	}
	l.slow = max(0, l.slow-s.Lasted)
	if l.told += s.Lasted; s.Receivers > 0 {
		l.afar, l.told = s.Receivers, 0
	} else if l.told > lately {
		l.afar = 0
	}
	fresh, last := s.Receivers, s.Receivers
	for k := range l.watched {
		w := &l.watched[k]
		if w.ago += s.Lasted; w.ago > lately {
			w.strain, w.pool = 0, pool{}
		}
		switch s.Phase {
		case Idle:
			w.seen, w.pool = window{}, pool{}
			w.learn(&s.batches[k], s.Lasted, late, s.waiting[k])
		case Resting:
			w.learn(&s.batches[k], s.Lasted, soon, s.waiting[k])
		case Copying:
			if w.judge(&s.batches[k], s.Lasted, s.waiting[k]) {
				fresh = max(fresh, w.strain)
				last = max(last, min(w.last, w.strain))
			}
		}
	}
	l.decide(s, fresh, last)
}

// decide changes the rate by what has just become known: the strain of some time,
// and where it is that of the last moment too.
func (l *Limit) decide(s *Seen, fresh, last float64) {
	switch {
	case s.Slow && l.slow <= lately-late: // not again for what was under way
		l.slow = lately
		l.cut(0.5)
	case !l.Loaded() && l.slow == 0:
		l.rate, l.step = 0, 0
	case !l.Loaded():
	case s.Phase == Idle || l.rate == 0:
		l.rate, l.step = first, 0
		l.decided()
	case last > falling && l.moved > 0: // what is over by now needs no answer
		l.cut(min(max(falling/last, 0.5), 0.85))
	case fresh > 0 && l.Strain() < rising && l.slow == 0:
		l.rise()
	}
}

// cut takes the rate down to a part of what is used of it.
func (l *Limit) cut(to float64) {
	used := l.used()
	if l.rate > 0 {
		used = min(l.rate, max(used, l.rate/2))
	}
	rate := max(Floor, used*to)
	if rate != l.rate {
		for k := range l.watched {
			l.watched[k].seen = window{} // of the time before
		}
	}
	l.rate, l.step = rate, rate/steps
	l.decided()
}

// rise takes it up, unless it is not what holds the copy.
func (l *Limit) rise() {
	if l.used() >= l.rate/2 {
		step := l.step
		if step == 0 {
			step = l.rate / opening
		}
		l.rate += step
	}
	l.decided()
}

// used is how many bytes a second were copied since the last decision.
func (l *Limit) used() float64 {
	if l.lasted <= 0 {
		return 0
	}
	return l.moved / l.lasted.Seconds()
}

func (l *Limit) decided() { l.moved, l.lasted = 0, 0 }

// Rate is how many bytes a second may be copied now; 0: any number.
func (l *Limit) Rate() int64 { return int64(l.rate) }

// Strain is how many times as long as without the copy clients waited when it was
// looked last, this node's and the receivers'; 0: there are none, or nobody knows
// how it is without.
func (l *Limit) Strain() float64 { return max(l.Own(), l.afar) }

// Own is the strain of this node's clients.
func (l *Limit) Own() (strain float64) {
	for k := range l.watched {
		strain = max(strain, l.watched[k].strain)
	}
	return strain
}

// Loaded reports whether there are clients.
func (l *Limit) Loaded() bool {
	for k := range l.watched {
		if l.watched[k].loaded {
			return true
		}
	}
	return l.afar > 0
}

// Told is the strain of this node's clients for who brings it something; 0: there
// are none. While it is not known that is such that nobody becomes faster.
func (l *Limit) Told() (strain float64) {
	for k := range l.watched {
		switch w := &l.watched[k]; {
		case !w.loaded:
		case w.strain == 0:
			strain = max(strain, rising)
		default:
			strain = max(strain, w.strain)
		}
	}
	return strain
}

// Slow reports whether a receiver was slow lately.
func (l *Limit) Slow() bool { return l.slow > 0 }
