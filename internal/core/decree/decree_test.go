package decree_test

import (
	"fmt"
	"testing"

	"unkai"
	"unkai/internal/core/decree"
)

// world is three managers and some proposers at one epoch; every interleaving of
// their messages is tried, each arriving or getting lost.
type world struct {
	acceptors [3]decree.State
	proposers []proposer
	decided   string
}

type proposer struct {
	p         decree.Proposer
	accepting bool
	tries     int
	asked     [3]bool // by this phase
	done      bool
}

type explorer struct {
	t       *testing.T
	bug     string
	seen    map[string]bool
	tries   int
	bad     string
	decided int
}

func (x *explorer) run(w world, losses int) {
	key := fmt.Sprint(w, losses)
	if x.bad != "" || x.seen[key] {
		return
	}
	x.seen[key] = true
	for i := range w.proposers {
		pr := &w.proposers[i]
		if pr.done {
			continue
		}
		for a := range w.acceptors {
			if pr.asked[a] {
				continue
			}
			x.run(x.step(w, i, a, true, true), losses)
			if losses > 0 {
				x.run(x.step(w, i, a, false, false), losses-1)
				x.run(x.step(w, i, a, true, false), losses-1)
			}
		}
	}
	for a := range w.acceptors { // a manager starts again, with what it wrote down
		if x.bug == "forget" && w.acceptors[a].Promised != w.acceptors[a].Accepted {
			next := w
			next.proposers = append([]proposer(nil), w.proposers...)
			next.acceptors[a].Promised = next.acceptors[a].Accepted
			x.run(next, losses)
		}
	}
}

// step brings a proposer's question to a manager, and its answer back, if they
// arrive.
func (x *explorer) step(w world, i, a int, arrives, answered bool) world {
	w.proposers = append([]proposer(nil), w.proposers...)
	pr := &w.proposers[i]
	pr.asked[a] = true
	before := w.acceptors[a]
	ok := false
	if arrives {
		if pr.accepting {
			w.acceptors[a], ok = before.Accept(pr.p.Ballot, pr.p.Value())
		} else {
			w.acceptors[a], ok = before.Prepare(pr.p.Ballot)
		}
	}
	switch {
	case !answered:
		pr.p.Refused(decree.Ballot{})
	case !ok:
		pr.p.Refused(before.Promised)
	case pr.accepting:
		pr.p.Accepted()
	case x.bug == "ignore":
		pr.p.Promised(decree.State{})
	default:
		pr.p.Promised(before)
	}
	if x.bug == "minority" && pr.accepting && ok && answered || pr.p.Enough() {
		if !pr.accepting {
			pr.accepting, pr.asked = true, [3]bool{}
			pr.p.Propose()
			return w
		}
		pr.done = true
		value := string(pr.p.Value())
		x.decided++
		if w.decided != "" && w.decided != value {
			x.bad = fmt.Sprintf("%q and %q were decided", w.decided, value)
		}
		w.decided = value
		return w
	}
	if pr.p.Never() || pr.asked == [3]bool{true, true, true} {
		pr.tries++
		pr.done = pr.tries > x.tries
		pr.accepting, pr.asked = false, [3]bool{}
		pr.p = decree.Propose(unkai.NodeID(i+1), 3, []byte{byte('a' + i)}, pr.p.Seen())
	}
	return w
}

func explore(t *testing.T, bug string, proposers, tries, losses int) *explorer {
	x := &explorer{t: t, bug: bug, seen: map[string]bool{}, tries: tries}
	w := world{}
	for i := range proposers {
		w.proposers = append(w.proposers, proposer{p: decree.Propose(unkai.NodeID(i+1), 3, []byte{byte('a' + i)}, decree.Ballot{})})
	}
	for a := range w.acceptors {
		w.acceptors[a] = decree.State{Epoch: 2}
	}
	x.run(w, losses)
	return x
}

func TestOneValueIsDecided(t *testing.T) {
	for _, c := range []struct{ proposers, tries, losses int }{{2, 1, 1}, {2, 2, 0}, {3, 0, 0}} {
		x := explore(t, "", c.proposers, c.tries, c.losses)
		t.Logf("%+v: %d states, decided %d times", c, len(x.seen), x.decided)
		if x.bad != "" || x.decided == 0 {
			t.Errorf("%+v: %s", c, x.bad)
		}
	}
}

func TestPlantedBugsAreFound(t *testing.T) {
	for _, bug := range []string{"forget", "ignore", "minority"} {
		if x := explore(t, bug, 2, 1, 1); x.bad == "" {
			t.Errorf("%s: not found in %d states", bug, len(x.seen))
		}
	}
}

func TestAStateIsAboutOneEpoch(t *testing.T) {
	s, _ := decree.State{Epoch: 3}.Accept(decree.Ballot{Counter: 5, Node: 1}, []byte("v"))
	if got := s.For(3); string(got.Value) != "v" {
		t.Errorf("%+v", got)
	}
	if got := s.For(4); got.Value != nil || got.Promised != (decree.Ballot{}) || got.Epoch != 4 {
		t.Errorf("%+v", got)
	}
}
