package bench

import (
	"math"
	"sync/atomic"
	"time"
)

// patience is how long an interrupted load still waits for replies.
const patience = time.Second

// schedule is when one part of a load sends, and what of it counts. Instants
// are nanoseconds on the run's own clock. All workers share it.
type schedule struct {
	begin   int64
	measure int64 // what is due from here on counts
	end     int64 // nothing is due from here on; 0: no limit
	giveUp  int64 // what was due and could not be sent by then never is; 0: no limit
	preload bool

	// Of an open loop: request number n of all is due at begin + n/rate.
	rate         float64
	first, limit int64 // the numbers of the first that counts and of the one after the last

	// stopped is when the run was interrupted; 0: it was not.
	stopped atomic.Int64
}

func (s *schedule) open() bool { return s.rate > 0 }

// due is when request n of an open loop should be sent.
func (s *schedule) due(n int64) int64 { return s.begin + int64(float64(n)*(1e9/s.rate)) }

// counts reports whether a request sent by a closed loop now is measured.
func (s *schedule) counts(now int64) bool { return !s.preload && now >= s.measure }

// over reports whether nothing may be sent any more.
func (s *schedule) over(now int64) bool {
	if s.stopped.Load() != 0 {
		return true
	}
	if s.open() {
		return s.giveUp > 0 && now >= s.giveUp
	}
	return s.end > 0 && now >= s.end
}

// abandoned reports whether replies are not awaited any more.
func (s *schedule) abandoned(now int64) bool {
	at := s.stopped.Load()
	return at != 0 && now >= at+int64(patience)
}

func newSchedule(l *Load, now int64) *schedule {
	s := &schedule{begin: now, measure: now + int64(l.WarmUp), rate: l.Rate}
	if l.Duration > 0 {
		s.end = s.measure + int64(l.Duration)
	}
	if s.open() {
		s.first = int64(math.Ceil(l.WarmUp.Seconds() * l.Rate))
		s.limit = math.MaxInt64
		if l.Operations > 0 {
			s.limit = s.first + l.Operations
		}
		if l.Duration > 0 {
			s.limit = min(s.limit, int64(math.Ceil((l.WarmUp+l.Duration).Seconds()*l.Rate)))
		}
		s.giveUp = s.due(s.limit) + int64(l.Timeout)
	}
	return s
}
