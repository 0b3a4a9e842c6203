package node

import (
	"errors"
	"testing"

	"unkai/internal/core/topology"
)

// Who was drained knows it when it is removed, also if what it hears of earlier topologies
// is overtaken by what it hears of later ones.
func TestWhoWasDrainedKnowsIt(t *testing.T) {
	top := topology.New(1, 16, 1, 1, 1, topology.Node{ID: 1, Weight: 1})
	member, err := top.Join(topology.Node{ID: 2, Weight: 1})
	if err != nil {
		t.Fatal(err)
	}
	leaving, err := member.Detach(2)
	if err != nil {
		t.Fatal(err)
	}
	removed, ok := leaving.Depart()
	if !ok {
		t.Fatal("it does not leave")
	}
	for _, c := range []struct {
		name    string
		seen    []*topology.Topology
		drained bool
	}{
		{"in order", []*topology.Topology{&member, &leaving, &removed}, true},
		{"overtaken", []*topology.Topology{&leaving, &member, &removed}, true},
		{"dead meanwhile", []*topology.Topology{&member, &removed}, false},
	} {
		n := &Node{id: 2, failed: make(chan error, 1)}
		for _, top := range c.seen {
			n.belongs(top)
		}
		if err := <-n.failed; errors.Is(err, ErrDrained) != c.drained || !errors.Is(err, topology.ErrRemoved) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
