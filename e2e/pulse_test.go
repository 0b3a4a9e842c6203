package e2e

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// moves is how long an operation may take beside what the machine explains.
const moves = 8 * time.Second

// standstill is the longest that an operation took beside what the machine explains. While
// nodes die and come back it may be long, but not as long as a request may take: with the
// patience of these tests that would be hardly seen otherwise.
type standstill struct {
	mu      sync.Mutex
	longest time.Duration
	what    string
}

// took notes an operation that has just ended.
func (s *standstill) took(what string, begun time.Time) {
	now := time.Now()
	took := now.Sub(begun)
	if took > prompt { // hearts are asked seldom
		took -= excused(begun, now)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if took > s.longest {
		s.longest, s.what = took, what
	}
}

func (s *standstill) judge(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	t.Logf("the longest operation took %v", s.longest.Round(time.Millisecond))
	if s.longest > moves {
		t.Errorf("%s stood still for %v, and not because the machine did", s.what, s.longest.Round(time.Millisecond))
	}
}

// pulse writes and reads at these nodes until it is over, and judges then how long an
// operation stood still.
func (c *cluster) pulse(endpoints []string, over <-chan struct{}) (judge func()) {
	var s standstill
	var wg sync.WaitGroup
	for i, endpoint := range endpoints {
		wg.Go(func() {
			at := &process{addr: endpoint}
			var w *wire
			for n := 0; ; n++ {
				if w == nil {
					w, _ = dial(at) // it may be away
				}
				if w != nil && !w.beats(&s, fmt.Sprintf("pulse%d-%d", i+1, n/2%200), n%2 == 0) {
					w.Close()
					w = nil
				}
				select {
				case <-over:
					if w != nil {
						w.Close()
					}
					return
				case <-time.After(20 * time.Millisecond):
				}
			}
		})
	}
	return func() {
		c.t.Helper()
		wg.Wait()
		s.judge(c.t)
	}
}

// beats has one operation, whatever is answered. It reports whether something was.
func (w *wire) beats(s *standstill, key string, write bool) bool {
	request := "mg " + key + "\r\n"
	if write {
		request = "ms " + key + " 1\r\nx\r\n"
	}
	begun := time.Now()
	err := w.SetDeadline(begun.Add(patience))
	if err == nil {
		_, err = w.Write([]byte(request))
	}
	if err == nil {
		_, err = w.read()
	}
	s.took(fmt.Sprintf("%q at %v", request, w.RemoteAddr()), begun)
	return err == nil
}
