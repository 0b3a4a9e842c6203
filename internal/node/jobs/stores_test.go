package jobs

import (
	"fmt"
	"strings"
	"testing"

	"unkai"
	"unkai/internal/core/topology"
)

// A plan says which of the nodes that get something keep it less well than others.
func TestPlansTellOfStores(t *testing.T) {
	top := topology.New(1, 16, 2, 1, 2, topology.Node{ID: 1, Weight: 1})
	next, err := top.Join(topology.Node{ID: 2, Weight: 1})
	if err != nil {
		t.Fatal(err)
	}
	p, err := next.Plan(topology.Change{Kind: topology.KindAttach, Nodes: []unkai.NodeID{2}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ first, second, says string }{
		{"disk always", "disk always", ""},
		{"memory ", "memory ", ""},
		{"disk off", "disk off", ""},
		{"memory ", "disk always", ""}, // it keeps more than others
		{"disk off", "disk interval", ""},
		{" ", "memory ", ""},
		{"disk always", " ", ""}, // of another release
		{"disk always", "memory ", "everything when its process ends (--store memory)"},
		{"disk off", "memory ", "everything when its process ends (--store memory)"},
		{"disk always", "disk off", "its last writes when the power fails (--sync off)"},
		{"disk always", "disk interval", "its last writes when the power fails (--sync interval)"},
	} {
		asked := make([]Load, 2)
		for i, s := range []string{test.first, test.second} {
			asked[i].Node = unkai.NodeID(i + 1)
			asked[i].Store, asked[i].Sync, _ = strings.Cut(s, " ")
		}
		want := ""
		if test.says != "" {
			want = fmt.Sprintf("node 0000000000000002 may lose %s, which others do not: it may be one of the 2 that acknowledge a write", test.says)
		}
		if got := strings.Join(warnOfStores(&p, asked), "; "); got != want {
			t.Errorf("%+v: %q", test, got)
		}
	}
}
