package coordinator

import (
	"sync/atomic"

	"unkai"
	"unkai/internal/core/command"
	"unkai/internal/core/quorum"
	"unkai/internal/core/register"
	"unkai/internal/core/topology"
	"unkai/internal/node/replica"
	"unkai/internal/store"
)

// direct answers a read without a round, or will when the replicas have. It
// reports false when only a round can: when the item has to be changed after
// all, or the epoch has passed.
func (c *Coordinator) direct(w *work, t *task) bool {
	top := c.cfg.Topology()
	bucket := c.space.Bucket(t.hash)
	route := top.Route(bucket)
	if len(route.Members) > 1 {
		return c.directPoll(w, t, route)
	}
	call := w.call
	call.Epoch, call.Bucket, call.Hash, call.Key, call.NoValue = route.Epoch, bucket, t.hash, t.op.Key, false
	call.Access, call.Buf, call.Answered, call.Tag = access(t.op, w.now), w.batch.Values, w, t.index
	if !c.cfg.Local.Read(call) {
		w.call = new(replica.Call) // this one is the replica's until it has answered
		w.direct++
		t.state = inFlight
		return true
	}
	if call.Status == replica.OK {
		w.batch.Values = call.Buf
	}
	return c.directed(w, t, top, call)
}

// directed ends a direct read.
func (c *Coordinator) directed(w *work, t *task, top *topology.Topology, call *replica.Call) bool {
	if call.Status == replica.Fenced {
		return false
	}
	if call.Status != replica.OK {
		*t.result = failure(call)
		t.state = answered
		w.open--
		return true
	}
	law := command.Law{Now: w.now, MaxValue: c.cfg.MaxValue}
	out, _ := law.Apply(visible(top, &call.Found.Record), t.op, nil)
	if out.Changed {
		// The round will read again; the key was not read by anybody in between.
		t.peeked, t.fetched, t.accessed = true, call.Found.Fetched, call.Found.Accessed
		return false
	}
	*t.result = out.Result
	t.result.Fetched, t.result.Accessed = call.Found.Fetched, call.Found.Accessed
	t.state = answered
	w.open--
	return true
}

// CallAnswered implements replica.Answered for direct reads of the one replica.
func (w *work) CallAnswered(call *replica.Call) { w.post(event{direct: call}) }

// directLate goes on with a direct read that the one replica has answered.
func (w *work) directLate(call *replica.Call) {
	w.direct--
	t := &w.tasks[call.Tag]
	if atomic.LoadUint32(&t.state) == abandoned {
		return
	}
	if top := w.c.cfg.Topology(); call.Epoch == top.Route(call.Bucket).Epoch && w.c.directed(w, t, top, call) {
		return
	}
	w.round(t)
}

// round makes a direct read a round's.
func (w *work) round(t *task) {
	t.state = waiting
	if r := w.c.join(w.c.stripe(t.hash), t); r != nil {
		w.c.lead(w, r)
	}
}

// reading reports whether a direct read of t's key is under way.
func (w *work) reading(t *task, started int) bool {
	for i := range started {
		if q := &w.tasks[i]; q.hash == t.hash && atomic.LoadUint32(&q.state) == inFlight && command.ReadsOnly(q.op) {
			return true
		}
	}
	return false
}

// directPoll reads at this node's replica, and asks as many others for their
// versions as it takes.
func (c *Coordinator) directPoll(w *work, t *task, route *topology.Route) bool {
	self := c.own(route)
	if self < 0 {
		*t.result = unkai.Result{Status: unkai.Failed, Err: ErrMoved}
		t.state = answered
		w.open--
		return true
	}
	q := c.poll(w, route, register.Confirming)
	q.task = t
	t.state = inFlight
	t.poll = q
	w.direct++
	if c.sendReads(q, c.nearest(route, self), t.op.Key, t.hash, access(t.op, w.now)) {
		return w.polled(q)
	}
	return true
}

// sendReads asks members for what they hold of a key: this node for the item,
// the others for the version.
func (c *Coordinator) sendReads(q *poll, members quorum.Mask, key []byte, hash uint64, a store.Access) bool {
	bucket := c.space.Bucket(hash)
	return q.send(members, func(ask *ask) {
		ask.Epoch, ask.Bucket, ask.Hash, ask.Key = q.route.Epoch, bucket, hash, key
		ask.Access, ask.NoValue = store.NoAccess, q.route.Members[ask.member] != c.cfg.Self
		if !ask.NoValue {
			ask.Access = a
		}
	})
}

// nearest are this node and the first others of the present set that are alive:
// as many as must hold the same version for it to be known as chosen.
func (c *Coordinator) nearest(route *topology.Route, self int) quorum.Mask {
	need := max(route.Read.Present.Need, route.Write.Present.Need)
	if route.Moving {
		return quorum.First(len(route.Members))
	}
	members := quorum.Mask(0).With(self)
	for _, wanted := range [...]bool{true, false} {
		for i, id := range route.Members {
			if members.Count() < need && !members.Has(i) && c.alive(id) == wanted {
				members = members.With(i)
			}
		}
	}
	return members
}

// polled goes on with a direct read whose poll is decided, and reports false
// when it needs a round and the caller is to begin it.
func (w *work) polled(q *poll) bool {
	c, t := w.c, q.task
	if !q.chosen() && !q.stale && c.widen(w, q) {
		return true
	}
	w.direct--
	t.poll = nil
	defer q.leave()
	self := c.own(q.route)
	if !q.chosen() || !q.tally.Yes.Has(self) || q.stale {
		return c.leaveTo(w, t, q.route)
	}
	call := &q.asks[self].Call
	if v := call.Found.Record.Item.Value; len(v) > 0 && !t.op.NoValue {
		start := len(w.batch.Values)
		w.batch.Values = append(w.batch.Values, v...)
		call.Found.Record.Item.Value = w.batch.Values[start:len(w.batch.Values):len(w.batch.Values)]
	}
	return c.directed(w, t, c.cfg.Topology(), call)
}

// leaveTo leaves a read to the first of the key's nodes that is alive, if that is
// another one: a round here would only get in its way. It reports whether it has.
func (c *Coordinator) leaveTo(w *work, t *task, route *topology.Route) bool {
	for _, id := range route.Members {
		if id == c.cfg.Self {
			return false
		}
		if c.alive(id) {
			break
		}
	}
	*t.result = unkai.Result{Status: unkai.Failed, Err: ErrElsewhere}
	t.state = answered
	w.open--
	return true
}

// widen asks the members that were not asked, if there are any, and reports
// whether their answers are to be waited for.
func (c *Coordinator) widen(w *work, q *poll) bool {
	rest := quorum.First(len(q.route.Members)) &^ q.asked
	if rest == 0 {
		return false
	}
	q.reopen()
	t := q.task
	return !c.sendReads(q, rest, t.op.Key, t.hash, store.NoAccess)
}
