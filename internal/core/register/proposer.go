package register

import (
	"unkai"
	"unkai/internal/core/quorum"
)

// Phase is what a proposer asks the replicas for.
type Phase uint8

// The phases. A round begins with the state of one replica, and each phase may
// be left out or repeated.
const (
	// Confirming asks for versions: is what one replica holds chosen?
	Confirming Phase = iota
	// Preparing asks for promises, and for what was accepted before.
	Preparing
	// Accepting asks for a value to be accepted.
	Accepting
)

// Proposer is one coordinator's round at one key. The zero Proposer with a Seat
// is ready for Begin.
//
// Safety rests on these:
//   - A ballot is used for one value only. The seat is the proposer's own, one
//     proposer has one round at a key at a time, and Floor is above every
//     counter of rounds that did not end well and of earlier lives.
//   - A value that depends on what was there is proposed at a ballot that a
//     prepare quorum has promised, on top of the highest value that quorum had
//     accepted (Lamport's P2c): by a phase of promises, by the promises that came
//     with the proposer's own last accept, or because there is one acceptor.
//   - A value that does not depend on it (blind) needs no promise: it may be put
//     behind any value of a lower ballot.
//   - What was proposed and may have been accepted by somebody is not proposed
//     again before a prepare quorum has shown what became of it (Fate), and no
//     result that contradicts it is given before something above it is chosen.
type Proposer struct {
	Seat  unkai.Seat
	Floor uint64 // counters of Seat up to here may have been used
	// Epoch of the bucket under which the next phase is asked. It does not fall
	// within a round.
	Epoch unkai.Epoch

	// Unique is the cas unique of the value that is proposed if this round has made it, and
	// else 0; Base that of what it was made of, or 0. A unique stands for one value, and for
	// what leaves it alone (a touch): what came of another has another one.
	Base, Unique uint64

	Phase  Phase
	Ballot unkai.Ballot // of the promises or accepts that are asked for
	Tally  Tally

	seen unkai.Ballot // the highest promise heard of
	// What was proposed at from and above in this round is the present value.
	from unkai.Ballot
	// first is the lowest ballot of this round at which something may have been
	// accepted by somebody; 0: none.
	first unkai.Ballot
	under unkai.Epoch // first was proposed under it
	held  quorum.Mask // who may have accepted it
	again bool        // something was proposed without success after it
	maybe bool        // some of that may have been chosen, as far as it is known who has it
	tried []attempt   // all of that, in order
}

// attempt is a value that was proposed without success.
type attempt struct{ base, unique uint64 }

// Begin starts a round with what one replica holds.
func (p *Proposer) Begin(local State) {
	p.seen, p.Ballot, p.from, p.first, p.under, p.held, p.again, p.maybe = max(local.Promised, local.Accepted), 0, 0, 0, 0, 0, false, false
	p.Base, p.Unique, p.tried = 0, 0, p.tried[:0]
}

// See takes notice of a ballot, so that the next ones are above it.
func (p *Proposer) See(b unkai.Ballot) { p.seen = max(p.seen, b) }

// Confirm asks for versions next.
func (p *Proposer) Confirm() { p.ask(Confirming) }

// Prepare asks for promises of a new ballot next.
func (p *Proposer) Prepare() {
	p.ask(Preparing)
	p.Ballot = Above(p.seen, p.Floor, p.Seat)
	p.seen = p.Ballot
}

// Propose asks for accepts next, of a new value on top of the promised base.
func (p *Proposer) Propose() {
	p.ask(Accepting)
	p.from = p.Ballot
}

// ProposeAgain asks for accepts next, of a value proposed before, which stands at the
// promised base: the one of that attempt, see Fate.
func (p *Proposer) ProposeAgain(attempt int) {
	t := p.tried[attempt]
	p.Base, p.Unique = t.base, t.unique
	if attempt != len(p.tried)-1 {
		p.from = p.Ballot
	}
	p.ask(Accepting)
}

// ProposeBlind asks for accepts of a value that does not depend on what was
// there; also where there is but one acceptor.
func (p *Proposer) ProposeBlind() {
	p.Ballot = Above(p.seen, p.Floor, p.Seat)
	p.Propose()
}

// ProposeHeir asks for accepts of a value on top of what this proposer had
// chosen last at a ballot, with the promises that went with it.
func (p *Proposer) ProposeHeir(last unkai.Ballot) {
	p.Ballot = last.Heir()
	p.Propose()
}

func (p *Proposer) ask(phase Phase) {
	p.Phase, p.Tally = phase, Tally{First: p.first}
}

// Hopeless ends a phase that can no longer be enough: what comes next has to be
// above what was heard. Whoever was asked and has not certainly refused may
// still do what it was asked for; enough says that so many may have that what was
// proposed would be chosen.
func (p *Proposer) Hopeless(asked quorum.Mask, enough bool) {
	p.See(p.Tally.Seen)
	p.See(p.Ballot)
	held := asked &^ p.Tally.No
	if p.Phase == Accepting && held != 0 {
		p.See(p.Ballot.Heir()) // whoever accepted it has promised that
	}
	p.maybe = p.maybe || p.Phase == Accepting && enough
	if p.Phase != Accepting || held == 0 {
		return
	}
	p.tried = append(p.tried, attempt{p.Base, p.Unique})
	if p.first == 0 {
		p.first, p.under, p.held = p.Ballot, p.Epoch, held
	} else {
		p.again = true
	}
}

// Attempts is how many values were proposed of which something may stand.
func (p *Proposer) Attempts() int { return len(p.tried) }

// Doubt reports whether something that this round proposed may stand.
func (p *Proposer) Doubt() bool { return p.first != 0 }

// MaybeChosen reports whether so many may have accepted something of this round that it
// was chosen by that, and seen. Else nobody has seen what is still as it was proposed.
func (p *Proposer) MaybeChosen() bool { return p.maybe }

// Fate is what became of what a round has proposed without success.
type Fate uint8

// The fates.
const (
	// Nowhere: no replica accepted anything.
	Nowhere Fate = iota
	// Void: nothing was chosen, and will not be once this round has a value
	// chosen at the promised ballot, be it the one that stands.
	Void
	// Stands: a value that was proposed is the highest; it must be proposed again.
	Stands
	// Unclear: something was accepted that may rest on what was proposed, or be in its
	// place; or it may have been forgotten since.
	Unclear
)

// Fate tells it from a prepare quorum's promises, the highest value of which has that cas
// unique; and of what stands which attempt it was, from 0 on.
//
// Where ballots do not tell it, uniques may. Every value but the first was made of another:
// those it came of are its line. What has the unique of an attempt is that, which another
// proposer has found and had accepted. What has a unique that was there before an attempt
// has not that attempt in its line, or it had a later unique; and what is not in the line
// of the highest value was not chosen, and is not once something of that line is.
func (p *Proposer) Fate(unique uint64) (Fate, int) {
	fate, last := p.fate(), len(p.tried)-1
	if fate != Unclear || unique == 0 {
		return fate, last
	}
	marked, older := true, false
	for i := last; i >= 0; i-- {
		if p.tried[i].unique == unique {
			return Stands, i
		}
		marked = marked && p.tried[i].unique != 0
		older = older || p.tried[i].base == unique
	}
	if marked && older {
		return Void, last
	}
	return Unclear, last
}

// fate is what ballots tell.
//
// What was chosen comes after what was proposed, or is that, until it is forgotten; and
// every prepare quorum finds it, or the floor up to which it was forgotten, under later
// epochs too (docs/decisions/0015). So who finds only what was accepted before it, under
// no later epoch, knows that nothing of it was chosen. Under a later epoch a lower ballot
// may stand in its place.
func (p *Proposer) fate() Fate {
	best := p.Tally.Best
	switch {
	case p.first == 0:
		return Nowhere
	case best < p.first && p.Tally.Forgot < p.first && p.Tally.Epoch <= p.under:
		return Void
	case best < p.first:
		return Unclear
	case best.Seat() == p.Seat && best >= p.from:
		return Stands
	case !p.again && p.Epoch == p.under && p.held&^p.Tally.Still == 0:
		// Whoever may hold it has promised nobody anything since, but this round
		// now: so nobody has seen it.
		return Void
	}
	return Unclear
}

// Tally is who has answered what in one phase. Members are numbered as in the
// rule that decides when it is enough.
type Tally struct {
	Yes  quorum.Mask // promised or accepted; while confirming: hold Best
	No   quorum.Mask // certainly did not
	Lost quorum.Mask // may have
	Seen unkai.Ballot
	// Best is the ballot of the last thing accepted by those who have answered
	// (State.After), Epoch when that was, and At the first who holds it.
	Best  unkai.Ballot
	Epoch unkai.Epoch
	At    int
	// First is what the round proposed before, 0: nothing; Still are those whose
	// state was just what accepting that had left.
	First unkai.Ballot
	Still quorum.Mask
	// Forgot is the ballot up to which somebody who holds nothing may have purged it.
	Forgot unkai.Ballot
}

// Version counts what member i holds, as an answer to Confirming.
func (t *Tally) Version(i int, s State) {
	switch {
	case s.After(t.Epoch, t.Best) || t.Yes == 0 && t.No == 0:
		t.No |= t.Yes
		t.Best, t.Epoch, t.At, t.Yes = s.Accepted, s.Epoch, i, quorum.Mask(0).With(i)
	case s.Accepted == t.Best:
		t.Yes = t.Yes.With(i)
	default:
		t.No = t.No.With(i)
	}
	t.Seen = max(t.Seen, s.Promised)
}

// Promise counts a promise of member i, which was in that state before, and whose
// bucket has forgotten things up to a floor.
func (t *Tally) Promise(i int, was State, floor unkai.Ballot) {
	if was.Accepted == 0 {
		t.Forgot = max(t.Forgot, floor)
	}
	if t.Yes == 0 || was.After(t.Epoch, t.Best) {
		t.Best, t.Epoch, t.At = was.Accepted, was.Epoch, i
	}
	if was.Accepted == t.First && was.Promised == t.First.Heir() {
		t.Still = t.Still.With(i)
	}
	t.Yes = t.Yes.With(i)
}

// Accept counts that member i has accepted.
func (t *Tally) Accept(i int) { t.Yes = t.Yes.With(i) }

// Refuse counts that member i did not, because it has promised more.
func (t *Tally) Refuse(i int, promised unkai.Ballot) {
	t.No = t.No.With(i)
	t.Seen = max(t.Seen, promised)
}

// Fail counts that member i certainly did not.
func (t *Tally) Fail(i int) { t.No = t.No.With(i) }

// Lose counts that member i may have, or not.
func (t *Tally) Lose(i int) { t.Lost = t.Lost.With(i) }

// Answered are all of whom something is known.
func (t *Tally) Answered() quorum.Mask { return t.Yes | t.No | t.Lost }
