package bench

import (
	"errors"
	"fmt"
	"time"
)

const (
	// preloadDepth and preloadBytes bound the batches of a preload.
	preloadDepth = 64
	preloadBytes = 256 << 10
)

var errNoReply = errors.New("no reply in time")

// request is one that waits for its reply.
type request struct {
	id   uint64
	due  int64 // when it should have been sent; of a closed loop, when it was
	kind kind
	// measured: it counts.
	measured bool
}

// session is one connection's share of a load, without the connection: it says
// what to send and takes what came. It is idle, or waits for the replies to the
// batch it sent last.
type session struct {
	number int
	load   *Load
	worker *worker
	picker *picker
	replies

	out      []byte    // the batch as it is sent
	batch    []request // and what was asked in it
	answered int       // of the batch
	moved    int64     // when something was last sent or received

	arrival       int64 // open loop: the number of the next request
	preload, last uint64
	gone          bool // the connection is lost
}

func newSession(l *Load, number int, r *requests, z *zipf, w *worker) *session {
	return &session{
		number:  number,
		load:    l,
		worker:  w,
		picker:  newPicker(l, z, number),
		replies: replies{requests: r, verify: l.Verify},
	}
}

// begin takes up a new part of the run.
func (s *session) begin() {
	n, conns := uint64(s.number), uint64(s.load.Connections)
	keys := uint64(s.load.Keys)
	s.preload, s.last = n*keys/conns, (n+1)*keys/conns
	s.arrival = int64(n)
	s.out, s.batch, s.answered = s.out[:0], s.batch[:0], 0
}

// idle reports whether everything asked has been answered.
func (s *session) idle() bool { return s.answered == len(s.batch) }

// compose fills out with the next batch, and reports whether there is one now.
func (s *session) compose(now int64) bool {
	p := s.worker.schedule
	s.out, s.batch, s.answered = s.out[:0], s.batch[:0], 0
	if s.gone || p.over(now) {
		return false
	}
	switch {
	case p.preload:
		depth := min(preloadDepth, max(1, preloadBytes/max(1, s.load.MaxValue)))
		for ; len(s.batch) < depth && s.preload < s.last; s.preload++ {
			s.ask(set, s.preload, now, false)
		}
	case p.open():
		for ; len(s.batch) < s.load.Pipeline && s.arrival < p.limit; s.arrival += int64(s.load.Connections) {
			due := p.due(s.arrival)
			if due > now {
				break
			}
			s.ask(s.picker.kind(), s.picker.key(), due, s.arrival >= p.first)
		}
	default:
		measured := p.counts(now)
		n := s.load.Pipeline
		if measured {
			n = s.worker.take(n)
		}
		for range n {
			s.ask(s.picker.kind(), s.picker.key(), now, measured)
		}
	}
	s.moved = now
	return len(s.batch) > 0
}

func (s *session) ask(k kind, id uint64, due int64, measured bool) {
	if k == set {
		s.out = s.appendSet(s.out, id, s.picker.size())
	} else {
		s.out = s.appendGet(s.out, id)
	}
	s.batch = append(s.batch, request{id: id, due: due, kind: k, measured: measured})
}

// receive takes what the server sent. After an error the connection is of no
// use, and lose must be called.
func (s *session) receive(b []byte, now int64) error {
	s.moved = now
	t := s.worker.tally
	for len(b) > 0 {
		if s.idle() {
			return fmt.Errorf("the server sent %d bytes that nobody asked for", len(b))
		}
		q := &s.batch[s.answered]
		o, rest, err := s.next(q.kind, q.id, b)
		if err != nil {
			return err
		}
		if o == unfinished {
			break
		}
		b = rest
		s.answered++
		t.answered++
		switch {
		case o == refused:
			t.fail(s.text, 1)
		case o == wrong:
			t.wrong++
		case q.measured:
			t.success(q.kind, now-q.due, now)
			if o == miss {
				t.misses++
			}
		}
	}
	if s.load.Progress != nil {
		t.publish()
	}
	return nil
}

// overdue reports whether the server owes a reply for too long.
func (s *session) overdue(now int64) bool {
	return !s.idle() && now-s.moved > int64(s.load.Timeout)
}

// lose counts what was not answered: the connection is lost.
func (s *session) lose(err error) {
	if s.gone {
		return
	}
	s.gone = true
	t := s.worker.tally
	t.lost++
	t.fail([]byte("connection lost: "+err.Error()), max(1, int64(len(s.batch)-s.answered)))
	s.answered = len(s.batch)
	t.publish()
}

// unsent is how many requests of an open loop were due before that moment and
// never sent.
func (s *session) unsent(until int64) int64 {
	p, stride := s.worker.schedule, int64(s.load.Connections)
	from, to := s.arrival, p.limit
	if from < p.first {
		from += (p.first - from + stride - 1) / stride * stride
	}
	if until < p.due(to) {
		to = int64(float64(max(0, until-p.begin)) / 1e9 * p.rate)
	}
	return max(0, (to-from+stride-1)/stride)
}

// worker drives some of the sessions. Only one goroutine uses it at a time.
type worker struct {
	sessions []*session
	tally    *tally
	schedule *schedule
	quota    int64 // how many measured requests of a closed loop it may still send
	clock    func() int64
}

// take draws up to n requests from the quota.
func (w *worker) take(n int) int {
	n = int(min(int64(n), w.quota))
	w.quota -= int64(n)
	return n
}

// newClock counts nanoseconds from now on.
func newClock() func() int64 {
	base := time.Now()
	return func() int64 { return int64(time.Since(base)) }
}
