package coordinator

import (
	"time"

	"unkai"
	"unkai/internal/core/quorum"
	"unkai/internal/core/register"
	"unkai/internal/node/replica"
	"unkai/internal/store"
)

// lead makes w the leader of a round and starts it.
func (c *Coordinator) lead(w *work, r *round) {
	w.led++
	r.leader = w
	r.renew()
	c.proceed(w, r)
}

// renew lets a round begin for new tasks.
func (r *round) renew() {
	clear(r.tried)
	r.phase, r.tries, r.until, r.heard, r.tried = begin, 0, time.Time{}, 0, r.tried[:0]
}

// proceed goes on with a round as far as it goes without waiting.
func (c *Coordinator) proceed(w *work, r *round) {
	for {
		var more bool
		switch r.phase {
		case begin:
			more = c.read(w, r)
		case reading:
			more = c.found(w, r)
		case writing:
			more = c.written(w, r)
		case retry:
			more = c.reprepare(w, r)
		default:
			more = c.polled(w, r)
		}
		if !more {
			return
		}
	}
}

// CallAnswered implements replica.Answered: the round's leader goes on, or, when
// it has left, somebody new.
func (r *round) CallAnswered(*replica.Call) { r.wake() }

func (r *round) wake() {
	if !r.leader.post(event{round: r}) {
		r.c.adopt(r)
	}
}

// read asks this node's replica for the key's state.
func (c *Coordinator) read(w *work, r *round) bool {
	bucket := c.space.Bucket(r.hash)
	r.phase = reading
	r.top, r.now = c.cfg.Topology(), c.cfg.Now()
	r.route = r.top.Route(bucket)
	call := &r.call
	if r.self = c.own(r.route); r.self < 0 {
		call.Status, call.Err = replica.Failed, ErrMoved
		return true
	}
	call.Epoch, call.Bucket, call.Hash, call.Key, call.NoValue = r.route.Epoch, bucket, r.hash, r.key, false
	call.Access, call.Buf, call.Answered = store.NoAccess, call.Buf[:0], r
	s := c.stripe(r.hash)
	s.Lock()
	for t := r.first; t != nil && call.Access == store.NoAccess; t = t.next {
		call.Access = access(t.op, r.now)
	}
	r.proposer.Floor = max(s.floor, c.cfg.Floor, clockCounter(r.now))
	if r.self == 0 { // above what one who stood in has just been promised
		r.proposer.Floor = max(r.proposer.Floor, clockCounter(r.now)+2*unkai.Stride)
	}
	s.Unlock()
	if c.cfg.Local.Read(call) {
		return true
	}
	r.inFlight()
	return false
}

// alone reports whether this node's replica is the only one.
func (r *round) alone() bool { return len(r.route.Members) == 1 }

// found goes on when this node's replica has told the key's state.
func (c *Coordinator) found(w *work, r *round) bool {
	call := &r.call
	if call.Status == replica.Fenced && r.again() {
		return true
	}
	if r.reclaim(); r.serving == nil {
		c.take(r)
	}
	if r.serving == nil { // nobody waits any more
		return c.settle(w, r)
	}
	if call.Status != replica.OK && (call.Status != replica.Failed || r.self < 0 || r.alone()) {
		return c.fail(w, r, failure(call))
	}
	p := &r.proposer
	self, ok := r.top.Node(c.cfg.Self)
	if !ok {
		return c.fail(w, r, unkai.Result{Status: unkai.Failed, Err: ErrMoved})
	}
	p.Seat, p.Epoch = self.Seat, r.route.Epoch
	local := register.State{Promised: call.Seen, Accepted: call.Found.Record.Ballot, Epoch: call.Found.Record.Epoch}
	if call.Status != replica.OK { // damaged, say: the others have to know
		local, call.Found = register.State{}, store.Found{}
	}
	p.Begin(local)
	p.See(r.heard)
	if r.alone() {
		return c.foundAlone(w, r)
	}
	s := c.stripe(r.hash)
	s.Lock()
	sure := s.owns(r.hash, r.route.Epoch, local)
	s.Unlock()
	if call.Status != replica.OK {
		return c.prepare(w, r)
	}
	if sure {
		p.ProposeHeir(local.Accepted)
	} else {
		p.ProposeBlind()
	}
	changed := c.apply(w, r, &call.Found)
	switch {
	case !changed:
		p.Confirm()
		return c.confirm(w, r)
	case (sure || r.blind() && r.self == 0) && c.manned(r.route):
		return c.propose(w, r)
	}
	// Who stands in for the key's own coordinator asks for promises even for what
	// needs none: it may have missed much, and a proposal that some accept and
	// others refuse leaves a doubt. So does whoever seems to be cut off: without a
	// doubt another node can be asked instead.
	return c.prepare(w, r)
}

// foundAlone goes on where no other replica has a say.
func (c *Coordinator) foundAlone(w *work, r *round) bool {
	p := &r.proposer
	p.ProposeBlind()
	if !c.apply(w, r, &r.call.Found) {
		return c.settle(w, r)
	}
	if err := c.reserved.use(p.Ballot); err != nil {
		return c.fail(w, r, unkai.Result{Status: unkai.Failed, Err: err})
	}
	r.phase = writing
	call := &r.call
	call.Ballot, call.Next, call.Item, call.Fetched, call.Accessed = p.Ballot, 0, r.item, r.fetched, r.accessed
	if c.cfg.Local.Accept(call) {
		return true
	}
	r.inFlight()
	return false
}

// written ends a round that one replica was to accept.
func (c *Coordinator) written(w *work, r *round) bool {
	status := r.call.Status
	if status == replica.OK {
		return c.settle(w, r)
	}
	r.reclaim()
	if status == replica.Fenced || status == replica.Refused {
		if r.again() {
			c.requeue(r, r.serving)
			return true
		}
	}
	if status == replica.Unknown {
		c.disown(r)
		return c.fail(w, r, failure(&r.call))
	}
	return c.refused(w, r, failure(&r.call))
}

// again reports whether the round may begin anew: the answer was not about the
// operations but about the epoch or the ballot.
func (r *round) again() bool {
	r.tries++
	if r.tries > maxTries || r.overdue() {
		return false
	}
	r.c.counters.retried.Add(1)
	r.phase = begin
	return true
}

// overdue reports whether a round has tried for so long that nobody waits.
func (r *round) overdue() bool {
	now := time.Now()
	if r.until.IsZero() {
		r.until = now.Add(r.c.cfg.Timeout)
	}
	return now.After(r.until)
}

// ask begins a poll of these members. It reports whether it is decided already.
func (c *Coordinator) ask(w *work, r *round, members quorum.Mask, fill func(*ask)) bool {
	q := c.poll(w, r.route, r.proposer.Phase)
	q.round, r.poll, r.phase, q.tally = r, q, polling, r.proposer.Tally
	decided := q.send(members, func(a *ask) {
		a.Epoch, a.Bucket, a.Hash, a.Key, a.NoValue, a.Access = r.route.Epoch, r.call.Bucket, r.hash, r.key, false, store.NoAccess
		fill(a)
	})
	if !decided {
		r.inFlight()
	}
	return decided
}

func (c *Coordinator) everybody(r *round) quorum.Mask { return quorum.First(len(r.route.Members)) }

// confirm asks whether what this node's replica holds is chosen.
func (c *Coordinator) confirm(w *work, r *round) bool {
	return c.ask(w, r, c.everybody(r), func(a *ask) { a.NoValue = true })
}

// prepare asks for the promise of a new ballot.
func (c *Coordinator) prepare(w *work, r *round) bool {
	r.proposer.Prepare()
	c.counters.prepared.Add(1)
	if !r.proposer.Doubt() { // nothing was proposed so far
		for t := r.serving; t != nil; t = t.next {
			t.mutant = false
		}
	}
	if err := c.reserved.use(r.proposer.Ballot); err != nil {
		return c.giveUp(w, r, err)
	}
	present := r.route.Prepare.Members()
	return c.ask(w, r, present, func(a *ask) { a.Ballot = r.proposer.Ballot })
}

// propose asks for the round's item to be accepted.
func (c *Coordinator) propose(w *work, r *round) bool {
	p := &r.proposer
	if err := c.reserved.use(p.Ballot); err != nil {
		return c.giveUp(w, r, err)
	}
	return c.ask(w, r, c.everybody(r), func(a *ask) {
		a.Ballot, a.Next, a.Item, a.Fetched, a.Accessed = p.Ballot, p.Ballot.Heir(), r.item, r.fetched, r.accessed
	})
}

// polled goes on when a poll is decided.
func (c *Coordinator) polled(w *work, r *round) bool {
	q, p := r.poll, &r.proposer
	q.mu.Lock()
	p.Tally = q.tally
	q.mu.Unlock()
	r.reclaim()
	if r.unclear(q) {
		switch heard, open := q.hear(w, c.living(q.route)); {
		case open:
			r.inFlight()
			return false
		case heard:
			return true
		}
	}
	defer q.leave()
	r.poll = nil
	switch p.Phase {
	case register.Confirming:
		if q.chosen() && p.Tally.Yes.Has(r.self) && p.Tally.Best == r.call.Found.Record.Ballot && !r.unsettled(q) {
			return c.settle(w, r)
		}
		if q.stale {
			return c.restart(w, r, q)
		}
		p.See(p.Tally.Seen)
		return c.prepare(w, r)
	case register.Preparing:
		if q.route.Prepare.Enough(p.Tally.Yes) {
			return c.promised(w, r, q)
		}
	default:
		if q.route.Write.Enough(p.Tally.Yes) {
			s := c.stripe(r.hash)
			s.Lock()
			s.own(r.hash, r.route.Epoch, p.Ballot)
			// This node's replica may never hold it, or forget it when the bucket
			// moves, and so not tell a later round that the ballot was used.
			s.floor = max(s.floor, p.Ballot.Counter())
			s.Unlock()
			return c.settle(w, r)
		}
	}
	p.Hopeless(q.asked, !q.route.Write.Never(p.Tally.No))
	r.remember()
	return c.restart(w, r, q)
}

// promised goes on when enough have promised the round's ballot.
func (c *Coordinator) promised(w *work, r *round, q *poll) bool {
	p, best := &r.proposer, q.best()
	for t := r.serving; t != nil; t = t.next {
		if t.settle != nil {
			*t.settle = p.Ballot
		}
	}
	fate, attempt := r.fate(best)
	switch {
	case r.serving == nil: // nobody waits any more
		c.disown(r)
		return c.settle(w, r)
	case fate == register.Unclear:
		return c.giveUp(w, r, errUnclear)
	case fate == register.Stands:
		r.item, r.fetched, r.accessed = visible(r.top, &best.Found.Record), best.Found.Fetched, best.Found.Accessed
		r.tried[attempt].restore(r)
		p.ProposeAgain(attempt)
		return c.propose(w, r)
	}
	p.Propose()
	// That nobody has it is an answer only if those who say so could answer a read:
	// fewer may be enough to promise, and the cluster may have gone on without them.
	absent := q.tally.Best == 0 && r.route.Read.Enough(p.Tally.Yes)
	if !c.apply(w, r, &best.Found) && !p.Doubt() && (absent || r.route.Chosen(q.tally.Epoch, q.holding())) && !r.unsettled(q) {
		return c.settle(w, r)
	}
	return c.propose(w, r)
}

// unsettled reports whether a task wants what is chosen to be held by this node, and
// by the joining set, and that is not known.
func (r *round) unsettled(q *poll) bool {
	has := r.self >= 0 && q.holding().Has(r.self)
	switch {
	case q.tally.Best == 0 && (has || r.call.Found.Record.Ballot == 0):
		return false
	case q.tally.Best != 0 && has && (!r.route.Joining || q.tally.Epoch >= r.route.Since):
		return false
	}
	for t := r.serving; t != nil; t = t.next {
		if t.settle != nil {
			return true
		}
	}
	return false
}

// holding are the members that promised and hold the highest version.
func (q *poll) holding() (m quorum.Mask) {
	for i := range q.asks {
		if q.tally.Yes.Has(i) && q.asks[i].Found.Record.Ballot == q.tally.Best {
			m = m.With(i)
		}
	}
	return m
}

// restart tries a round again that could not get enough, if that has a chance.
func (c *Coordinator) restart(w *work, r *round, q *poll) bool {
	p := &r.proposer
	r.heard = max(r.heard, p.Tally.Seen)                          // this node's replica may have missed far more than one ballot
	hopeless := !q.stale && p.Tally.Seen < p.Ballot && !p.Doubt() // nobody was faster: they are away, or full
	r.tries++
	if hopeless || r.tries > maxTries || r.overdue() {
		if p.Phase == register.Accepting && !p.Doubt() && q.err != nil && !q.stale {
			return c.refused(w, r, unkai.Result{Status: unkai.Failed, Err: q.short()})
		}
		return c.giveUp(w, r, q.short())
	}
	c.counters.retried.Add(1)
	r.phase = begin
	if p.Doubt() {
		r.phase = retry
	}
	if r.tries == 1 {
		return true
	}
	r.inFlight()
	time.AfterFunc(c.pause(r), r.wake)
	return false
}

// pause is how long a round waits before its next try: others are trying too.
// It depends on nothing but the round, so that a simulation can repeat it.
func (c *Coordinator) pause(r *round) time.Duration {
	most := uint64(time.Millisecond) << min(r.tries, 6)
	h := (c.salt ^ r.hash ^ uint64(r.proposer.Ballot)) * 0x9e3779b97f4a7c15
	return time.Duration((h >> 20) % most)
}

// reprepare looks for what became of a proposal, under the present topology, even where
// this node is no replica of the key any more: nobody else knows of the proposal.
func (c *Coordinator) reprepare(w *work, r *round) bool {
	r.reclaim()
	r.top, r.now = c.cfg.Topology(), c.cfg.Now()
	r.route = r.top.Route(r.call.Bucket)
	r.proposer.Epoch = r.route.Epoch
	r.self = c.own(r.route)
	return c.prepare(w, r)
}

// giveUp ends a round that could not be brought to its end.
func (c *Coordinator) giveUp(w *work, r *round, err error) bool {
	res := unkai.Result{Status: unkai.Failed, Err: err}
	if r.proposer.Doubt() {
		res.Status = unkai.InDoubt
	}
	c.disown(r)
	return c.fail(w, r, res)
}

// disown forgets what the round might have changed.
func (c *Coordinator) disown(r *round) {
	s := c.stripe(r.hash)
	s.Lock()
	s.disown(r.hash, r.proposer.Ballot)
	s.Unlock()
}

// fail gives every task of a round the same answer; what is in doubt is so only
// for those who changed something.
func (c *Coordinator) fail(w *work, r *round, res unkai.Result) bool {
	for t := r.serving; t != nil; t = t.next {
		*t.result = res
		if res.Status == unkai.InDoubt && !t.mutant {
			t.result.Status = unkai.Failed
		}
	}
	return c.settle(w, r)
}

// refused ends a round whose item the replicas would not have, for want of room
// say. One change alone is to blame; of several nobody knows which, so each gets
// a round of its own.
func (c *Coordinator) refused(w *work, r *round, res unkai.Result) bool {
	changes := 0
	for t := r.serving; t != nil; t = t.next {
		if t.mutant {
			changes++
		}
	}
	if changes == 1 && r.serving.next == nil || changes == 0 {
		return c.fail(w, r, res)
	}
	r.limit = 1
	c.requeue(r, r.serving)
	return c.settle(w, r)
}
