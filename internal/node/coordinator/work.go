package coordinator

import (
	"sync"
	"sync/atomic"
	"time"

	"unkai"
	"unkai/internal/core/quorum"
	"unkai/internal/node/replica"
	"unkai/internal/store"
)

// task is one operation on its way through a coordinator. Its operation and
// its result are its batch's memory, and so only to be touched while the batch
// waits for it: see the states.
type task struct {
	op     *unkai.Op
	result *unkai.Result
	work   *work
	hash   uint64
	index  int
	state  uint32 // atomic, except where only one goroutine can know the task
	next   *task
	poll   *poll // of a direct read that other replicas are asked for
	mutant bool  // it changed the item in the round that serves it
	// settle, if any: it is to see that both sets of its key hold what is chosen, and the
	// ballot that was promised for that goes there.
	settle *unkai.Ballot

	// What a direct read found, before it turned out to need a round.
	peeked, fetched bool
	accessed        uint32
}

// The states of a task. A batch may give up a task that is waiting (which it
// takes out of the queue) or in flight (which leaves it in doubt), but not one
// whose operation a leader is reading.
const (
	waiting   uint32 = iota // in a round's queue, under the stripe's lock
	applying                // a leader reads its operation and writes its result
	inFlight                // replicas are being asked; its memory is not touched
	answered                // the result is there
	abandoned               // its batch has gone on without it
)

// work is a batch on its way through a coordinator, and the rounds that its
// goroutine leads.
type work struct {
	c      *Coordinator
	batch  *unkai.Batch
	tasks  []task
	open   int           // tasks not answered; only its own goroutine counts
	led    int           // rounds it leads; likewise
	direct int           // direct reads under way; likewise
	call   *replica.Call // for the next direct read of the one replica
	timer  *time.Timer
	now    int64 // when the batch came, in milliseconds since 1970

	wake   chan struct{}
	mu     sync.Mutex
	gone   bool // nobody listens any more
	events []event
	taken  []event
}

// event is something a work's goroutine has to see to: exactly one is set.
type event struct {
	round  *round        // go on with this round
	task   *task         // answered by another goroutine
	direct *replica.Call // the one replica has answered a direct read
	poll   *poll         // this poll is decided
}

func newWork() *work {
	w := &work{wake: make(chan struct{}, 1), call: new(replica.Call), timer: time.NewTimer(time.Hour)}
	w.timer.Stop()
	return w
}

func (w *work) begin(c *Coordinator, b *unkai.Batch, n int) {
	w.c, w.batch, w.open, w.led, w.direct, w.now = c, b, 0, 0, 0, c.cfg.Now()
	if cap(w.tasks) < n {
		w.tasks = make([]task, n)
	}
	w.tasks = w.tasks[:n]
}

// end forgets the batch, so that a pooled work keeps no connection's memory.
func (w *work) end() {
	clear(w.tasks)
	w.batch, w.call.Buf, w.call.Key, w.call.Found.Record.Item.Value = nil, nil, nil, nil
}

// post tells w's goroutine of an event. It reports false when nobody listens.
func (w *work) post(e event) bool {
	w.mu.Lock()
	if w.gone {
		w.mu.Unlock()
		return false
	}
	w.events = append(w.events, e)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return true
}

// take gives all events since the last time.
func (w *work) take() []event {
	w.mu.Lock()
	w.taken, w.events = w.events, w.taken[:0]
	w.mu.Unlock()
	return w.taken
}

// wait sees to events until all tasks are answered. It reports false when time
// was up and others may still refer to w.
func (w *work) wait(started int) bool {
	next := w.c.cfg.Timeout // what the timer is set for
	if w.direct > 0 {
		next = min(next, hedgeAfter)
	}
	left := w.c.cfg.Timeout - next
	w.timer.Reset(next)
	defer w.timer.Stop()
	late := false
	for {
		for _, e := range w.take() {
			w.see(e)
		}
		if w.open == 0 {
			if late || w.direct > 0 {
				w.leave()
				return false
			}
			return true
		}
		select {
		case <-w.wake:
		case <-w.timer.C:
			if left > 0 {
				w.hedge(started)
				w.timer.Reset(left)
				left = 0
				continue
			}
			late = true
			w.giveUp(started)
			w.timer.Reset(applyGrace)
		}
	}
}

// hedgeAfter is how long a direct read waits for the replicas it has asked
// before it asks the others too.
const hedgeAfter = 25 * time.Millisecond

// applyGrace is how long a batch whose time is up lets a leader finish reading
// one of its operations, before it looks again.
const applyGrace = 5 * time.Millisecond

func (w *work) see(e event) {
	switch {
	case e.poll != nil && e.poll.round != nil:
		w.c.proceed(w, e.poll.round)
	case e.poll != nil:
		w.late(e.poll)
	case e.round != nil && e.round.leader == w:
		w.c.proceed(w, e.round)
	case e.round != nil:
		w.c.lead(w, e.round)
	case e.task != nil:
		w.open--
	default:
		w.directLate(e.direct)
	}
}

// late goes on with a direct read whose poll is decided.
func (w *work) late(q *poll) {
	t := q.task
	if atomic.LoadUint32(&t.state) == abandoned {
		w.direct--
		q.leave()
		return
	}
	if !w.polled(q) {
		w.round(t)
	}
}

// hedge asks more replicas for the reads that still wait.
func (w *work) hedge(started int) {
	for i := range started {
		q := w.tasks[i].poll
		if q == nil {
			continue
		}
		rest := quorum.First(len(q.route.Members)) &^ q.asked
		if rest == 0 {
			continue
		}
		w.c.counters.hedged.Add(1)
		if w.c.sendReads(q, rest, w.tasks[i].op.Key, w.tasks[i].hash, store.NoAccess) {
			w.late(q)
		}
	}
}

// giveUp answers with an error what has no answer yet, and is not about to
// have one.
func (w *work) giveUp(started int) {
	for i := range started {
		t := &w.tasks[i]
		switch {
		case w.c.withdraw(t):
			*t.result = unkai.Result{Status: unkai.Failed, Err: errTimeout}
		case atomic.CompareAndSwapUint32(&t.state, inFlight, abandoned):
			*t.result = unkai.Result{Status: unkai.Failed, Err: errTimeout}
			if t.mutant {
				t.result.Status = unkai.InDoubt
			}
		default:
			continue // answered, or about to be
		}
		w.c.counters.timeouts.Add(1)
		w.open--
	}
}

// leave hands what w still leads to a goroutine of its own.
func (w *work) leave() {
	w.mu.Lock()
	w.gone = true
	rest := w.events
	w.mu.Unlock()
	for _, e := range rest {
		switch {
		case e.round != nil:
			w.c.adopt(e.round)
		case e.poll != nil && e.poll.round != nil:
			w.c.adopt(e.poll.round)
		case e.poll != nil:
			e.poll.leave()
		}
	}
}
