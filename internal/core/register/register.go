// Package register is the law of the strong regime: each key is one
// CASPaxos register (Rystsov 2018) with flexible quorums (Howard, Malkhi and
// Spiegelman 2016). The steps of its acceptor and of its proposer are functions
// of a state. They have no clock, no disk and no network, so that every
// interleaving of a small configuration can be tried.
package register

import "unkai"

// State is what an acceptor must never forget about one key, apart from the
// value itself.
//
// Invariant: Accepted ≤ Promised.
type State struct {
	Promised unkai.Ballot // nothing below is accepted any more
	Accepted unkai.Ballot // of the value held; 0: none
	// Epoch under which it was accepted. Accept leaves it to the caller.
	Epoch unkai.Epoch
}

// After reports whether what s holds comes after what is held at another epoch and
// ballot: the epoch counts first. A replica that was cut off while the bucket got
// another replica set may hold a proposal that was never chosen, at a ballot that
// the others have not heard of and stay below. Whatever was chosen has been
// accepted under the later epoch before the bucket is read there
// (topology.Arrived), and nothing of an earlier epoch is chosen after that.
func (s State) After(e unkai.Epoch, b unkai.Ballot) bool {
	return s.Epoch > e || s.Epoch == e && s.Accepted > b
}

// Above raises the state of a key of which nothing is held to its bucket's floor:
// what the bucket has forgotten up to there counts as promised, so that a late
// message can neither bring a purged key back nor repeat a cas unique. What is
// held of a key was accepted above the floor of its time, and what was forgotten
// since was not of this key.
func (s State) Above(floor unkai.Ballot) State {
	s.Promised = max(s.Promised, floor)
	return s
}

// Accept says whether an acceptor in state s may accept a value at ballot b
// (Rystsov 2018, §2.2, second phase), and its state when it has. An accept also
// carries the next promise to the same proposer: nothing is lost by it, because
// an accept quorum is a prepare quorum when W > N/2 (DESIGN §4).
//
// A ballot equal to the promise is the promised proposer's own. A proposer never
// uses one ballot for two values, so a ballot already accepted is the same
// message again: it is agreed to, without a change, unless another proposer was
// promised something since.
func (s State) Accept(b, next unkai.Ballot) (State, bool) {
	switch {
	case b == 0:
		return s, false
	case b == s.Accepted:
		return s, s.Promised == max(b, next)
	case b < s.Promised:
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

// Above is a ballot of a seat above everything seen and above every counter up
// to floor, which that seat may have used.
func Above(seen unkai.Ballot, floor uint64, seat unkai.Seat) unkai.Ballot {
	return unkai.MakeBallot(max(seen.Counter(), floor)+unkai.Stride, seat)
}
