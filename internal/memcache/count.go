package memcache

import (
	"sync/atomic"

	"unkai"
)

// tally is what one connection counts; its goroutine's own.
type tally [counts]int64

// What is counted, by memcached's names.
const (
	bytesRead = iota
	bytesWritten
	cmdGet
	cmdSet
	cmdTouch
	cmdFlush
	cmdMeta
	getHits
	getMisses
	getExpired
	deleteHits
	deleteMisses
	incrHits
	incrMisses
	decrHits
	decrMisses
	casHits
	casMisses
	casBadval
	touchHits
	touchMisses
	storeTooLarge
	counts
)

var countNames = [counts]string{
	"bytes_read", "bytes_written", "cmd_get", "cmd_set", "cmd_touch", "cmd_flush", "cmd_meta",
	"get_hits", "get_misses", "get_expired", "delete_hits", "delete_misses", "incr_hits", "incr_misses",
	"decr_hits", "decr_misses", "cas_hits", "cas_misses", "cas_badval", "touch_hits", "touch_misses", "store_too_large",
}

// result counts an operation's outcome. One that failed neither hit nor missed.
func (t *tally) result(op *unkai.Op, res *unkai.Result) {
	hit := res.Status == unkai.OK
	either := func(yes, no int) {
		switch {
		case hit:
			t[yes]++
		case res.Err == nil:
			t[no]++
		}
	}
	switch op.Kind {
	case unkai.Get:
		t[cmdGet]++
		either(getHits, getMisses)
		if op.Retouch {
			t[cmdTouch]++
			either(touchHits, touchMisses)
		}
		t.expired(res)
	case unkai.Touch:
		t[cmdTouch]++
		either(touchHits, touchMisses)
		t.expired(res)
	case unkai.Increment:
		either(incrHits, incrMisses)
	case unkai.Decrement:
		either(decrHits, decrMisses)
	case unkai.Delete:
		either(deleteHits, deleteMisses)
	default:
		t[cmdSet]++
		if op.Compare {
			switch res.Status {
			case unkai.OK:
				t[casHits]++
			case unkai.Miss:
				t[casMisses]++
			case unkai.Exists:
				t[casBadval]++
			}
		}
	}
}

// expired counts an item that was found expired. As in memcached only reads and
// touches do, also one that makes a new item in its place.
func (t *tally) expired(res *unkai.Result) {
	if res.ExpiryBefore != 0 && (res.Status == unkai.Miss || res.Created) {
		t[getExpired]++
	}
}

func (t *tally) add(o *tally) {
	for i := range t {
		t[i] += o[i]
	}
}

// counters are the server's own.
type counters struct {
	tally                                                           tally // of connections that have left; under the server's lock
	opened, rejected, idleKicks, panics, noMemory, failures, doubts atomic.Int64
}

// Stats is a Server's counters at one moment.
type Stats struct {
	Commands    map[string]int64 // by memcached's names
	Connections int64
	Opened      int64
	Rejected    int64
	IdleKicks   int64
	Panics      int64
	NoMemory    int64 // requests refused for want of buffers
	Failures    int64 // operations answered with SERVER_ERROR
	Doubts      int64 // of them, those that may have been done
	Buffers     int64 // bytes held in large buffers
}

// Stats are the counters since the start or the last stats reset.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	sum := s.total.tally
	for c := range s.conns {
		c.mu.Lock()
		sum.add(&c.published)
		c.mu.Unlock()
	}
	conns := int64(len(s.conns))
	for i := range sum {
		sum[i] -= s.base[i]
	}
	s.mu.Unlock()
	t := &s.total
	out := Stats{
		Commands: make(map[string]int64, counts), Connections: conns,
		Opened: t.opened.Load(), Rejected: t.rejected.Load(), IdleKicks: t.idleKicks.Load(),
		Panics: t.panics.Load(), NoMemory: t.noMemory.Load(), Failures: t.failures.Load(), Doubts: t.doubts.Load(),
		Buffers: s.cfg.Buffers - s.budget.left.Load(),
	}
	for i, name := range countNames {
		out.Commands[name] = sum[i]
	}
	return out
}

// ResetStats makes the counters of commands begin at 0.
func (s *Server) ResetStats() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.base = s.total.tally
	for c := range s.conns {
		c.mu.Lock()
		s.base.add(&c.published)
		c.mu.Unlock()
	}
}

// publish lets others see what the connection has counted.
func (c *conn) publish() {
	c.mu.Lock()
	c.published = c.count
	c.mu.Unlock()
}
