// Package decree is the law by which managers decide the next topology: a chain
// of single decrees, each by Paxos (Lamport 2001, Paxos Made Simple). The decree
// of an epoch is decided by the managers that the topology of the epoch before
// names, so a change of the managers needs no steps of its own.
package decree

import (
	"bytes"

	"unkai"
)

// Ballot orders the attempts to decide one epoch. The zero Ballot is before all.
type Ballot struct {
	Counter uint64       `json:"counter"`
	Node    unkai.NodeID `json:"node"`
}

// Less reports whether b comes before c.
func (b Ballot) Less(c Ballot) bool {
	return b.Counter < c.Counter || b.Counter == c.Counter && b.Node < c.Node
}

// Above is a ballot of a node above another ballot.
func Above(b Ballot, node unkai.NodeID) Ballot { return Ballot{b.Counter + 1, node} }

// State is what a manager must never forget about the epoch that is being
// decided. The zero State of an epoch is that of a manager that was asked
// nothing.
type State struct {
	Epoch    unkai.Epoch `json:"epoch"`
	Promised Ballot      `json:"promised"`
	Accepted Ballot      `json:"accepted"`
	Value    []byte      `json:"value,omitempty"` // at Accepted
}

// For is the state about an epoch: a new one when it was about an earlier.
func (s State) For(e unkai.Epoch) State {
	if s.Epoch != e {
		return State{Epoch: e}
	}
	return s
}

// Prepare is the state after a promise to take part in nothing below b, and
// whether it could be given. The same promise can be given again.
func (s State) Prepare(b Ballot) (State, bool) {
	if b.Less(s.Promised) || b == (Ballot{}) {
		return s, false
	}
	s.Promised = b
	return s, true
}

// Accept is the state after a value was accepted at b, and whether it could be. A
// ballot is for one value only.
func (s State) Accept(b Ballot, value []byte) (State, bool) {
	if b.Less(s.Promised) || b == (Ballot{}) || b == s.Accepted && !bytes.Equal(value, s.Value) {
		return s, false
	}
	s.Promised, s.Accepted, s.Value = b, b, value
	return s, true
}

// Majority is how many of n managers decide.
func Majority(n int) int { return n/2 + 1 }

// Proposer is one attempt to have a value decided: first promises are counted,
// then accepts.
type Proposer struct {
	Ballot   Ballot
	managers int
	value    []byte
	best     Ballot
	yes, no  int
	seen     Ballot
}

// Propose begins an attempt among so many managers, above what was seen.
func Propose(node unkai.NodeID, managers int, value []byte, seen Ballot) Proposer {
	return Proposer{Ballot: Above(seen, node), managers: managers, value: value}
}

// Promised counts a manager's promise and what it had accepted before.
func (p *Proposer) Promised(s State) {
	p.yes++
	if p.best.Less(s.Accepted) {
		p.best, p.value = s.Accepted, s.Value
	}
}

// Accepted counts a manager that has accepted.
func (p *Proposer) Accepted() { p.yes++ }

// Refused counts a manager that did not do it, or that gave no answer; then
// promised is zero.
func (p *Proposer) Refused(promised Ballot) {
	p.no++
	if p.seen.Less(promised) {
		p.seen = promised
	}
}

// Enough reports whether a majority has agreed.
func (p *Proposer) Enough() bool { return p.yes >= Majority(p.managers) }

// Never reports whether no majority will agree any more.
func (p *Proposer) Never() bool { return p.managers-p.no < Majority(p.managers) }

// Value is what has to be proposed: what a manager had accepted at the highest
// ballot, else the proposer's own.
func (p *Proposer) Value() []byte { return p.value }

// Found is the ballot at which a manager had accepted Value; zero: none had accepted
// anything.
func (p *Proposer) Found() Ballot { return p.best }

// Propose goes on from promises to accepts.
func (p *Proposer) Propose() { p.yes, p.no = 0, 0 }

// Seen is the highest ballot heard of; the next attempt must be above it.
func (p *Proposer) Seen() Ballot {
	if p.seen.Less(p.Ballot) {
		return p.Ballot
	}
	return p.seen
}
