package coordinator

import (
	"errors"
	"slices"
	"sync"

	"unkai/internal/core/quorum"
	"unkai/internal/core/register"
	"unkai/internal/core/topology"
	"unkai/internal/node/replica"
)

// poll asks the members of a route one thing, and tells its leader once: when
// enough have agreed, or never will. Whoever answers later is heard by nobody;
// the poll is used again when all have.
type poll struct {
	c     *Coordinator
	route *topology.Route
	phase register.Phase
	// Who is told: a round's leader, or the batch of a direct read.
	work  *work
	round *round
	task  *task
	asks  []ask

	mu    sync.Mutex
	tally register.Tally
	asked quorum.Mask
	open  int // asked and not answered
	// late have answered when it was decided; want are waited for though the others are
	// enough.
	late, want quorum.Mask
	over       bool // decided: the tally stands still
	left       bool // the leader needs it no more
	err        error
	stale      bool // somebody is in another epoch
}

// ask is the question to one member.
type ask struct {
	replica.Call
	poll   *poll
	member int
}

// CallAnswered implements replica.Answered.
func (a *ask) CallAnswered(*replica.Call) {
	q := a.poll
	if q.answered(a) {
		q.tell()
	}
}

// poll is a new poll of what is asked of a route.
func (c *Coordinator) poll(w *work, route *topology.Route, phase register.Phase) *poll {
	q := c.polls.Get().(*poll)
	q.c, q.work, q.route, q.phase = c, w, route, phase
	n := len(route.Members)
	if cap(q.asks) < n {
		q.asks = slices.Grow(q.asks, n-len(q.asks))
	}
	q.asks = q.asks[:n]
	for i := range q.asks {
		q.asks[i].poll, q.asks[i].member = q, i
	}
	return q
}

// send asks those members that were not asked yet, each the question that fill
// writes down, and reports whether the poll is decided already: then nobody
// else will tell.
func (q *poll) send(members quorum.Mask, fill func(*ask)) (decided bool) {
	q.mu.Lock()
	if q.over { // it is being told already
		q.mu.Unlock()
		return false
	}
	members &^= q.asked
	q.asked |= members
	q.open += members.Count()
	q.mu.Unlock()
	for i := range q.asks {
		if !members.Has(i) {
			continue
		}
		a := &q.asks[i]
		a.Answered, a.Buf = a, a.Buf[:0]
		fill(a)
		if q.put(a) && q.answered(a) {
			decided = true
		}
	}
	return decided
}

// put asks one member and reports whether it has answered.
func (q *poll) put(a *ask) bool {
	id := q.route.Members[a.member]
	to := q.c.cfg.Local
	if id != q.c.cfg.Self {
		if to = q.c.remote(id); to == nil {
			a.Status, a.Err = replica.Failed, ErrAway
			return true
		}
	}
	switch q.phase {
	case register.Confirming:
		return to.Read(&a.Call)
	case register.Preparing:
		return to.Prepare(&a.Call)
	default:
		return to.Accept(&a.Call)
	}
}

// answered counts an answer and reports whether it decided the poll.
func (q *poll) answered(a *ask) bool {
	q.mu.Lock()
	q.open--
	decided := false
	if q.over {
		q.late = q.late.With(a.member)
	} else {
		q.count(a)
		q.over = q.decided()
		decided = q.over
	}
	free := q.left && q.open == 0
	q.mu.Unlock()
	if free {
		q.recycle()
	}
	return decided
}

func (q *poll) count(a *ask) {
	t, i := &q.tally, a.member
	switch a.Status {
	case replica.OK:
		rec := &a.Found.Record
		switch q.phase {
		case register.Confirming:
			t.Version(i, register.State{Promised: a.Seen, Accepted: rec.Ballot, Epoch: rec.Epoch})
		case register.Preparing:
			t.Promise(i, register.State{Promised: rec.Promise, Accepted: rec.Ballot, Epoch: rec.Epoch}, a.Forgot)
		default:
			t.Accept(i)
		}
	case replica.Refused:
		t.Refuse(i, a.Seen)
	case replica.Unknown:
		t.Lose(i)
		q.note(a.Err)
	case replica.Fenced:
		t.Fail(i)
		q.stale = true
		if a.Epoch > q.route.Epoch {
			q.c.cfg.Behind(q.route.Members[i])
		}
	default:
		t.Fail(i)
		q.note(a.Err)
	}
}

// note keeps the error that says most.
func (q *poll) note(err error) {
	if q.err == nil || errors.Is(q.err, ErrAway) {
		q.err = err
	}
}

func (q *poll) decided() bool {
	t := &q.tally
	switch q.phase {
	case register.Confirming:
		return q.open == 0 || q.chosen()
	case register.Preparing:
		if q.open > 0 && q.want&^t.Answered() != 0 {
			return false
		}
		return q.route.Prepare.Enough(t.Yes) || q.route.Prepare.Never(t.No|t.Lost)
	default:
		return q.route.Write.Enough(t.Yes) || q.route.Write.Never(t.No|t.Lost)
	}
}

// chosen reports whether the highest version seen is certainly chosen.
func (q *poll) chosen() bool { return q.route.Chosen(q.tally.Epoch, q.tally.Yes) }

// reopen makes a poll that was decided for want of answers wait for more.
func (q *poll) reopen() {
	q.mu.Lock()
	q.over = false
	q.mu.Unlock()
}

// hear makes a poll that is decided count those who have answered since, and wait for
// some members of whom nothing is known. It reports whether there was any of the one and
// of the other; whoever is waited for is waited for once. The one who leads now is told:
// who asked may have left.
func (q *poll) hear(w *work, members quorum.Mask) (heard, open bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.work = w
	for i := range q.asks {
		if q.late.Has(i) {
			q.count(&q.asks[i])
			heard = true
		}
	}
	members &= q.asked &^ q.tally.Answered()
	q.late = 0
	if open = q.open > 0 && members&^q.want != 0; open {
		q.want, q.over = q.want|members, false
	}
	return heard, open
}

// best is the answer of the first member that holds the highest version.
func (q *poll) best() *replica.Call { return &q.asks[q.tally.At].Call }

// own is this node's member number; -1 when it is none.
func (c *Coordinator) own(route *topology.Route) int {
	return slices.Index(route.Members, c.cfg.Self)
}

// tell lets the leader go on, or somebody new when it has left.
func (q *poll) tell() {
	if q.work.post(event{poll: q}) {
		return
	}
	if q.round != nil {
		q.c.adopt(q.round)
	} else {
		q.leave() // a direct read that nobody waits for
	}
}

// leave says that the leader needs the poll no more.
func (q *poll) leave() {
	q.mu.Lock()
	q.left = true
	q.over = true
	free := q.open == 0
	q.mu.Unlock()
	if free {
		q.recycle()
	}
}

func (q *poll) recycle() {
	kept := 0
	for i := range q.asks {
		a := &q.asks[i]
		a.Forget()
		kept += cap(a.Buf)
	}
	if kept > maxKept {
		clear(q.asks)
	}
	q.work, q.round, q.task, q.route = nil, nil, nil, nil
	q.tally, q.asked, q.late, q.want, q.over, q.left, q.err, q.stale = register.Tally{}, 0, 0, 0, false, false, nil, false
	q.c.polls.Put(q)
}
