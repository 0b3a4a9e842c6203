package pace

import "time"

// watched is what is known of one kind of batches.
type watched struct {
	usual  time.Duration // the slowest hundredth without a copy; 0: not known
	strain float64       // how many times as long it was at the last look
	ago    time.Duration // since then
	loaded bool          // there are clients
	calm   window        // while nothing was copied
	seen   window        // while something was
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
// counts.
func (w *watched) learn(t *tally, lasted, until time.Duration) {
	c := &w.calm
	c.add(t, lasted)
	switch {
	case c.lasted < until || c.count < few && c.lasted < late:
		return
	case c.count < few:
		w.loaded = false
	default:
		w.loaded = true
		now := c.tally.slowest()
		if w.usual == 0 {
			w.usual = now
		}
		if now < w.usual {
			now -= w.usual - now // twice as quick to learn that it is less
		}
		w.usual += (now - w.usual) / learning
	}
	*c = window{}
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
		w.loaded, w.strain = w.loaded && waiting, 0
	default:
		w.loaded, w.strain = true, 0
		if w.usual > 0 {
			w.strain = float64(s.tally.slowest()) / float64(max(w.usual, least))
		}
	}
	*s, w.ago = window{}, 0
	return w.strain > 0
}
