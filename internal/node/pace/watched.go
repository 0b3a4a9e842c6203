package pace

import "time"

// watched is what is known of one kind of batches.
type watched struct {
	mean, spread time.Duration // of the slowest hundredth without a copy, and by how much it varies
	calm         window        // while nothing was copied
	seen         window        // while something was, since the last look
	pool         pool          // for some seconds
	strain       float64       // how many times as long as usual the slowest of the pool took
	last         float64       // and of the last look
	ago          time.Duration // since then
	loaded       bool          // there are clients
}

// window is what was seen for some time.
type window struct {
	tally  tally
	count  int
	lasted time.Duration
}

const (
	// enough batches say what their slowest hundredth is, and few say something; fewer
	// in a second are no load.
	enough = 200
	few    = 20
	// soon is how long is looked at least, and late at most.
	soon = 100 * time.Millisecond
	late = time.Second
	// memory is for how long what clients waited counts: a moment in which all wait
	// longer is forgiven if it is short enough.
	memory = 4 * time.Second
	// least is what waiting is compared with, where it is less: nobody minds.
	least = 500 * time.Microsecond
	// learning is the part that what was seen last has in what is usual: 1/learning.
	learning = 4
)

func (w *window) add(t *tally, lasted time.Duration) {
	w.tally.add(t)
	w.count += t.count()
	w.lasted += lasted
}

// learn adds what was seen while nothing was copied, for how long at least until it
// counts. Clients are there as long as some wait, as in judge.
func (w *watched) learn(t *tally, lasted, until time.Duration, waiting bool) {
	c := &w.calm
	c.add(t, lasted)
	switch {
	case c.lasted < until || c.count < few && c.lasted < late:
		return
	case c.count < few:
		w.loaded = w.loaded && waiting
	default:
		w.loaded = true
		now := c.tally.slowest()
		if w.mean == 0 {
			w.mean = now
		}
		// A moment in which all wait much longer is no more than one in which they wait
		// longer.
		off := min(max(now-w.mean, -w.mean/2), w.mean/2)
		if off < 0 {
			off *= 2 // twice as quick to learn that it is less
		}
		w.mean += off / learning
		w.spread += (max(off, -off/2) - w.spread) / learning
	}
	*c = window{}
}

// usual is how long the slowest hundredth takes without a copy; 0: not known.
func (w *watched) usual() time.Duration {
	if w.mean == 0 {
		return 0
	}
	return max(w.mean+w.spread, least)
}

// judge adds what was seen while something was copied, and reports whether that
// is enough to say what it did. Clients are there as long as some wait for an answer,
// even if none gets one.
func (w *watched) judge(t *tally, lasted time.Duration, waiting bool) bool {
	s := &w.seen
	s.add(t, lasted)
	switch {
	case s.lasted < soon || s.count < enough && s.lasted < late:
		return false
	case s.count < few:
		w.loaded, w.strain, w.last = w.loaded && waiting, 0, 0
	default:
		w.loaded, w.strain, w.last = true, 0, 0
		w.pool.add(&s.tally, s.lasted)
		if u := w.usual(); u > 0 {
			w.last = float64(s.tally.slowest()) / float64(u)
			w.strain = float64(w.pool.slowest()) / float64(u)
		}
	}
	*s, w.ago = window{}, 0
	return w.strain > 0
}

// pool is a tally that forgets.
type pool struct {
	weights [slots]float64
	all     float64
}

func (p *pool) add(t *tally, lasted time.Duration) {
	keep := max(0, 1-lasted.Seconds()/memory.Seconds())
	p.all *= keep
	for i, n := range t {
		p.weights[i] = p.weights[i]*keep + float64(n)
		p.all += float64(n)
	}
}

// slowest is how long the hundredth part that took longest took at least.
func (p *pool) slowest() time.Duration {
	beyond := p.all / 100
	for i := slots - 1; i > 0; i-- {
		if beyond -= p.weights[i]; beyond < 0 {
			return within(i)
		}
	}
	return within(0)
}
