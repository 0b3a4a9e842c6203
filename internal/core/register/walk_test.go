package register_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"unkai"
	"unkai/internal/core/register"
)

// walk goes one way of all, to its end.
func (x *explorer) walk(w *world, l limits, r *rand.Rand) {
	for x.bad == "" {
		w.forget()
		ways := slices.Collect(x.ways(w, l))
		if len(ways) == 0 {
			x.finish(w)
			return
		}
		w, l = ways[r.IntN(len(ways))]()
	}
}

var walks = flag.Int("walks", 2_000, "how many random ways to go, of each kind")

// wander goes random ways with more attempts than can be explored, and reports the first
// that went wrong.
func wander(t *testing.T, bug string, n int, scripts ...string) *explorer {
	t.Helper()
	x := &explorer{t: t, bug: bug, limits: limits{tries: 4}, began: "x"}
	for seed := range uint64(n) {
		r := rand.New(rand.NewPCG(seed, 0))
		w := &world{}
		for i := range w.accs {
			w.accs[i] = acceptor{State: register.State{Promised: 1 << 20, Accepted: 1 << 20}, value: "x", made: 1 << 20}
		}
		for i, s := range scripts {
			w.procs = append(w.procs, process{p: register.Proposer{Seat: unkai.Seat(i + 1)}, script: s, letter: byte('A' + 10*i)})
		}
		x.walk(w, limits{silent: 3, giveUp: 3, twice: 2, purges: 2}, r)
		if x.bad != "" {
			x.bad = fmt.Sprintf("walk %d: %s", seed, x.bad)
			break
		}
	}
	return x
}

func TestWalks(t *testing.T) {
	for _, scripts := range [][]string{{"a", "a"}, {"at", "t"}, {"t", "ta"}, {"sa", "rd"}, {"ta", "dr"}, {"a", "a", "a"}, {"at", "ta", "rs"}} {
		doubts := 0
		for _, bug := range []string{"ballots alone", "no patience", ""} { // the first two are no mistakes, but know less
			x := wander(t, bug, *walks, scripts...)
			t.Logf("%v %q: %d ends, %d doubts", scripts, bug, x.finished, x.doubts)
			if x.bad != "" {
				t.Errorf("%v: %s", scripts, x.bad)
			}
			if bug == "" && x.doubts > doubts {
				t.Errorf("%v: %d doubts, and %d by ballots alone", scripts, x.doubts, doubts)
			}
			doubts = max(doubts, x.doubts)
		}
	}
}

// Random ways find these mistakes.
func TestWalksFindPlantedBugs(t *testing.T) {
	for _, c := range []struct {
		bug     string
		scripts []string
	}{
		{"a touch is another value", []string{"t", "ta"}},
		{"the last attempt's answer", []string{"a", "a", "a"}},
		{"try again", []string{"a", "a"}},
		{"ignore what was accepted", []string{"a", "a"}},
		{"forget a promise", []string{"a", "aa"}},
		{"purge alone", []string{"ta", "dr"}},
	} {
		t.Run(c.bug, func(t *testing.T) {
			if x := wander(t, c.bug, 200_000, c.scripts...); x.bad == "" {
				t.Errorf("not found on %d ways", x.finished)
			} else {
				t.Log(x.bad)
			}
		})
	}
}
