package node_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"unkai/internal/admin"
	"unkai/internal/node"
)

// A node whose receiver is slow brings less, and any node says so of the job while it
// runs.
func TestAJobSaysWhatItIsSlowedBy(t *testing.T) {
	t.Parallel()
	all := cluster(t, 3, plain)
	c := dial(t, all[0])
	for i := range 200 {
		c.set("long"+string(rune('A'+i%50))+string(rune('A'+i/50)), strings.Repeat("v", 20<<10))
	}
	// So that the job takes some seconds; faster than what nobody notices.
	if _, err := all[0].Operator().Steer(t.Context(), admin.Order{Do: "throttle", Throttle: 500 << 10}); err != nil {
		t.Fatal(err)
	}
	fourth := built(t, plain, all[0].Peer())
	for until := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		for _, n := range all {
			n.ReceiverSlow()
		}
		jobs, err := fourth.Operator().Jobs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if jobs.Running != nil && len(jobs.Running.Slowed) > 0 {
			for _, s := range jobs.Running.Slowed {
				if !s.Disk || s.Rate < 1<<20 || !slices.ContainsFunc(all, func(n *node.Node) bool { return n.ID().String() == s.Node }) {
					t.Errorf("%+v", s)
				}
			}
			return
		}
		if time.Now().After(until) {
			t.Fatalf("%+v", jobs)
		}
	}
}

// What clients wait is seen at the coordinators of their keys, and by none for the node's
// own work.
func TestClientsAreSeen(t *testing.T) {
	t.Parallel()
	all := cluster(t, 3, plain)
	var seen []func() (reads, writes int64)
	for _, n := range all {
		seen = append(seen, n.Seen())
	}
	batches := func() (reads, writes int64) {
		for _, count := range seen {
			r, w := count()
			reads, writes = reads+r, writes+w
		}
		return reads, writes
	}
	c := dial(t, all[0])
	c.check(300)
	r, w := batches()
	if r == 0 || w != 0 {
		t.Errorf("reading makes %d reads and %d writes", r, w)
	}
	c.set("key000000", "v")
	if more, now := batches(); now != w+1 || more != r {
		t.Errorf("a set makes %d reads and %d writes", more-r, now-w)
	}
}
