package steward

import (
	"slices"
	"testing"

	"unkai"
	"unkai/internal/core/topology"
)

// Whoever is there and has not said that it has no clients may have some; whoever is not
// there has none.
func TestWhoSaysNothingMayHaveClients(t *testing.T) {
	top := topology.New(1, 16, 1, 1, 1, topology.Node{ID: 1, Weight: 1})
	for id := unkai.NodeID(2); id <= 3; id++ {
		var err error
		if top, err = top.Join(topology.Node{ID: id, Weight: 1}); err != nil {
			t.Fatal(err)
		}
	}
	here := func(id unkai.NodeID) bool { return id != 3 }
	for _, c := range []struct {
		answers         map[unkai.Seat]*Settled
		clients, silent bool
	}{
		{map[unkai.Seat]*Settled{1: {}}, false, true},
		{map[unkai.Seat]*Settled{1: {}, 2: {}}, false, false},
		{map[unkai.Seat]*Settled{1: {Clients: true}}, true, true},
		{map[unkai.Seat]*Settled{1: {}, 2: {Clients: true}}, true, false},
	} {
		clients, silent, gone := crowd(&top, c.answers, here)
		if clients != c.clients || silent != c.silent || !slices.Equal(gone, []unkai.NodeID{3}) {
			t.Errorf("%v: clients %v, silent %v, gone %v", c.answers, clients, silent, gone)
		}
	}
}
