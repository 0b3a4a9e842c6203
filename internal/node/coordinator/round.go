package coordinator

import (
	"sync/atomic"

	"unkai"
	"unkai/internal/core/command"
	"unkai/internal/core/topology"
	"unkai/internal/node/replica"
	"unkai/internal/store"
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
	top     *topology.Topology
	now     int64
	call    replica.Call
	// Two buffers for new values: the item may alias one while the next value
	// is made in the other, so that many appends need no more than two values.
	scratch [2][]byte
}

// phase is what a round does next, when its leader hears of it.
type phase uint8

const (
	begin     phase = iota // read the key's state
	reading                // the state is there
	accepting              // the replica has answered to the accept
)

const (
	// maxTries bounds how often a round begins again under a newer epoch or
	// ballot.
	maxTries = 16
	// maxShared bounds how many operations one round serves, and so how long
	// one leader works for others.
	maxShared = 1024
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

// lead makes w the leader of a round and starts it.
func (c *Coordinator) lead(w *work, r *round) {
	w.led++
	r.leader, r.phase, r.tries = w, begin, 0
	c.proceed(w, r)
}

// proceed goes on with a round as far as it goes without waiting.
func (c *Coordinator) proceed(w *work, r *round) {
	for {
		var more bool
		switch r.phase {
		case begin:
			more = c.read(w, r)
		case reading:
			more = c.apply(w, r)
		default:
			more = c.conclude(w, r)
		}
		if !more {
			return
		}
	}
}

// CallAnswered implements replica.Answered: the round's leader goes on, or, when
// it has left, somebody new.
func (r *round) CallAnswered(*replica.Call) {
	if !r.leader.post(event{round: r}) {
		r.c.adopt(r)
	}
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

func (c *Coordinator) read(w *work, r *round) bool {
	r.phase = reading
	r.top, r.now = c.cfg.Topology(), c.cfg.Now()
	call := &r.call
	call.Epoch, call.Bucket, call.Hash, call.Key = r.top.Epoch, c.space.Bucket(r.hash), r.hash, r.key
	call.Access, call.Buf, call.Answered = store.NoAccess, call.Buf[:0], r
	s := c.stripe(r.hash)
	s.Lock()
	for t := r.first; t != nil && call.Access == store.NoAccess; t = t.next {
		call.Access = access(t.op, r.now)
	}
	s.Unlock()
	return c.cfg.Replica.Read(call)
}

// again reports whether the round may begin anew: the answer was not about the
// operations but about the epoch or the ballot.
func (r *round) again() bool {
	if r.call.Status != replica.Fenced && r.call.Status != replica.Refused {
		return false
	}
	r.tries++
	if r.tries > maxTries {
		return false
	}
	r.c.counters.retried.Add(1)
	r.phase = begin
	return true
}

// apply takes the tasks that wait and applies them one after another.
func (c *Coordinator) apply(w *work, r *round) bool {
	if r.call.Status != replica.OK && r.again() {
		return true
	}
	s := c.stripe(r.hash)
	s.Lock()
	r.serving = r.first
	last := (*task)(nil)
	for t, n := r.first, 0; t != nil && n < maxShared; t, n = t.next, n+1 {
		atomic.StoreUint32(&t.state, applying)
		last = t
	}
	if last == nil || last.next == nil {
		r.first, r.last = nil, nil
	} else {
		r.first, last.next = last.next, nil
	}
	s.Unlock()
	if r.call.Status != replica.OK {
		res := failure(&r.call)
		for t := r.serving; t != nil; t = t.next {
			*t.result = res
		}
		return c.settle(w, r)
	}

	found := &r.call.Found
	item := visible(r.top, &found.Record)
	fetched, accessed := found.Fetched, found.Accessed
	seen, changes := r.call.Seen, false
	free := 0 // the buffer that item does not alias
	for t := r.serving; t != nil; t = t.next {
		ballot, ok := c.ballot(r.top, seen)
		if !ok {
			*t.result = failure(&replica.Call{Status: replica.Fenced})
			continue
		}
		law := command.Law{Now: r.now, CAS: uint64(ballot), MaxValue: c.cfg.MaxValue}
		var out command.Outcome
		out, r.scratch[free] = law.Apply(item, t.op, r.scratch[free][:0])
		*t.result, t.mutant, t.behind = out.Result, out.Changed, changes
		switch {
		case out.Result.Created:
		case t.peeked:
			t.result.Fetched, t.result.Accessed = t.fetched, t.accessed
		default:
			t.result.Fetched, t.result.Accessed = fetched, accessed
		}
		t.keepValue(w)
		if out.Changed {
			if item.Exists() && !out.Item.Exists() && t.op.Kind != unkai.Delete {
				c.counters.expired.Add(1)
			}
			item, seen, changes = out.Item, ballot, true
			if len(r.scratch[free]) > 0 {
				free = 1 - free
			}
		}
		if out.Replaced {
			fetched, accessed = false, 0
		}
		if a := access(t.op, r.now); a != store.NoAccess && t.result.Status == unkai.OK {
			fetched, accessed = true, uint32(a)
		}
	}
	if !changes {
		return c.settle(w, r)
	}
	if n := r.shared(); n > 0 {
		c.counters.shared.Add(n)
	}
	r.phase = accepting
	call := &r.call
	call.Ballot, call.Next, call.Item = seen, 0, item
	call.Fetched, call.Accessed = fetched, accessed
	if c.cfg.Replica.Accept(call) {
		return true
	}
	// The replica has copied what it needs. It may answer at any moment, but to
	// this goroutine, so the tasks can still be marked.
	for t := r.serving; t != nil; t = t.next {
		atomic.StoreUint32(&t.state, inFlight)
	}
	return false
}

// shared is how many tasks are served beside the first.
func (r *round) shared() (n int64) {
	for t := r.serving.next; t != nil; t = t.next {
		n++
	}
	return n
}

// keepValue gives the value of a Get memory of its own, or of its batch when
// that is the leader's.
func (t *task) keepValue(leader *work) {
	v := t.result.Item.Value
	t.result.Item.Value = nil
	switch {
	case t.op.Kind != unkai.Get || t.op.NoValue || len(v) == 0:
	case t.work == leader:
		b := leader.batch
		start := len(b.Values)
		b.Values = append(b.Values, v...)
		t.result.Item.Value = b.Values[start:len(b.Values):len(b.Values)]
	default:
		t.result.Item.Value = append([]byte(nil), v...)
	}
}

// conclude ends a round whose accept was answered.
func (c *Coordinator) conclude(w *work, r *round) bool {
	if r.call.Status == replica.OK {
		return c.settle(w, r)
	}
	r.reclaim()
	if r.again() {
		c.requeue(r, r.serving)
		return true
	}
	// What was answered before the first change saw what is durable. The one
	// that made that change may have been abandoned and is then not here.
	var before *task
	t := r.serving
	for t != nil && !t.mutant && !t.behind {
		before, t = t, t.next
	}
	if t == nil {
		return c.settle(w, r)
	}
	if r.call.Status == replica.Failed {
		// The first change is what failed; those behind it get a round without it.
		if !t.behind {
			*t.result = failure(&r.call)
			before, t = t, t.next
		}
		if t != nil {
			c.requeue(r, t)
			if before != nil {
				before.next = nil
			}
		}
		return c.settle(w, r)
	}
	for ; t != nil; t = t.next {
		*t.result = failure(&r.call)
		if !t.mutant {
			t.result.Status = unkai.Failed // it would have been told of what is in doubt
		}
	}
	return c.settle(w, r)
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
	r.phase, r.tries = begin, 0
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
	r.leader, r.top = nil, nil
	r.call.Item, r.call.Found = unkai.Item{}, store.Found{}
	if max(cap(r.call.Buf), cap(r.scratch[0]), cap(r.scratch[1])) > maxKept {
		r.call, r.scratch = replica.Call{}, [2][]byte{}
	}
	r.c.rounds.Put(r)
}
