package sim_test

import (
	"flag"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"unkai/internal/sim"
)

var steps = flag.Bool("steps", false, "have every deed done at every step of a hand-over, instead of one")

// Whatever happens at whatever step of a hand-over, nothing is lost, and it comes to an
// end; and an operator who wants another job meanwhile is told that one is running.
func TestHandOver(t *testing.T) {
	s := *seed
	if s == 0 {
		s = next()
	}
	r := rand.New(rand.NewPCG(s, 0x57e9))
	for at, step := range sim.Steps {
		one := r.IntN(len(sim.Deeds))
		for i, deed := range sim.Deeds {
			if !*steps && i != one {
				continue
			}
			job := sim.Moves[(at+i)%len(sim.Moves)] // each of them at each step, and with each deed
			t.Run(strings.ReplaceAll(step+", "+deed, " ", "_"), func(t *testing.T) {
				cfg := sim.Config{
					Seed: s, Length: 25 * time.Second, Nodes: 3, Clients: 4, Rest: 50 * time.Millisecond, Calm: true,
					HandOver: sim.HandOver{Job: job, Step: step, Deed: deed},
				}
				cfg.Nodes += map[string]int{"detach": 1, "weigh": 2}[job] // with fewer nothing would move
				r := run(t, cfg)
				t.Logf("%s: %d answered, %d not applied, %d in doubt, %d events, faults %v", job, r.Answered, r.NotApplied, r.InDoubt, r.Events, r.Faults)
				if r.Faults["deed "+deed] != 1 {
					t.Error("that step has not come")
				}
				judge(t, r, s)
			})
		}
	}
	if t.Failed() {
		t.Logf("to see it again: go test ./internal/sim -run TestHandOver -steps=%v -seed %d", *steps, s)
	}
}
