package topology_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"testing"

	"unkai"
	"unkai/internal/core/topology"
)

func first(t *testing.T, n, r, w int) topology.Topology {
	t.Helper()
	top := topology.New(1, 16, n, r, w, topology.Node{ID: 10, Weight: 1})
	if err := top.Seal(); err != nil {
		t.Fatal(err)
	}
	return top
}

// grown is a cluster into which these nodes were brought.
func grown(t *testing.T, top topology.Topology, ids ...unkai.NodeID) topology.Topology {
	t.Helper()
	for _, id := range ids {
		var err error
		if top, err = top.Join(topology.Node{ID: id, Weight: 1}); err != nil {
			t.Fatal(err)
		}
	}
	top, err := top.Attach(ids...)
	if err != nil {
		t.Fatal(err)
	}
	top = top.Proceed(all(top), nil, 1<<16, nil)
	top = top.Proceed(nil, all(top), 1<<16, nil)
	if err := top.Seal(); err != nil {
		t.Fatal(err)
	}
	return top
}

func all(top topology.Topology) (b []unkai.Bucket) {
	for i := range top.Buckets {
		b = append(b, unkai.Bucket(i))
	}
	return b
}

func TestQuorumGrowsWithTheCluster(t *testing.T) {
	top := first(t, 5, 3, 3)
	for i, want := range [][3]int{{1, 1, 1}, {2, 2, 2}, {3, 2, 2}, {4, 3, 3}, {5, 3, 3}, {5, 3, 3}} {
		if i > 0 {
			top = grown(t, top, unkai.NodeID(10+i))
		}
		n, r, w := top.Quorum()
		if got := [3]int{n, r, w}; got != want {
			t.Errorf("%d nodes: %v, want %v", i+1, got, want)
		}
		if r+w <= n || 2*w <= n {
			t.Errorf("%d nodes: %d:%d:%d is not strong", i+1, n, r, w)
		}
		route := top.Route(3)
		if len(route.Members) != n || route.Write.Present.Need != w || route.Prepare.Present.Need != n-w+1 || route.Joining {
			t.Errorf("%d nodes: %+v", i+1, route)
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
	top := first(t, 3, 2, 2)
	if top.Forgotten(top.Epoch) {
		t.Error("a new cluster has forgotten something")
	}
	later := top.FlushLater(99)
	next := later.Flush()
	if err := next.Seal(); err != nil {
		t.Fatal(err)
	}
	if next.Epoch != 3 || next.FlushAt != 0 || !next.Forgotten(2) || next.Forgotten(3) {
		t.Errorf("%+v", next)
	}
	if e := next.Route(0).Epoch; e != 3 {
		t.Errorf("after the flush calls carry epoch %d", e)
	}
}

func TestRebornGetsANewSeatAndHoldsNothing(t *testing.T) {
	top := grown(t, first(t, 3, 2, 2), 11, 12)
	next, err := top.Reborn(11)
	if err != nil {
		t.Fatal(err)
	}
	if err := next.Seal(); err != nil {
		t.Fatal(err)
	}
	n, _ := next.Node(11)
	if n.Seat != 4 || n.Incarnation != 2 || n.State != topology.Recognised || next.Epoch != top.Epoch+1 {
		t.Errorf("%+v", n)
	}
	if old, _ := top.Node(11); old.Seat != 2 {
		t.Error("the older topology was changed")
	}
	for b := range next.Buckets {
		r := next.Route(unkai.Bucket(b))
		if r.Holds(n.Seat) || !slices.Contains(r.Members, 0) || slices.Contains(r.Members, 11) {
			t.Fatalf("bucket %d: %+v", b, r)
		}
	}
	back, err := next.Attach(11)
	if err != nil {
		t.Fatal(err)
	}
	if back.Moving() != back.Buckets {
		t.Errorf("%d buckets are on their way to the new incarnation", back.Moving())
	}
	next.Seats = ^unkai.Seat(0)
	if _, err := next.Reborn(11); err == nil {
		t.Error("a seat was given out twice")
	}
}

// While a bucket is on its way, an item needs both sets, unless it was there
// before.
func TestAttachGoesThroughBothSets(t *testing.T) {
	top := first(t, 3, 2, 2)
	top = grown(t, top, 11, 12)
	top, err := top.Join(topology.Node{ID: 13, Weight: 1})
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := top.Node(13); n.State != topology.Recognised || top.Moving() != 0 {
		t.Fatalf("a node that joined is %v, %d buckets move", n.State, top.Moving())
	}
	top, err = top.Attach(13)
	if err != nil {
		t.Fatal(err)
	}
	if err := top.Seal(); err != nil {
		t.Fatal(err)
	}
	if _, err := top.Attach(13); !errors.Is(err, topology.ErrMoving) {
		t.Errorf("a second change at once: %v", err)
	}
	moved := -1
	for b := range top.Sets {
		if len(top.Sets[b].Joining) > 0 {
			moved = b
		}
	}
	if moved < 0 {
		t.Fatal("nothing moves to the new node")
	}
	r := top.Route(unkai.Bucket(moved))
	n13, _ := top.Node(13)
	if !r.Joining || len(r.Members) != 4 || r.Members[3] != 13 || !r.Holds(n13.Seat) || r.Epoch != top.Epoch {
		t.Fatalf("%+v", r)
	}
	old := top.Epoch - 1
	if !r.Chosen(old, 0b0011) || r.Chosen(old, 0b1001) {
		t.Error("what was there before needs the present set")
	}
	stays := r.Write.Joining.Members & 0b0111
	if r.Chosen(top.Epoch, 0b0111&^stays|stays&-stays) && stays.Count() < 2 {
		t.Error("what came since was chosen without the joining set")
	}
	if !r.Chosen(top.Epoch, 0b1111) {
		t.Error("everybody is not enough")
	}
	seats := top.Sets[moved].Replicas
	if top.Arrived(unkai.Bucket(moved), seats[:1]) || !top.Arrived(unkai.Bucket(moved), seats[1:]) || top.Arrived(unkai.Bucket(moved), []unkai.Seat{n13.Seat, seats[0]}) {
		t.Error("a bucket has arrived when 2 of the present 3 say so")
	}
	joining := top.Sets[moved].Joining
	next := top.Proceed([]unkai.Bucket{unkai.Bucket(moved)}, nil, 1<<16, nil)
	if err := next.Seal(); err != nil {
		t.Fatal(err)
	}
	s, r := next.Sets[moved], next.Route(unkai.Bucket(moved))
	if !reflect.DeepEqual(s.Replicas, joining) || s.Joining != nil || !reflect.DeepEqual(s.Leaving, seats) || s.Epoch != next.Epoch || r.Joining || !r.Moving {
		t.Errorf("after the switch: %+v, %+v", s, r)
	}
	if n := r.Read.Present.Members.Count(); n != len(joining) || r.Members[0] == 0 || r.Write.Joining.Need != 2 || next.Moving() != 1+top.Moving()-1 {
		t.Errorf("the new set is not what is read: %+v", r)
	}
	// One old replica that has not heard of it cannot do anything; two could.
	if !next.Heard(unkai.Bucket(moved), seats[1:]) || next.Heard(unkai.Bucket(moved), seats[:1]) {
		t.Error("the leaving set may go when 2 of its 3 know of it")
	}
	last := next.Proceed(nil, []unkai.Bucket{unkai.Bucket(moved)}, 1<<16, nil)
	if err := last.Seal(); err != nil {
		t.Fatal(err)
	}
	if r := last.Route(unkai.Bucket(moved)); r.Moving || len(r.Members) != 3 || last.Moving() != top.Moving()-1 {
		t.Errorf("after the release: %+v", r)
	}
}

func TestManagers(t *testing.T) {
	top := first(t, 3, 2, 2)
	for nodes, want := range map[int]int{2: 1, 3: 3, 4: 3, 5: 5, 8: 5} {
		ids := []unkai.NodeID{}
		for i := 1; i < nodes; i++ {
			ids = append(ids, unkai.NodeID(10+i))
		}
		if got := len(grown(t, top, ids...).Managers); got != want {
			t.Errorf("%d nodes have %d managers", nodes, got)
		}
	}
	four := grown(t, top, 11, 12, 13)
	gone := four.Managers[1]
	next := four.Elect(gone)
	if len(next.Managers) != 3 || slices.Contains(next.Managers, gone) {
		t.Errorf("%v went: %v, before %v", gone, next.Managers, four.Managers)
	}
	if again := next.Elect(); !slices.Equal(again.Managers, next.Managers) {
		t.Error("managers change without a reason")
	}
	if kept := next.Elect(10, 11, 12, 13); len(kept.Managers) != 3 {
		t.Errorf("nobody is left, and the managers are %v", kept.Managers)
	}
}

func TestManagersSpreadOverZones(t *testing.T) {
	top := first(t, 3, 2, 2)
	for i, zone := range []string{"a", "a", "a", "b", "c"} {
		var err error
		if top, err = top.Join(topology.Node{ID: unkai.NodeID(10 + i), Weight: 1, Zone: zone}); err != nil {
			t.Fatal(err)
		}
	}
	top, err := top.Attach(11, 13, 14)
	if err != nil {
		t.Fatal(err)
	}
	if want := []unkai.NodeID{10, 13, 14}; !slices.Equal(top.Managers, want) {
		t.Errorf("managers %v, want one of each zone: %v", top.Managers, want)
	}
}

func TestJSONRoundTrip(t *testing.T) {
	top := grown(t, first(t, 3, 2, 2), 11, 12)
	b, err := json.Marshal(top)
	if err != nil {
		t.Fatal(err)
	}
	var back topology.Topology
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if err := back.Seal(); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(top, back) {
		t.Errorf("%+v\n%+v", top, back)
	}
}

func TestSealRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*topology.Topology){
		"epoch":    func(t *topology.Topology) { t.Epoch = 0 },
		"buckets":  func(t *topology.Topology) { t.Buckets = 17 },
		"nodes":    func(t *topology.Topology) { t.Nodes = nil },
		"order":    func(t *topology.Topology) { t.Nodes[0], t.Nodes[1] = t.Nodes[1], t.Nodes[0] },
		"seat":     func(t *topology.Topology) { t.Nodes[0].Seat = 9 },
		"heavy":    func(t *topology.Topology) { t.Nodes[0].Weight = 1001 },
		"weight":   func(t *topology.Topology) { t.Nodes[0].Weight = 0 },
		"managers": func(t *topology.Topology) { t.Managers = []unkai.NodeID{99} },
		"sets":     func(t *topology.Topology) { t.Sets = t.Sets[1:] },
		"replicas": func(t *topology.Topology) { t.Sets[3].Replicas = nil },
		"twice":    func(t *topology.Topology) { t.Sets[3].Replicas = []unkai.Seat{1, 1} },
		"flushed":  func(t *topology.Topology) { t.Flushed = 99 },
		"quorum":   func(t *topology.Topology) { t.R = 1 },
	} {
		top := grown(t, first(t, 3, 2, 2), 11, 12)
		spoil(&top)
		if top.Seal() == nil {
			t.Errorf("a topology with wrong %s was sealed", name)
		}
	}
}
