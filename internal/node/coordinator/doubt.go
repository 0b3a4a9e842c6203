package coordinator

import (
	"unkai"
	"unkai/internal/core/register"
	"unkai/internal/core/topology"
	"unkai/internal/node/replica"
)

// answers are what the tasks of a round would be told if one of its attempts stood.
type answers []answer

type answer struct {
	of     *task
	result unkai.Result
	mutant bool
}

// remember keeps the answers of an attempt that may stand.
func (r *round) remember() {
	if len(r.tried) == r.proposer.Attempts() {
		return
	}
	var all answers
	for t := r.serving; t != nil; t = t.next {
		all = append(all, answer{of: t, result: *t.result, mutant: t.mutant})
	}
	r.tried = append(r.tried, all)
}

// restore gives the tasks that still wait the answers of an attempt that stands.
func (a answers) restore(r *round) {
	for t := r.serving; t != nil; t = t.next {
		for i := range a {
			if a[i].of == t {
				*t.result, t.mutant = a[i].result, t.mutant || a[i].mutant
			}
		}
	}
}

// fate is what became of what the round has proposed, when enough have promised and best
// is the highest that they hold; and of what stands which attempt it was.
func (r *round) fate(best *replica.Call) (register.Fate, int) {
	item := visible(r.top, &best.Found.Record)
	fate, attempt := r.proposer.Fate(item.CAS)
	switch {
	case fate != register.Stands || !r.top.Forgotten(best.Found.Record.Epoch):
		return fate, attempt
	case r.proposer.MaybeChosen():
		return register.Unclear, attempt // if it was, the flush has ended it
	}
	// Nobody has seen it: it comes after the flush, which others may have seen before
	// this round began.
	return register.Void, attempt
}

// unclear reports whether those who have answered a poll do not know what became of what
// the round has proposed.
func (r *round) unclear(q *poll) bool {
	p := &r.proposer
	if p.Phase != register.Preparing || !p.Doubt() || r.serving == nil || !q.route.Prepare.Enough(p.Tally.Yes) {
		return false
	}
	fate, _ := r.fate(q.best())
	return fate == register.Unclear
}

// made reports whether a cas unique may be one that a coordinator has made, and not a
// client: what a client chooses it may choose again, above what others have changed since.
func made(top *topology.Topology, unique uint64) bool {
	b := unkai.Ballot(unique)
	return b.Counter() >= unkai.Stride && b.Seat() != 0 && b.Seat() <= top.Seats
}
