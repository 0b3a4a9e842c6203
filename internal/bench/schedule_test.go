package bench

import (
	"testing"
	"time"
)

func TestScheduleOfAnOpenLoop(t *testing.T) {
	l := Defaults()
	l.Rate, l.WarmUp, l.Duration = 1000, 2*time.Second, 3*time.Second
	s := newSchedule(&l, 500)
	if s.first != 2000 || s.limit != 5000 || s.due(1000) != 500+int64(time.Second) {
		t.Errorf("first %d, limit %d, due(1000) %d", s.first, s.limit, s.due(1000))
	}
	l.Operations = 100
	if s = newSchedule(&l, 0); s.limit != 2100 {
		t.Errorf("limit %d, want 2100", s.limit)
	}
	l.Operations, l.Duration = 100_000, 0
	if s = newSchedule(&l, 0); s.limit != 102_000 {
		t.Errorf("limit %d, want 102000", s.limit)
	}
}

func TestUnsent(t *testing.T) {
	l := Defaults()
	l.Rate, l.WarmUp, l.Duration, l.Connections = 1000, time.Second, time.Second, 3
	p := newSchedule(&l, 0)
	w := &worker{schedule: p, tally: newTally()}
	total := func(arrived int64, until int64) (n int64) {
		for i := range l.Connections {
			s := newSession(&l, i, newRequests(&l), nil, w)
			s.begin()
			s.arrival += arrived * int64(l.Connections)
			n += s.unsent(until)
		}
		return n
	}
	for _, c := range []struct{ arrived, until, want int64 }{
		{0, 1 << 62, 1000},                         // the warm-up does not count
		{500, 1 << 62, 500},                        // 1500 of 2000 were sent
		{500, int64(1600 * time.Millisecond), 100}, // interrupted
		{600, int64(1600 * time.Millisecond), 0},   // ahead of that
		{0, int64(500 * time.Millisecond), 0},      // interrupted while warming up
		{1000, 1 << 62, 0},
	} {
		if got := total(c.arrived, c.until); got != c.want {
			t.Errorf("%d sent by each, until %v: %d unsent, want %d", c.arrived, time.Duration(c.until), got, c.want)
		}
	}
}
