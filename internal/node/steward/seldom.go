package steward

import "time"

// seldom lets something be done so rarely that it takes a fifth of the time at most. The
// zero value is ready.
type seldom struct{ next time.Time }

// due reports whether it may be done now.
func (s *seldom) due() bool { return !time.Now().Before(s.next) }

// took notes that it was done, and when that began.
func (s *seldom) took(began time.Time) {
	now := time.Now()
	s.next = now.Add(4 * now.Sub(began))
}
