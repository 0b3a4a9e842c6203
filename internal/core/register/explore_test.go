package register_test

import (
	"cmp"
	"encoding/binary"
	"flag"
	"fmt"
	"hash/maphash"
	"iter"
	"slices"
	"strings"
	"testing"

	"unkai"
	"unkai/internal/core/quorum"
	"unkai/internal/core/register"
)

// The explorer tries every interleaving of a few proposers and three acceptors.
// A question may arrive at any time, also long after its proposer has gone on,
// or twice, or never, and its answer may get lost; a proposer may give up
// waiting. (An answer that is merely slow is one that gets lost: it arrives
// when the others have decided the phase.) A value is the list of the operations
// that made it, so that a lost, repeated or reordered operation shows.

// act is what an operation does: append its letter, set it alone, delete, read, or touch:
// append its letter to what is there, which keeps its cas unique.
// What is deleted is an empty value, which acceptors purge when they may.
type act byte

const (
	appends act = 'a'
	sets    act = 's'
	deletes act = 'd'
	reads   act = 'r'
	touches act = 't'
)

type acceptor struct {
	register.State
	value string
	made  uint64 // the cas unique of value
	floor unkai.Ballot
}

// message is a question on its way.
type message struct {
	from, to int
	poll     int // the phase of the proposer that asked
	phase    register.Phase
	ballot   unkai.Ballot
	next     unkai.Ballot
	value    string
	made     uint64
}

type process struct {
	p      register.Proposer
	script string // operations to come
	now    act    // under way; 0: none
	letter byte
	poll   int
	asked  quorum.Mask
	value  string   // that is being proposed
	made   uint64   // its cas unique
	base   string   // the highest that was found
	before uint64   // its cas unique
	tried  []string // the results of attempts
	result string   // what the operation makes of what it found: value, until somebody touches that
	owned  unkai.Ballot
	tries  int
	floor  uint64
}

// event is the begin or the end of an operation.
type event struct {
	who     int
	op      act
	letter  byte
	end     bool
	result  string // of a read or an append: the value after it
	outcome byte   // 'k' done, 'f' certainly not, '?' in doubt
}

type world struct {
	accs    [3]acceptor
	procs   []process
	net     []message
	history []event
}

func (w *world) clone() *world {
	c := *w
	c.procs, c.net, c.history = slices.Clone(w.procs), slices.Clone(w.net), slices.Clone(w.history)
	for i := range c.procs {
		c.procs[i].p.Part()
	}
	return &c
}

// key tells worlds apart, but for what two of them have in common by chance in
// 64 bits.
func (x *explorer) key(w *world, l limits) uint64 {
	b := x.buf[:0]
	num := func(n ...uint64) {
		for _, n := range n {
			b = binary.AppendUvarint(b, n)
		}
	}
	text := func(s string) { num(uint64(len(s))); b = append(b, s...) }
	for _, a := range w.accs {
		num(uint64(a.Promised), uint64(a.Accepted), uint64(a.floor), a.made)
		text(a.value)
	}
	for i := range w.procs {
		pr := &w.procs[i]
		p := &pr.p
		num(uint64(p.Phase), uint64(p.Ballot), uint64(p.Tally.Yes), uint64(p.Tally.No), uint64(p.Tally.Lost), uint64(p.Tally.Seen), uint64(p.Tally.Best))
		num(p.Inner()...)
		num(uint64(len(pr.script)), uint64(pr.now), uint64(pr.letter), uint64(pr.poll), uint64(pr.owned), uint64(pr.tries), pr.floor)
		num(pr.made, pr.before)
		text(pr.value)
		text(pr.result)
		text(pr.base)
		for _, v := range pr.tried {
			text(v)
		}
	}
	slices.SortFunc(w.net, func(a, b message) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.poll, b.poll), cmp.Compare(a.to, b.to))
	})
	for _, m := range w.net {
		num(uint64(m.from), uint64(m.poll), uint64(m.to))
	}
	for _, e := range w.history {
		b = append(b, e.letter, e.outcome)
		text(e.result)
	}
	num(uint64(l.silent), uint64(l.giveUp), uint64(l.twice), uint64(l.purges))
	x.buf = b
	return maphash.Bytes(keySeed, b)
}

var keySeed = maphash.MakeSeed()

type explorer struct {
	t        *testing.T
	seen     map[uint64]struct{}
	buf      []byte
	limits   limits
	bug      string
	bad      string
	finished int
	doubts   int
	began    string // what there was at first
}

type limits struct {
	silent int // answers that get lost, in a run
	giveUp int // phases in which a proposer stops waiting
	twice  int // questions that arrive again
	purges int // tombstones forgotten
	tries  int // rounds of an operation before it fails
}

const (
	writeQuorum   = 2
	prepareQuorum = 2
)

var (
	everybody = quorum.First(3)
	ruleW     = quorum.Rule{Present: quorum.Group{Members: everybody, Need: writeQuorum}}
	ruleP     = quorum.Rule{Present: quorum.Group{Members: everybody, Need: prepareQuorum}}
)

// run explores all that can follow.
func (x *explorer) run(w *world, l limits) {
	if x.bad != "" {
		return
	}
	w.forget()
	key := x.key(w, l)
	if _, ok := x.seen[key]; ok {
		return
	}
	x.seen[key] = struct{}{}
	if w.idle() {
		x.finish(w)
		return
	}
	for way := range x.ways(w, l) {
		x.run(way())
	}
}

// idle reports whether nobody has anything left to do.
func (w *world) idle() bool {
	return !slices.ContainsFunc(w.procs, func(pr process) bool { return pr.now != 0 || pr.script != "" })
}

// ways are all that can happen next.
func (x *explorer) ways(w *world, l limits) iter.Seq[func() (*world, limits)] {
	return func(yield func(func() (*world, limits)) bool) {
		way := func(spend func(*limits), do func(*world)) bool {
			return yield(func() (*world, limits) {
				next, l := w.clone(), l
				spend(&l)
				do(next)
				return next, l
			})
		}
		free := func(*limits) {}
		for i := range w.procs {
			switch pr := &w.procs[i]; {
			case pr.now != 0 && l.giveUp > 0:
				if !way(func(l *limits) { l.giveUp-- }, func(w *world) { x.giveUp(w, i) }) {
					return
				}
			case pr.now == 0 && pr.script != "":
				if !way(free, func(w *world) { x.start(w, i) }) {
					return
				}
			}
		}
		for i := range w.accs {
			if l.purges > 0 && x.mayPurge(w, i) && !way(func(l *limits) { l.purges-- }, func(w *world) { w.accs[i].purge() }) {
				return
			}
		}
		for i, m := range w.net {
			arrive := func(answer, stays bool) func(*world) {
				return func(w *world) {
					if !stays {
						w.net = slices.Delete(w.net, i, i+1)
					}
					x.deliver(w, m, answer)
				}
			}
			if !way(free, arrive(true, false)) ||
				l.silent > 0 && w.awaits(m) && !way(func(l *limits) { l.silent-- }, arrive(false, false)) ||
				l.twice > 0 && !way(func(l *limits) { l.twice-- }, arrive(true, true)) {
				return
			}
		}
	}
}

// purge forgets a tombstone.
func (a *acceptor) purge() {
	a.floor = max(a.floor, a.Promised)
	a.State, a.value, a.made = register.State{}.Above(a.floor), "", 0
}

// mayPurge reports whether an acceptor holds a tombstone for which all others make up
// (docs/decisions/0016).
func (x *explorer) mayPurge(w *world, i int) bool {
	t := &w.accs[i]
	if t.Accepted == 0 || t.value != "" {
		return false
	}
	for _, a := range w.accs {
		level := a.Accepted >= t.Accepted || a.Accepted == 0 && a.Promised >= t.Accepted
		switch x.bug {
		case "purge alone":
			level = true
		case "nothing is enough":
			level = level || a.Accepted == 0
		}
		if !level {
			return false
		}
	}
	return true
}

// forget takes out of the net what can do nothing any more.
func (w *world) forget() {
	w.net = slices.DeleteFunc(w.net, func(m message) bool {
		a := &w.accs[m.to]
		if w.awaits(m) {
			return false
		}
		return m.phase == register.Confirming || m.ballot < a.Promised || m.ballot == a.Promised && m.phase == register.Preparing || m.ballot == a.Accepted
	})
}

// awaits reports whether somebody waits for the answer to a question.
func (w *world) awaits(m message) bool {
	pr := &w.procs[m.from]
	return pr.now != 0 && pr.poll == m.poll && !pr.p.Tally.Answered().Has(m.to)
}

// deliver lets a question arrive, and its answer too if that is wanted.
func (x *explorer) deliver(w *world, m message, answer bool) {
	a := &w.accs[m.to]
	was, found, made, ok := a.State, a.value, a.made, true
	switch m.phase {
	case register.Confirming:
	case register.Preparing:
		a.State, ok = a.Prepare(m.ballot)
	case register.Accepting:
		if a.State, ok = a.Accept(m.ballot, m.next); ok && a.State != was {
			a.value, a.made = m.value, m.made
		}
	}
	if answer && w.awaits(m) {
		x.answer(w, m, was, found, made, ok)
	}
}

// start begins the next operation of a process, at the replica beside it.
func (x *explorer) start(w *world, i int) {
	pr := &w.procs[i]
	pr.now, pr.script, pr.tries = act(pr.script[0]), pr.script[1:], 0
	pr.letter++
	w.history = append(w.history, event{who: i, op: pr.now, letter: pr.letter})
	local := &w.accs[i]
	pr.p.Floor = pr.floor
	pr.p.Begin(local.State)
	pr.base, pr.before, pr.tried = local.value, local.made, nil
	sure := pr.owned != 0 && pr.owned == local.Accepted && local.Promised == pr.owned.Heir()
	if x.bug == "own everything" {
		sure = local.Promised.Seat() == pr.p.Seat
	}
	switch {
	case pr.now == reads:
		pr.p.Confirm()
	case pr.now == sets:
		pr.p.ProposeBlind()
		x.apply(pr)
	case pr.now == deletes && local.Accepted == 0: // is it not there indeed?
		pr.p.Prepare()
	case sure:
		pr.p.ProposeHeir(pr.owned)
		x.apply(pr)
	default:
		pr.p.Prepare()
	}
	x.ask(w, i)
}

func (x *explorer) ask(w *world, i int) {
	pr := &w.procs[i]
	pr.poll++
	pr.asked = everybody
	for to := range w.accs {
		w.net = append(w.net, message{
			from: i, to: to, poll: pr.poll, phase: pr.p.Phase, ballot: pr.p.Ballot,
			next: x.heir(&pr.p), value: pr.value, made: pr.made,
		})
	}
}

func (x *explorer) heir(p *register.Proposer) unkai.Ballot {
	if p.Phase != register.Accepting {
		return 0
	}
	return p.Ballot.Heir()
}

// answer counts an answer.
func (x *explorer) answer(w *world, m message, was register.State, found string, made uint64, ok bool) {
	pr := &w.procs[m.from]
	t := &pr.p.Tally
	best := t.Answered() == 0
	switch {
	case m.phase == register.Confirming:
		best = best || was.Accepted > t.Best
		t.Version(m.to, was)
	case m.phase == register.Preparing && ok:
		best = t.Yes == 0 || was.Accepted > t.Best
		floor := w.accs[m.to].floor
		if x.bug == "nothing is a proof" {
			floor = 0
		}
		t.Promise(m.to, was, floor)
	case ok:
		t.Accept(m.to)
	default:
		t.Refuse(m.to, was.Promised)
	}
	ignored := m.phase == register.Preparing && x.bug == "ignore what was accepted"
	if best && ok && m.phase != register.Accepting && !ignored {
		pr.base, pr.before = found, made
	}
	x.advance(w, m.from)
}

// giveUp lets a process stop waiting for answers.
func (x *explorer) giveUp(w *world, i int) {
	t := &w.procs[i].p.Tally
	for to := range w.accs {
		if !t.Answered().Has(to) {
			t.Lose(to)
		}
	}
	x.advance(w, i)
}

// apply makes the value to be proposed of the one that was found.
func (x *explorer) apply(pr *process) {
	pr.p.Base, pr.p.Unique, pr.made = pr.before, uint64(pr.p.Ballot), uint64(pr.p.Ballot)
	switch pr.now {
	case appends:
		pr.value = pr.base + string(pr.letter)
	case sets:
		pr.value = string(pr.letter)
	case deletes:
		pr.value, pr.made = "", 0
	default:
		pr.value, pr.made, pr.p.Unique = pr.base, pr.before, 0
		if pr.now == touches && pr.base != "" {
			pr.value += string(pr.letter)
		}
		if x.bug == "a touch is another value" {
			pr.p.Unique = uint64(pr.p.Ballot)
		}
	}
	pr.result = pr.value
}

// advance does what the phase's answers allow.
func (x *explorer) advance(w *world, i int) {
	pr := &w.procs[i]
	p := &pr.p
	rule := ruleW
	if p.Phase == register.Preparing {
		rule = ruleP
	}
	if x.bug == "one too few" && p.Phase == register.Accepting {
		rule.Present.Need--
	}
	switch {
	case rule.Enough(p.Tally.Yes):
		x.enough(w, i)
	case rule.Never(p.Tally.No|p.Tally.Lost) || p.Phase == register.Confirming && p.Tally.Answered() == everybody:
		x.never(w, i)
	}
}

func (x *explorer) enough(w *world, i int) {
	pr := &w.procs[i]
	p := &pr.p
	switch p.Phase {
	case register.Confirming:
		pr.result = pr.base
		x.end(w, i, 'k')
		return
	case register.Accepting:
		pr.owned = p.Ballot
		x.end(w, i, 'k')
		return
	}
	unique := pr.before
	if x.bug == "ballots alone" {
		unique = 0
	}
	fate, attempt := p.Fate(unique)
	switch fate {
	case register.Unclear:
		if p.Tally.Answered() != everybody && x.bug != "no patience" {
			return // who has not answered may know
		}
		if x.bug != "try again" {
			x.end(w, i, '?')
			return
		}
		fallthrough
	case register.Nowhere, register.Void:
		p.Propose()
		x.apply(pr)
	case register.Stands:
		pr.value, pr.made, pr.result = pr.base, pr.before, pr.tried[attempt]
		if x.bug == "the last attempt's answer" {
			pr.result = pr.tried[len(pr.tried)-1]
		}
		p.ProposeAgain(attempt)
	}
	x.ask(w, i)
}

func (x *explorer) never(w *world, i int) {
	pr := &w.procs[i]
	p := &pr.p
	p.Hopeless(pr.asked, true)
	for len(pr.tried) < p.Attempts() {
		pr.tried = append(pr.tried[:len(pr.tried):len(pr.tried)], pr.result)
	}
	if x.bug == "certain too early" && p.Phase == register.Accepting && p.Tally.Yes == 0 {
		x.end(w, i, 'f')
		return
	}
	if pr.tries++; pr.tries > x.limits.tries {
		if p.Doubt() && pr.now != reads {
			x.end(w, i, '?')
		} else {
			x.end(w, i, 'f')
		}
		return
	}
	p.Prepare()
	x.ask(w, i)
}

func (x *explorer) end(w *world, i int, outcome byte) {
	pr := &w.procs[i]
	if outcome != 'k' {
		pr.owned = 0
	}
	if outcome == '?' {
		x.doubts++
	}
	pr.floor = max(pr.floor, pr.p.Ballot.Counter())
	w.history = append(w.history, event{who: i, op: pr.now, letter: pr.letter, end: true, result: pr.result, outcome: outcome})
	pr.now = 0
	if x.bug == "forget a promise" {
		a := &w.accs[i]
		a.Promised = a.Accepted
	}
}

// finish judges a history when nothing can happen any more.
func (x *explorer) finish(w *world) {
	x.finished++
	if !linearizable(x.began, w.history) {
		x.bad = describe(w.history)
	}
}

func describe(history []event) string {
	var b strings.Builder
	for _, e := range history {
		if e.end {
			fmt.Fprintf(&b, "%c ends %c %q; ", e.letter, e.outcome, e.result)
		} else {
			fmt.Fprintf(&b, "%c begins (%c); ", e.letter, e.op)
		}
	}
	return b.String()
}

// linearizable tries every order of the operations.
func linearizable(began string, history []event) bool {
	type op struct {
		kind       act
		letter     byte
		begin, end int
		result     string
		outcome    byte
	}
	var ops []op
	for i, e := range history {
		if !e.end {
			ops = append(ops, op{kind: e.op, letter: e.letter, begin: i, end: len(history), outcome: '?'})
			continue
		}
		for j := range ops {
			if ops[j].letter == e.letter {
				ops[j].result, ops[j].outcome = e.result, e.outcome
				if e.outcome == 'k' {
					ops[j].end = i
				}
			}
		}
	}
	var try func(value string, left []op) bool
	try = func(value string, left []op) bool {
		must := false
		for _, o := range left {
			must = must || o.outcome == 'k'
		}
		if !must {
			return true
		}
		for i, o := range left {
			early := slices.ContainsFunc(left, func(other op) bool { return other.outcome == 'k' && other.end < o.begin })
			if early || o.outcome == 'f' || o.outcome == '?' && o.kind == reads {
				continue
			}
			after := value
			switch o.kind {
			case appends:
				after += string(o.letter)
			case sets:
				after = string(o.letter)
			case deletes:
				after = ""
			case touches:
				if value != "" {
					after += string(o.letter)
				}
			}
			if o.outcome == 'k' && o.result != after {
				continue
			}
			if try(after, slices.Delete(slices.Clone(left), i, i+1)) {
				return true
			}
		}
		return false
	}
	return try(began, ops)
}

func explore(t *testing.T, bug string, l limits, scripts ...string) *explorer {
	t.Helper()
	x := &explorer{t: t, seen: map[uint64]struct{}{}, limits: l, bug: bug}
	w := &world{}
	for i, s := range scripts {
		w.procs = append(w.procs, process{p: register.Proposer{Seat: unkai.Seat(i + 1)}, script: s, letter: byte('A' + 10*i)})
	}
	x.run(w, l)
	return x
}

var exhaustive = flag.Bool("exhaustive", false, "also explore what takes minutes")

func TestEveryInterleaving(t *testing.T) {
	for _, c := range []struct {
		scripts []string
		limits  limits
		long    bool
	}{
		{[]string{"a", "a"}, limits{tries: 1}, false},
		{[]string{"a", "a"}, limits{silent: 1, tries: 1}, false},
		{[]string{"s", "a"}, limits{giveUp: 1, tries: 1}, false},
		{[]string{"s", "r"}, limits{silent: 1, giveUp: 1, twice: 1, tries: 1}, false},
		{[]string{"a", "r"}, limits{silent: 1, giveUp: 1, tries: 1}, false},
		{[]string{"a", "d"}, limits{giveUp: 1, purges: 3, tries: 1}, true},
		{[]string{"a", "da"}, limits{giveUp: 1, purges: 3, tries: 1}, true},
		{[]string{"a", "rd"}, limits{silent: 1, giveUp: 1, purges: 3, tries: 1}, true},
		{[]string{"a", "a"}, limits{tries: 2}, true},
		{[]string{"aa", "a"}, limits{tries: 1}, true},
		{[]string{"a", "a"}, limits{silent: 1, giveUp: 1, twice: 1, tries: 1}, true},
		{[]string{"s", "ar"}, limits{silent: 1, giveUp: 1, tries: 1}, true},
	} {
		if c.long && !*exhaustive {
			continue
		}
		x := explore(t, "", c.limits, c.scripts...)
		t.Logf("%v %+v: %d states, %d ends, %d doubts", c.scripts, c.limits, len(x.seen), x.finished, x.doubts)
		if x.bad != "" {
			t.Fatalf("%v: %s", c.scripts, x.bad)
		}
	}
}

// The explorer finds each of these mistakes.
func TestPlantedBugsAreFound(t *testing.T) {
	some := limits{silent: 1, giveUp: 1, tries: 1}
	for _, c := range []struct {
		bug     string
		limits  limits
		scripts []string
	}{
		{"one too few", some, []string{"a", "a"}},
		{"ignore what was accepted", some, []string{"a", "a"}},
		{"forget a promise", some, []string{"a", "aa"}},
		{"own everything", some, []string{"aa", "a"}},
		{"try again", some, []string{"a", "a"}},
		{"certain too early", some, []string{"a", "ar"}},
	} {
		t.Run(c.bug, func(t *testing.T) {
			x := explore(t, c.bug, c.limits, c.scripts...)
			if x.bad == "" {
				t.Errorf("not found in %d states", len(x.seen))
			} else {
				t.Logf("after %d states: %s", len(x.seen), x.bad)
			}
		})
	}
}

// From here on, too, nothing can go wrong, unless with a mistake about purging.
func TestPurging(t *testing.T) {
	for bug, at := range map[string]func(*explorer) *world{
		"purge alone": func(*explorer) *world { // one has missed the delete
			w := deleted()
			w.accs[2].State, w.accs[2].value = register.State{Promised: 5 << 20, Accepted: 5 << 20}, "X"
			return w
		},
		"nothing is enough": func(*explorer) *world { // one gets late what was deleted
			w := deleted()
			w.procs = append(w.procs, process{poll: 1})
			w.net = []message{{from: 1, to: 2, phase: register.Accepting, ballot: 5 << 20, value: "X"}}
			return w
		},
		"nothing is a proof": func(x *explorer) *world { // one does not know that it was chosen
			w := &world{procs: []process{
				{p: register.Proposer{Seat: 1}, script: "a", letter: 'A'},
				{p: register.Proposer{Seat: 2}, script: "dr", letter: 'K'},
			}}
			x.start(w, 0)
			for _, answer := range []bool{true, false} { // promises, and then accepts that are not answered
				for _, m := range w.net {
					x.deliver(w, m, answer)
				}
				w.net = slices.DeleteFunc(w.net, func(m message) bool { return m.poll < w.procs[0].poll || !answer })
			}
			x.giveUp(w, 0)
			w.history = append(w.history, event{who: 1, op: reads, letter: 'R'}, event{who: 1, op: reads, letter: 'R', end: true, result: "B", outcome: 'k'})
			return w
		},
	} {
		for _, planted := range []string{"", bug} {
			if planted == "" && bug == "nothing is a proof" && !*exhaustive {
				continue // that takes half a minute
			}
			l := limits{purges: 3, tries: 2}
			x := &explorer{t: t, seen: map[uint64]struct{}{}, limits: l, bug: planted}
			x.run(at(x), l)
			t.Logf("%q: %d states, %d ends: %s", planted, len(x.seen), x.finished, x.bad)
			if (x.bad != "") != (planted != "") || x.finished == 0 && planted == "" {
				t.Errorf("with mistake %q: %q", planted, x.bad)
			}
		}
	}
}

// deleted is a world in which two acceptors hold a tombstone and the third nothing,
// and somebody is about to read.
func deleted() *world {
	w := &world{procs: []process{{p: register.Proposer{Seat: 1}, script: "r", letter: 'A'}}}
	for i := range 2 {
		w.accs[i].State = register.State{Promised: 6 << 20, Accepted: 6 << 20}
	}
	return w
}
