package coordinator

import (
	"sync/atomic"
	"time"

	"unkai"
	"unkai/internal/core/register"
	"unkai/internal/core/topology"
	"unkai/internal/node/replica"
)

// round is what goes on at one key. Its leader's goroutine has it to itself,
// but for what the stripe's lock guards.
type round struct {
	c    *Coordinator
	hash uint64
	key  []byte
	// Under the stripe's lock: the stripe's list, and the tasks that wait.
	next        *round
	first, last *task

	// The leader's.
	leader  *work
	serving *task // in order
	phase   phase
	tries   int
	heard   unkai.Ballot // the highest ballot that a try of it was refused for
	limit   int          // how many tasks it may serve at once; 0: maxShared
	top     *topology.Topology
	route   *topology.Route
	self    int   // this node's member number
	now     int64 // milliseconds since 1970
	until   time.Time
	// call reads at this node's replica, and in a cluster of one also writes.
	call     replica.Call
	proposer register.Proposer
	poll     *poll
	tried    []answers // of the proposer's attempts
	// What the tasks have made of the key, to be accepted.
	item     unkai.Item
	fetched  bool
	accessed uint32
	// Two buffers for new values: the item may alias one while the next value
	// is made in the other, so that many appends need no more than two values.
	scratch [2][]byte
}

// phase is what a round does next, when its leader hears of it.
type phase uint8

const (
	begin   phase = iota // read the key's state
	reading              // the state is there
	writing              // the one replica has answered to the accept
	polling              // the poll is decided
	retry                // look for what became of a proposal
)

const (
	// maxTries bounds how often a round begins again under a newer epoch or
	// ballot.
	maxTries = 16
	// maxShared bounds how many operations one round serves, and so how long
	// one leader works for others. Each finds a cas unique of its own below the
	// round's ballot.
	maxShared = unkai.Stride
	// maxKept is how large a buffer a pooled round keeps, in bytes.
	maxKept = 64 << 10
)

// join puts a task in the queue of its key, and returns the key's round if it
// is new: then the caller must lead it.
func (c *Coordinator) join(s *stripe, t *task) *round {
	s.Lock()
	defer s.Unlock()
	r := s.find(t)
	if r != nil {
		r.push(t)
		return nil
	}
	r = c.rounds.Get().(*round)
	r.c, r.hash, r.key = c, t.hash, append(r.key[:0], t.op.Key...)
	r.first, r.last = t, t
	r.next, s.head = s.head, r
	s.open.Add(1)
	return r
}

// push puts a task at the end of the queue, under the stripe's lock.
func (r *round) push(t *task) {
	if r.last == nil {
		r.first = t
	} else {
		r.last.next = t
	}
	r.last = t
}

// withdraw takes a waiting task out of its queue, and reports whether it was
// in one.
func (c *Coordinator) withdraw(t *task) bool {
	s := c.stripe(t.hash)
	s.Lock()
	defer s.Unlock()
	if atomic.LoadUint32(&t.state) != waiting {
		return false
	}
	r := s.find(t)
	if r == nil {
		return false
	}
	var before *task
	for q := r.first; q != nil; before, q = q, q.next {
		if q != t {
			continue
		}
		if before == nil {
			r.first = t.next
		} else {
			before.next = t.next
		}
		if r.last == t {
			r.last = before
		}
		atomic.StoreUint32(&t.state, abandoned)
		return true
	}
	return false
}

// adopt gives a round whose leader has left a goroutine that sees it through.
// There are as many as calls that replicas have not answered in time.
func (c *Coordinator) adopt(r *round) {
	w := newWork()
	w.c, w.led, r.leader = c, 1, w
	go func() {
		c.proceed(w, r)
		for w.led > 0 {
			<-w.wake
			for _, e := range w.take() {
				w.see(e)
			}
		}
	}()
}

// reclaim makes the tasks in flight the leader's again, and forgets those that
// were abandoned.
func (r *round) reclaim() {
	var last *task
	for t := r.serving; t != nil; t = t.next {
		if atomic.LoadUint32(&t.state) == applying || atomic.CompareAndSwapUint32(&t.state, inFlight, applying) {
			last = t
			continue
		}
		if last == nil {
			r.serving = t.next
		} else {
			last.next = t.next
		}
	}
}

// requeue puts tasks that the leader has back at the head of the queue.
func (c *Coordinator) requeue(r *round, t *task) {
	if t == nil {
		return
	}
	s := c.stripe(r.hash)
	s.Lock()
	defer s.Unlock()
	first, last := t, t
	for q := t; q != nil; last, q = q, q.next {
		atomic.StoreUint32(&q.state, waiting)
	}
	last.next = r.first
	if r.first == nil {
		r.last = last
	}
	r.first = first
	if r.serving == t {
		r.serving = nil
	}
}

// settle tells the tasks of a round that they are answered, and ends it: the
// next that waits leads the next round. It reports whether that is w.
func (c *Coordinator) settle(w *work, r *round) bool {
	for t := r.serving; t != nil; {
		next := t.next // t is its batch's again once it is answered
		t.next = nil
		owner := t.work
		if atomic.CompareAndSwapUint32(&t.state, applying, answered) || atomic.CompareAndSwapUint32(&t.state, inFlight, answered) {
			if owner == w {
				w.open--
			} else {
				owner.post(event{task: t})
			}
		}
		t = next
	}
	r.serving = nil
	s := c.stripe(r.hash)
	s.Lock()
	if r.first == nil {
		s.remove(r)
		s.Unlock()
		w.led--
		r.recycle()
		return false
	}
	leader := r.first.work
	s.Unlock()
	r.renew()
	if leader == w {
		return true
	}
	w.led--
	if !leader.post(event{round: r}) {
		c.adopt(r)
	}
	return false
}

func (s *stripe) remove(r *round) {
	at := &s.head
	for *at != r {
		at = &(*at).next
	}
	*at, r.next = r.next, nil
	s.open.Add(-1)
}

func (r *round) recycle() {
	r.leader, r.top, r.route, r.item, r.limit = nil, nil, nil, unkai.Item{}, 0
	r.call.Forget()
	clear(r.tried)
	if max(cap(r.call.Buf), cap(r.scratch[0]), cap(r.scratch[1])) > maxKept {
		r.call, r.scratch = replica.Call{}, [2][]byte{}
	}
	r.c.rounds.Put(r)
}
