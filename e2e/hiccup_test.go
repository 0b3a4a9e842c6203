package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// A machine that is busy with something else stands still now and then, and all that runs
// on it. That is told from a cluster that stands still by what should take no time: hearts
// beat in this process, and how late they are is the machine's doing.

const (
	tooLate = 50 * time.Millisecond // a beat later than this is a standstill
	felt    = 3 * time.Second       // what the machine did is felt for a while: nodes have missed each other

	prompt = 4 * time.Second // an operation that takes longer stands still
	// What one test may find amiss that no heart explains: so often it may have to ask
	// again, and so long it may wait for that and for what stands still.
	oftenest = 30
	longest  = 15 * time.Second
)

// span is a time in which the machine stood still.
type span struct{ from, until time.Time }

// heart keeps when it beat too late.
type heart struct {
	every time.Duration

	mu     sync.Mutex
	last   time.Time // zero: it does not beat yet
	pauses []span    // in order
}

// The machine's hearts: one needs a processor only, the other the disk too.
var (
	processor = &heart{every: 20 * time.Millisecond}
	disk      = &heart{every: 200 * time.Millisecond}
)

// watchMachine lets the hearts beat for as long as the process lasts.
func watchMachine(dir string) error {
	f, err := os.Create(filepath.Join(dir, "heart"))
	if err != nil {
		return err
	}
	go processor.run(func() {})
	go disk.run(func() {
		_, _ = f.WriteAt([]byte{1}, 0) // where it fails it took no time, which is what counts
		_ = f.Sync()
	})
	return nil
}

func (h *heart) run(do func()) {
	for {
		h.beat(time.Now())
		pause(h.every)
		do()
	}
}

func (h *heart) beat(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pauses = append(h.pauses, h.missing(now)...)
	h.last = now
}

// missing is the pause that lasts just now, if one does.
func (h *heart) missing(now time.Time) []span {
	if due := h.last.Add(h.every); !h.last.IsZero() && now.Sub(due) > tooLate {
		return []span{{due, now}}
	}
	return nil
}

// until are all pauses to this day.
func (h *heart) until(now time.Time) []span {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append(slices.Clone(h.pauses), h.missing(now)...)
}

// stood is how long the machine stood still between two moments, by its hearts.
func stood(from, until time.Time, hearts ...*heart) (sum time.Duration) {
	var all []span
	for _, h := range hearts {
		all = append(all, h.until(until)...)
	}
	slices.SortFunc(all, func(a, b span) int { return a.from.Compare(b.from) })
	for _, s := range all {
		if s.from.Before(from) {
			s.from = from
		}
		if s.until.After(until) {
			s.until = until
		}
		if s.until.After(s.from) {
			sum += s.until.Sub(s.from)
			from = s.until // what two hearts missed counts once
		}
	}
	return sum
}

// excused is how much of a time the machine explains.
func excused(from, until time.Time) time.Duration {
	return stood(from.Add(-felt), until, processor, disk)
}

// hiccups is what one test has found amiss that the machine does not explain.
type hiccups struct {
	mu    sync.Mutex
	often int
	long  time.Duration
}

// note adds a wait, and complains when it is too much. Who was not asked again waits only for
// what took longer than prompt.
func (h *hiccups) note(again bool, took, excuse time.Duration) error {
	lost := took - excuse
	if lost <= 0 || !again && lost <= prompt {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if again {
		h.often++
	}
	if h.long += lost; h.often > oftenest || h.long > longest {
		return fmt.Errorf("this test has had to ask again %d times, and has waited for %v that the machine does not explain", h.often, h.long.Round(time.Millisecond))
	}
	return nil
}

// amissOf are the hiccups of the tests that run.
var amissOf sync.Map

// amiss are the hiccups of a test.
func amiss(t testing.TB) *hiccups {
	h, there := amissOf.LoadOrStore(t, new(hiccups))
	if !there {
		t.Cleanup(func() {
			amissOf.Delete(t)
			if h := h.(*hiccups); h.often > 0 || h.long > 0 {
				t.Logf("asked again %d times, and waited for %v that the machine does not explain", h.often, h.long.Round(time.Millisecond))
			}
		})
	}
	return h.(*hiccups)
}

// soon is eventually for what has to be so at once, but for a hiccup: on a busy machine nodes
// miss each other for a moment.
func soon(t testing.TB, what string, try func() error) {
	t.Helper()
	h, begun := amiss(t), time.Now()
	for again := false; ; again = true {
		err := try()
		now := time.Now()
		took, excuse := now.Sub(begun), excused(begun, now)
		if err == nil {
			if err := h.note(again, took, excuse); err != nil {
				t.Fatalf("after waiting until %s: %v", what, err)
			}
			return
		}
		if took-excuse > longest {
			t.Fatalf("waiting until %s, for %v (the machine stood still for %v of it): %v", what, took.Round(time.Millisecond), excuse.Round(time.Millisecond), err)
		}
		pause(10 * time.Millisecond)
	}
}

// Standstills of both hearts count once, those of before are felt, one that lasts counts,
// and what the machine explains is no hiccup.
func TestStandstillsAreTold(t *testing.T) {
	t0 := time.Now()
	at := func(ms int) time.Time { return t0.Add(time.Duration(ms) * time.Millisecond) }
	a, b := &heart{every: 20 * time.Millisecond}, &heart{every: 200 * time.Millisecond}
	for _, ms := range []int{0, 20, 60, 80, 1100, 1120} { // 1 s from 100 on
		a.beat(at(ms))
	}
	for _, ms := range []int{0, 200, 1400} { // 1 s from 400 on
		b.beat(at(ms))
	}
	for _, c := range []struct{ from, until, want int }{
		{0, 1130, 1030}, {0, 1500, 1400}, {500, 1000, 500}, {1200, 1300, 100}, {0, 100, 0},
	} {
		if got := stood(at(c.from), at(c.until), a, b); got != time.Duration(c.want)*time.Millisecond {
			t.Errorf("from %d to %d it stood still for %v, want %d ms", c.from, c.until, got, c.want)
		}
	}
	var h hiccups
	for range oftenest {
		if err := h.note(true, 10*time.Millisecond, 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, took := range []time.Duration{prompt, time.Hour} {
		if err := h.note(false, took, took-prompt); err != nil {
			t.Errorf("of %v: %v", took, err)
		}
	}
	if h.note(true, time.Minute, time.Minute) != nil || h.note(true, time.Millisecond, 0) == nil {
		t.Error("how often is judged wrongly")
	}
	h = hiccups{}
	if h.note(false, longest-time.Second, 0) != nil || h.note(true, 2*time.Second, 0) == nil {
		t.Error("how long is judged wrongly")
	}
}
