package sim_test

import (
	"fmt"
	"testing"
	"time"

	"unkai/internal/sim"
)

// When more is lost than is promised to be survived, an operator who gives it up has a
// cluster that serves again: by its own promises, all replicas equal.
func TestGiveUpLost(t *testing.T) {
	s := *seed
	if s == 0 {
		s = next()
	}
	for nodes := 4; nodes <= 5; nodes++ {
		t.Run(fmt.Sprint(nodes), func(t *testing.T) {
			r := run(t, sim.Config{
				Seed: s, Length: 10 * time.Second, Nodes: nodes, Clients: 4, Rest: 50 * time.Millisecond, Calm: true, Ruin: true,
			})
			t.Logf("%d answered, %d not applied, %d in doubt, orders %v", r.Answered, r.NotApplied, r.InDoubt, r.Did)
			if r.Did["given up"] != 1 {
				t.Error("nothing was given up")
			}
			judge(t, r, s)
		})
	}
}
