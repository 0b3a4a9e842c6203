package pace

import (
	"math/rand/v2"
	"testing"
	"time"
)

// world is clients and a copy that get in each other's way, in virtual time.
type world struct {
	limit   Limit
	rand    *rand.Rand
	clients int           // batches a second
	alone   time.Duration // what a batch takes at most, without the copy
	// room is how many bytes a second are copied until clients wait twice as long.
	room float64
	most float64 // bytes a second that can be copied
	// noisy is that now and then some wait long for other reasons, 0.6 in a hundred.
	noisy bool
	at    time.Duration
	// What came of it.
	copied    float64
	slow, all int // batches: too slow; while something was copied
}

// latency is what one batch takes while so much is copied: up to alone, and the more
// the more is copied.
func (w *world) latency(speed float64) time.Duration {
	d := w.alone/2 + time.Duration(w.rand.Int64N(int64(w.alone/2)))
	return d + time.Duration(float64(d)*speed/w.room)
}

// run lets time pass, while something is to be copied or not.
func (w *world) run(d time.Duration, copying bool) {
	for until := w.at + d; w.at < until; w.at += look {
		s := Seen{Lasted: look, Phase: Idle}
		speed := 0.0
		if copying {
			s.Phase = phase(&view{place: w.at % restEvery, active: true}, &view{place: (w.at + look) % restEvery, active: true}, w.limit.rate > 0)
			if w.limit.rate == 0 || w.at%restEvery >= restFor {
				speed = w.most
				if r := w.limit.rate; r > 0 {
					speed = min(r, w.most)
				}
			}
		}
		s.Moved = int64(speed * look.Seconds())
		w.copied += speed * look.Seconds()
		n := w.clients * int(look/time.Millisecond) / 1000
		noise := w.noisy && w.rand.IntN(5) == 0
		for i := range n {
			took := w.latency(speed)
			if noise && i < n*3/100 {
				took *= 5
			}
			s.batches[reads][slot(took)]++
			if copying {
				w.all++
				if took > Worst*w.alone {
					w.slow++
				}
			}
		}
		w.limit.Look(&s)
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{rand: rand.New(rand.NewPCG(1, 2)), clients: 2000, alone: 4 * time.Millisecond, room: 40 << 20, most: 400 << 20}
}

// With clients the copy takes most of the room that there is, and they hardly notice.
func TestTheCopyTakesTheRoomThereIs(t *testing.T) {
	for _, room := range []float64{4 << 20, 40 << 20, 200 << 20} {
		w := newWorld(t)
		w.room = room
		w.run(5*time.Second, false)
		w.run(10*time.Second, true)
		w.copied, w.slow, w.all = 0, 0, 0
		w.run(30*time.Second, true)
		if part := float64(w.slow) / float64(w.all); part > 0.01 {
			t.Errorf("room for %v: %.2f %% of all wait more than twice as long", room, 100*part)
		}
		if used := w.copied / 30 / room; used < 0.4 {
			t.Errorf("room for %v: %.2f of it is used", room, used)
		}
	}
}

// It does not begin as fast as it can.
func TestTheCopyBeginsSlowly(t *testing.T) {
	w := newWorld(t)
	w.run(5*time.Second, false)
	w.run(10*time.Second, true)
	if part := float64(w.slow) / float64(w.all); part > 0.01 {
		t.Errorf("%.2f %% of all wait more than twice as long", 100*part)
	}
}

// What clients wait for other reasons does not hold the copy, as long as it is within
// what they may wait in all.
func TestNoiseIsForgiven(t *testing.T) {
	w := newWorld(t)
	w.noisy = true
	w.run(5*time.Second, false)
	w.run(10*time.Second, true)
	w.copied, w.slow, w.all = 0, 0, 0
	w.run(30*time.Second, true)
	if used := w.copied / 30 / w.room; used < 0.25 {
		t.Errorf("only %.2f of the room is used", used)
	}
	if part := float64(w.slow) / float64(w.all); part > 0.01 {
		t.Errorf("%.2f %% of all wait more than twice as long", 100*part)
	}
}

// Without clients, or with next to none, there is no limit, and no rest.
func TestNobodyWaitsForNobody(t *testing.T) {
	for _, clients := range []int{0, 19} {
		w := newWorld(t)
		w.clients = clients
		w.run(5*time.Second, false)
		w.run(10*time.Second, true)
		if w.copied < 10*w.most*0.999 {
			t.Errorf("%d clients: %v bytes of %v", clients, w.copied, 10*w.most)
		}
	}
}

// The rate does not rise where something else holds the copy: it would not count
// when it has to fall.
func TestTheRateIsNotBeyondWhatIsUsed(t *testing.T) {
	w := newWorld(t)
	w.most = 10 << 20
	w.room = 100 << 20
	w.run(5*time.Second, false)
	w.run(20*time.Second, true)
	if r := w.limit.Rate(); r < 10<<20 || r > 32<<20 {
		t.Errorf("10 MiB a second are copied, and %d may be", r)
	}
}

// When the clients have gone it is as fast as it can be, and when they come it slows.
func TestClientsComeAndGo(t *testing.T) {
	w := newWorld(t)
	w.run(5*time.Second, false)
	w.run(10*time.Second, true)
	w.clients = 0
	w.run(3*time.Second, true)
	if r := w.limit.Rate(); r != 0 {
		t.Errorf("without clients the limit is %d", r)
	}
	w.clients = 2000
	w.run(10*time.Second, true)
	w.slow, w.all = 0, 0
	w.run(10*time.Second, true)
	if r := w.limit.Rate(); r == 0 || w.slow > w.all/100 {
		t.Errorf("with clients again: limit %d, %d of %d are slow", r, w.slow, w.all)
	}
}

// However long the clients wait, some is copied.
func TestTheCopyNeverStops(t *testing.T) {
	w := newWorld(t)
	w.room = 1 << 10
	w.run(5*time.Second, false)
	w.run(20*time.Second, true)
	if w.limit.Rate() != Floor {
		t.Errorf("the rate is %d", w.limit.Rate())
	}
	if w.copied < 20*Floor*0.94 {
		t.Errorf("%v bytes in 20 s", w.copied)
	}
}

// What is usual is what it is without the copy: when the clients' own load makes them
// wait longer, the copy need not crawl for it; when it is less, it may not do more harm.
func TestWhatIsUsualChanges(t *testing.T) {
	w := newWorld(t)
	w.run(5*time.Second, false)
	w.run(10*time.Second, true)
	for _, alone := range []time.Duration{16 * time.Millisecond, 2 * time.Millisecond} {
		w.alone = alone
		w.run(90*time.Second, true) // some rests
		w.copied, w.slow, w.all = 0, 0, 0
		w.run(30*time.Second, true)
		if used := w.copied / 30 / w.room; used < 0.4 {
			t.Errorf("%v: only %.2f of the room is used", alone, used)
		}
		if part := float64(w.slow) / float64(w.all); part > 0.01 {
			t.Errorf("%v: %.2f %% of all wait more than twice as long: %v+%v, rate %d", alone, 100*part, w.limit.watched[reads].mean, w.limit.watched[reads].spread, w.limit.Rate())
		}
	}
}

// Nothing is known when it begins: it is found out in the first rest.
func TestNothingIsKnown(t *testing.T) {
	w := newWorld(t)
	w.run(30*time.Second, true)
	w.slow, w.all = 0, 0
	w.run(30*time.Second, true)
	if part := float64(w.slow) / float64(w.all); part > 0.01 {
		t.Errorf("%.2f %% of all wait more than twice as long", 100*part)
	}
}

// A receiver's clients count as this node's do, as long as it is heard of them.
func TestReceiversClients(t *testing.T) {
	var l Limit
	tell := func(strain float64) {
		for range 10 {
			l.Look(&Seen{Lasted: look, Phase: Copying, Moved: max(1<<20, l.Rate()/20)})
		}
		l.Look(&Seen{Lasted: look, Phase: Copying, Receivers: strain})
	}
	for range 20 {
		tell(1.1)
	}
	high := l.Rate()
	if high <= first {
		t.Errorf("its clients do not mind, and the rate is %d", high)
	}
	tell(1.5)
	if l.Rate() != high {
		t.Errorf("%d is %d now", high, l.Rate())
	}
	for range 40 {
		tell(3)
	}
	if l.Rate() != Floor || l.Strain() != 3 {
		t.Errorf("rate %d, strain %v", l.Rate(), l.Strain())
	}
	l.Look(&Seen{Lasted: lately + look, Phase: Copying})
	if l.Rate() != 0 {
		t.Errorf("it has not been heard of for long, and the rate is %d", l.Rate())
	}
}

// A receiver whose disk is slow is brought less, clients or not, and more when it
// is well again.
func TestSlowReceiver(t *testing.T) {
	var l Limit
	for range 20 {
		l.Look(&Seen{Lasted: look, Phase: Copying, Moved: 4 << 20})
	}
	l.Look(&Seen{Lasted: look, Phase: Copying, Moved: 4 << 20, Slow: true})
	if r := l.Rate(); r < 30<<20 || r > 50<<20 || !l.Slow() {
		t.Errorf("after 80 MiB a second the rate is %d, %v", r, l.Slow())
	}
	for range 400 {
		l.Look(&Seen{Lasted: look, Phase: Copying, Moved: l.Rate() / 20, Slow: true})
	}
	if l.Rate() != Floor {
		t.Errorf("the rate is %d", l.Rate())
	}
	l.Look(&Seen{Lasted: lately, Phase: Copying})
	if l.Rate() != 0 {
		t.Errorf("it is well again, and the rate is %d", l.Rate())
	}
}

// Each duration is in the slot that holds it.
func TestSlots(t *testing.T) {
	for d := time.Microsecond; d < 8*time.Second; d += d/50 + 1 {
		if got := within(slot(d)); float64(got) < 0.93*float64(d) && d > 10*time.Microsecond || float64(got) > 1.07*float64(d) && d > 10*time.Microsecond {
			t.Fatalf("%v is counted as %v", d, got)
		}
	}
	var c tally
	for i := range 1000 {
		c[slot(time.Duration(i+1)*time.Millisecond)]++
	}
	if p := c.slowest(); p < 920*time.Millisecond || p > 1060*time.Millisecond {
		t.Errorf("the slowest hundredth of 1 ms to 1 s takes %v", p)
	}
	if slot(-1) != 0 || slot(1<<62) != slots-1 {
		t.Error("what cannot be is not counted")
	}
}

// Counting costs no memory.
func TestCountingAllocatesNothing(t *testing.T) {
	var l Latencies
	if n := testing.AllocsPerRun(100, func() { l.End(l.Begin(true)) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	l.End(l.Begin(false))
	before := l.all(writes)
	b := l.Begin(true)
	if l.open(writes) != 1 || l.open(reads) != 0 {
		t.Error("who waits is not counted")
	}
	l.End(b)
	now := l.all(writes)
	if d := now.since(&before); d.count() != 1 || before.count() != 101 || l.open(writes) != 0 {
		t.Errorf("%d since, %d before", d.count(), before.count())
	}
}

// Clients of whom none gets an answer are there.
func TestNobodyIsAnswered(t *testing.T) {
	w := newWorld(t)
	w.run(5*time.Second, false)
	w.run(5*time.Second, true)
	for i := range 1200 {
		phase := Copying
		if i%100 < 4 {
			phase = Resting
		}
		w.limit.Look(&Seen{Lasted: look, Phase: phase, Moved: 1 << 20, waiting: [kinds]bool{reads: true}})
		if w.limit.Rate() == 0 {
			t.Fatalf("there is no limit after %v", time.Duration(i)*look)
		}
	}
}

// What clients wait while a job is paused is not the copy's doing: when it goes on it is
// as fast as before.
func TestNothingIsCopied(t *testing.T) {
	w := newWorld(t)
	w.run(5*time.Second, false)
	w.run(20*time.Second, true)
	before := w.limit.Rate()
	for range 200 {
		s := Seen{Lasted: look, Phase: Copying}
		s.batches[reads][slot(5*w.alone)] = 100
		w.limit.Look(&s)
	}
	if r := w.limit.Rate(); r < before/3 || w.limit.Strain() < Worst { // one cut, for what was under way
		t.Errorf("%d is %d now, at a strain of %v", before, r, w.limit.Strain())
	}
}

// BenchmarkCounting is what it costs to see what a batch takes.
func BenchmarkCounting(b *testing.B) {
	var l Latencies
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			l.End(l.Begin(true))
		}
	})
}
