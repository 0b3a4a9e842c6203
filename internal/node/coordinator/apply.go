package coordinator

import (
	"sync/atomic"

	"unkai"
	"unkai/internal/core/command"
	"unkai/internal/store"
)

// take makes the tasks that wait the round's.
func (c *Coordinator) take(r *round) {
	limit := r.limit
	if limit == 0 {
		limit = maxShared
	}
	s := c.stripe(r.hash)
	s.Lock()
	defer s.Unlock()
	r.serving = r.first
	last := (*task)(nil)
	for t, n := r.first, 0; t != nil && n < limit; t, n = t.next, n+1 {
		atomic.StoreUint32(&t.state, applying)
		last = t
	}
	if last == nil || last.next == nil {
		r.first, r.last = nil, nil
		r.limit = 0
	} else {
		r.first, last.next = last.next, nil
	}
}

// inFlight marks the tasks as waiting for replicas. The replicas have copied
// what they need. They may answer at any moment, but to this goroutine, so the
// tasks can still be marked.
func (r *round) inFlight() {
	for t := r.serving; t != nil; t = t.next {
		atomic.StoreUint32(&t.state, inFlight)
	}
}

// blind reports whether the round's item does not depend on what was there: its
// first operation stores whatever that was.
func (r *round) blind() bool { return r.serving != nil && command.Blind(r.serving.op) }

// apply applies the round's tasks one after another to what was found, writes
// their results, and reports whether anything is to be accepted. The results
// count when it is, or when what was found is known to be chosen.
func (c *Coordinator) apply(w *work, r *round, found *store.Found) (changes bool) {
	item := visible(r.top, &found.Record)
	fetched, accessed := found.Fetched, found.Accessed
	n := uint64(0)
	for t := r.serving; t != nil; t = t.next {
		n++
	}
	p := &r.proposer
	doubt, ballot := p.Doubt(), p.Ballot
	if p.Base, p.Unique = item.CAS, 0; !made(r.top, item.CAS) {
		p.Base = 0
	}
	unique := unkai.MakeBallot(ballot.Counter()-n, ballot.Seat()) // each change gets the next
	free := 0                                                     // the buffer that item does not alias
	for t := r.serving; t != nil; t = t.next {
		unique = unkai.MakeBallot(unique.Counter()+1, ballot.Seat())
		law := command.Law{Now: r.now, CAS: uint64(unique), MaxValue: c.cfg.MaxValue}
		var out command.Outcome
		out, r.scratch[free] = law.Apply(item, t.op, r.scratch[free][:0])
		*t.result = out.Result
		t.mutant = out.Changed || doubt && t.mutant
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
			switch {
			case out.Item.CAS == uint64(unique) || !out.Item.Exists():
				p.Unique = uint64(unique)
			case out.Item.CAS != item.CAS: // the client chose it, perhaps one that was there before
				p.Unique = 0
			}
			item, changes = out.Item, true
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
	r.item, r.fetched, r.accessed = item, fetched, accessed
	if changes && n > 1 {
		c.counters.shared.Add(int64(n - 1))
	}
	return changes
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
