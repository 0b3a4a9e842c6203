package node_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"unkai/internal/admin"
	"unkai/internal/node"
)

// A job that brings a node more than it has room for says so, and of which node, and not
// how long it will take; it goes on by itself when it is cancelled.
func TestAFullReceiverIsNamed(t *testing.T) {
	t.Parallel()
	all := cluster(t, 3, plain)
	c := dial(t, all[0])
	value := strings.Repeat("x", 64<<10)
	for i := range 300 {
		if got := c.line(fmt.Sprintf("set large%d 0 0 %d\r\n%s\r\n", i, len(value), value)); got != "STORED" {
			t.Fatal(got)
		}
	}
	extra := built(t, func(c *node.Config) { c.Attach, c.Memory = node.Manual, 8<<20 }, all[0].Peer())
	p, j := begin(t, all[0], "attach", extra.Peer())
	if !slices.ContainsFunc(p.Warnings, func(w string) bool { return strings.Contains(w, "too little room") }) {
		t.Errorf("%q", p.Warnings)
	}
	want := fmt.Sprintf("room at node %v (%s), which is full", extra.ID(), extra.Peer())
	seen := awaited(t, all[1], j.ID, func(j admin.Job) bool {
		return slices.ContainsFunc(j.Waits, func(w string) bool { return strings.HasPrefix(w, want) })
	})
	if seen.State != admin.JobRunning || seen.Left != 0 || seen.Moved.Replicas == seen.Planned.Replicas {
		t.Errorf("%+v", seen)
	}
	if code, text := post(t, all[2], "/v1/job", admin.Order{Do: "cancel"}, nil); code != 200 {
		t.Fatal(code, text)
	}
	if done := ended(t, all[0], j.ID); done.State != admin.JobCancelled {
		t.Errorf("%+v", done)
	}
}
