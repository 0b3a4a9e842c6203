package topology_test

import (
	"testing"

	"unkai/internal/core/topology"
)

func TestQuorumGrowsWithTheCluster(t *testing.T) {
	top := topology.New(1, 1024, 5, 3, 3, 10)
	for nodes, want := range map[int][3]int{1: {1, 1, 1}, 2: {2, 2, 2}, 3: {3, 2, 2}, 4: {4, 3, 3}, 5: {5, 3, 3}, 6: {5, 3, 3}} {
		top.Nodes = make([]topology.Node, nodes)
		n, r, w := top.Quorum()
		if got := [3]int{n, r, w}; got != want {
			t.Errorf("%d nodes: %v, want %v", nodes, got, want)
		}
		if r+w <= n || 2*w <= n {
			t.Errorf("%d nodes: %d:%d:%d is not strong", nodes, n, r, w)
		}
	}
}

// Exactly the settings of the strong regime pass (DESIGN §2).
func TestCheckQuorum(t *testing.T) {
	for n := -1; n <= 17; n++ {
		for r := -1; r <= 18; r++ {
			for w := -1; w <= 18; w++ {
				want := n >= 1 && n <= 16 && r >= 1 && w >= 1 && r <= n && w <= n && r+w > n && 2*w > n
				if got := topology.CheckQuorum(n, r, w) == nil; got != want {
					t.Errorf("%d:%d:%d: %v", n, r, w, got)
				}
			}
		}
	}
}

func TestFlushForgetsWhatIsOlder(t *testing.T) {
	top := topology.New(1, 1024, 3, 2, 2, 10)
	if top.Forgotten(top.Epoch) {
		t.Error("a new cluster has forgotten something")
	}
	later := top.FlushLater(99)
	next := later.Flush()
	if next.Epoch != 3 || next.FlushAt != 0 || !next.Forgotten(2) || next.Forgotten(3) {
		t.Errorf("%+v", next)
	}
}

func TestRebornGetsANewSeat(t *testing.T) {
	top := topology.New(1, 1024, 3, 2, 2, 10)
	next, err := top.Reborn(10)
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := next.Node(10); n.Seat != 2 || n.Incarnation != 2 || next.Epoch != 2 {
		t.Errorf("%+v", next)
	}
	if n, _ := top.Node(10); n.Seat != 1 {
		t.Error("the older topology was changed")
	}
	if _, err := top.Reborn(11); err == nil {
		t.Error("a stranger was reborn")
	}
	next.Seats = 65535
	if _, err := next.Reborn(10); err == nil {
		t.Error("a seat was given out twice")
	}
}

func TestValidate(t *testing.T) {
	good := topology.New(1, 1024, 3, 2, 2, 10)
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*topology.Topology){
		"epoch":   func(t *topology.Topology) { t.Epoch = 0 },
		"buckets": func(t *topology.Topology) { t.Buckets = 1000 },
		"nodes":   func(t *topology.Topology) { t.Nodes = nil },
		"seat":    func(t *topology.Topology) { t.Seats = 0 },
		"flush":   func(t *topology.Topology) { t.Flushed = 2 },
		"quorum":  func(t *topology.Topology) { t.W = 1 },
	} {
		bad := topology.New(1, 1024, 3, 2, 2, 10)
		spoil(&bad)
		if bad.Validate() == nil {
			t.Errorf("%s: passes", name)
		}
	}
}
