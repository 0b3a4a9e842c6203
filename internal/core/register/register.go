// Package register is the law of the strong regime: each key is one
// CASPaxos register (Rystsov 2018), and these are the steps of its acceptor as
// functions of a state. They have no clock, no disk and no network, so that
// every interleaving of a small configuration can be tried.
package register

import "unkai"

// State is what an acceptor must never forget about one key, apart from the
// value itself.
//
// Invariant: Accepted ≤ Promised.
type State struct {
	Promised unkai.Ballot // nothing below is accepted any more
	Accepted unkai.Ballot // of the value held; 0: none
}

// Above raises the state to a bucket's floor: what the bucket has forgotten up
// to there counts as promised, so that a late message can neither bring a
// purged key back nor repeat a cas unique.
func (s State) Above(floor unkai.Ballot) State {
	s.Promised = max(s.Promised, floor)
	return s
}

// Accept says whether an acceptor in state s may accept a value at ballot b
// (Rystsov 2018, §2.2, second phase), and its state when it has. An accept also
// carries the next promise to the same coordinator: nothing is lost by it,
// because an accept quorum is a prepare quorum when W > N/2 (DESIGN §4).
//
// A ballot equal to the promise is the promised coordinator's own. A ballot
// already accepted is refused: a coordinator never uses one twice, so this is
// the same message again.
func (s State) Accept(b, next unkai.Ballot) (State, bool) {
	if b < s.Promised || b == s.Accepted || b == 0 {
		return s, false
	}
	return State{Promised: max(b, next), Accepted: b}, true
}

// Prepare says whether an acceptor in state s may promise ballot b (first
// phase), and its state when it has.
func (s State) Prepare(b unkai.Ballot) (State, bool) {
	if b <= s.Promised {
		return s, false
	}
	s.Promised = b
	return s, true
}

// Next is the least ballot of a seat that is above everything seen. Counters
// begin at 1, so that no ballot looks like a small number.
func Next(seen unkai.Ballot, seat unkai.Seat) unkai.Ballot {
	b := unkai.MakeBallot(max(seen.Counter(), 1), seat)
	if b <= seen {
		b = unkai.MakeBallot(seen.Counter()+1, seat)
	}
	return b
}
