package node

import (
	"encoding/json"
	"testing"

	"unkai"
	"unkai/internal/core/topology"
	"unkai/internal/peer"
)

func TestAWordIsOfOneRun(t *testing.T) {
	var s sight
	expect := func(run uint64, known unkai.Epoch, want bool) {
		t.Helper()
		if got := s.serves(2, run, known); got != want {
			t.Errorf("run %d, with epoch %d known: %v", run, known, got)
		}
	}
	expect(1, 9, false) // it has said nothing
	s.said(2, word{run: 1, epoch: 5})
	expect(1, 9, false) // it does not serve yet
	s.said(2, word{run: 1, serves: true, epoch: 5})
	expect(1, 4, false) // it may be a new incarnation at 5
	expect(1, 5, true)
	s.said(2, word{run: 1, serves: true, epoch: 7})
	expect(1, 5, true) // it was whole at 5, and runs still
	expect(2, 9, false)
	expect(0, 9, false)
	s.said(2, word{run: 1, epoch: 7})
	expect(1, 9, false) // it is stopping
}

// Who is of an earlier build says nothing of that, and counts as there while it is connected.
func TestWhoSaysNothingCountsByItsConnection(t *testing.T) {
	for text, want := range map[string]word{
		`{"epoch":5,"book":null}`:                             {run: 7, serves: true, epoch: 5},
		`{"epoch":5,"book":null,"run":6,"serves":false}`:      {run: 6, epoch: 5},
		`{"epoch":5,"book":null,"run":6,"serves":true}`:       {run: 6, serves: true, epoch: 5},
		`{"epoch":5,"book":null,"serves":false}`:              {epoch: 5}, // it waits to be vouched for
		string(encoded(t, &hello{Run: 6, Serves: new(bool)})): {run: 6},
	} {
		var h hello
		if err := json.Unmarshal([]byte(text), &h); err != nil {
			t.Fatal(err)
		}
		if got := h.word(7); got != want {
			t.Errorf("%s: %+v, want %+v", text, got, want)
		}
	}
}

// connected is a network in which these runs of nodes are connected.
type connected struct {
	peer.Network
	runs map[unkai.NodeID]uint64
}

// Alive implements peer.Network.
func (c connected) Alive(id unkai.NodeID) bool { return c.runs[id] != 0 }

// Run implements peer.Network.
func (c connected) Run(id unkai.NodeID) uint64 { return c.runs[id] }

// A manager that is connected and does not serve leaves the lead to the next one, and so
// does this node itself. Where nobody has said that it serves, the connections tell.
func TestTheLeadIsOfWhoServes(t *testing.T) {
	n := &Node{id: 2}
	n.network.Network = connected{runs: map[unkai.NodeID]uint64{1: 11, 3: 13}}
	top := &topology.Topology{Epoch: 5, Managers: []unkai.NodeID{1, 2, 3}}
	leads := func(want unkai.NodeID) {
		t.Helper()
		if got := n.leader(top); got != want {
			t.Errorf("node %v leads, want %v", got, want)
		}
	}
	n.setState("opening the store")
	leads(1) // nobody serves
	n.sight.said(3, word{run: 13, serves: true, epoch: 5})
	leads(3)
	n.setState("")
	leads(2)
	n.sight.said(1, (&hello{Epoch: 5, Run: 11, Serves: new(bool)}).word(11))
	leads(2) // its store is being opened
	n.sight.said(1, (&hello{Epoch: 5}).word(11))
	leads(1) // it is of an earlier build
	n.setState("stopping")
	n.sight.said(1, word{run: 12, serves: true, epoch: 5})
	leads(3) // another run of it has said so
}

func encoded(t *testing.T, h *hello) []byte {
	t.Helper()
	b, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
