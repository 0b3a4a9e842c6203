package admin

import (
	"slices"
	"strings"
	"testing"

	"unkai"
	"unkai/internal/core/topology"
)

// five are five nodes in three zones; 4 and 5 share one.
func five(t *testing.T) *topology.Topology {
	t.Helper()
	zone := []string{"", "a", "b", "c", "d", "d"}
	top := topology.New(7, 64, 3, 2, 2, topology.Node{ID: 1, Weight: 1, Zone: "a"})
	then := func(next topology.Topology, err error) {
		t.Helper()
		if err == nil {
			err = next.Seal()
		}
		if err != nil {
			t.Fatal(err)
		}
		top = next
	}
	for id := unkai.NodeID(2); id <= 5; id++ {
		then(top.Join(topology.Node{ID: id, Weight: 1, Zone: zone[id]}))
	}
	then(top.Attach(2, 3, 4, 5))
	var all []unkai.Bucket
	for b := range top.Buckets {
		all = append(all, unkai.Bucket(b))
	}
	then(top.Proceed(all, nil, 1<<16, func(unkai.Bucket) int64 { return 0 }), nil)
	then(top.Proceed(nil, all, 1<<16, nil), nil)
	return &top
}

// What is said in words follows who is alive.
func TestSurvivalInWords(t *testing.T) {
	top := five(t)
	for _, test := range []struct {
		name  string
		away  []unkai.NodeID
		full  []unkai.NodeID
		says  []string
		hides []string
	}{
		{"all are there", nil, nil, []string{
			"survives: the failure of any one node: all buckets would still be read and written", "zones: any 1 of 4 may fail at once",
			"restart: safe, one node at a time", "managers: 5 of 5 answer; 2 may fail",
		}, []string{"NO QUORUM", "away", "bring back", "moving", "FULL"}},
		{"one is full", nil, []unkai.NodeID{4}, []string{
			"survives: the failure of any one node: all buckets would still be read and written",
			"FULL: 0000000000000004: new data survives the failure of no other node",
			"restart: not safe for 0000000000000001, 0000000000000002, 0000000000000003, needed for some bucket; for others it is",
		}, []string{"NO QUORUM", "away"}},
		{"two are full", nil, []unkai.NodeID{1, 2}, []string{
			"survives: the failure of any one node", "FULL: 0000000000000001, 0000000000000002: ", "of 64 buckets take no new data until there is room",
			"restart: safe",
		}, []string{"NO QUORUM", "away"}},
		{"one is away", []unkai.NodeID{4}, nil, []string{
			"away: 0000000000000004", "survives: no node may fail", "zones: a, b, c may not fail; of d any one may",
			"restart: not safe for 0000000000000001, 0000000000000002, 0000000000000003, needed for some bucket; for others it is", "managers: 4 of 5 answer; 1 may fail",
		}, []string{"NO QUORUM", "bring back"}},
		{"two are away", []unkai.NodeID{1, 2}, nil, []string{
			"NO QUORUM: ", "of 64 buckets cannot be written now", "of 64 buckets cannot be read now", " …)",
			"bring back: node 0000000000000001: that alone mends", "bring back: node 0000000000000002: that alone mends", "survives: nothing more",
			"restart: not safe: bring back first what is away", "managers: 3 of 5 answer: without one more the topology could not be changed",
		}, []string{"zones:", "LOST"}},
		{"one is left", []unkai.NodeID{1, 2, 3, 4}, nil, []string{"managers: 1 of 5 answer: the topology cannot be changed; reads and writes do not need that", "others too"}, nil},
	} {
		s := NewSurvival(top, func(id unkai.NodeID) bool { return !slices.Contains(test.away, id) }, func(id unkai.NodeID) bool { return slices.Contains(test.full, id) })
		var text strings.Builder
		for _, l := range s.Say() {
			text.WriteString(l[0] + ": " + l[1] + "\n")
		}
		for _, want := range test.says {
			if !strings.Contains(text.String(), want) {
				t.Errorf("%s: not said: %s\n%s", test.name, want, text.String())
			}
		}
		for _, not := range test.hides {
			if strings.Contains(text.String(), not) {
				t.Errorf("%s: said: %s\n%s", test.name, not, text.String())
			}
		}
		if got := len(s.Writes.Buckets); got != min(s.Writes.Without, maxNamed) {
			t.Errorf("%s: %d of %d buckets are named", test.name, got, s.Writes.Without)
		}
	}
}

// What is said of cases that a small cluster does not show.
func TestSurvivalSaysTheRest(t *testing.T) {
	two, one := 2, 1
	for want, s := range map[string]Survival{
		"writes survive the failure of any one node, reads the failure of any 2 nodes": {Writes: Endurance{Nodes: 1}, Reads: Endurance{Nodes: 2}},
		"reads survive the failure of no node; some buckets cannot be written now":     {Writes: Endurance{Nodes: -1, Without: 1}, Unavailable: 1},
		"writes survive the failure of any one node; some buckets cannot be read now":  {Writes: Endurance{Nodes: 1}, Reads: Endurance{Nodes: -1, Without: 1}, Unavailable: 1},
		"not safe: 5 nodes are each needed for some bucket":                            {Needed: []string{"1", "2", "3", "4", "5"}, Nodes: 7},
		"not safe: each node that answers is needed for some bucket":                   {Needed: []string{"1"}, Away: []string{"2"}, Nodes: 2},
		"3 buckets have no quorum even when all nodes are back":                        {Lost: 3},
		"unkai plan rebalance --give-up-lost shows":                                    {Lost: 3},
		"unkai job cancel; then unkai plan rebalance --give-up-lost shows":             {Lost: 3, Moving: 1},
		"not safe: some buckets are LOST, and no node that comes back":                 {Lost: 3, Unavailable: 3},
		"not safe: bring back first what is away":                                      {Lost: 3, Unavailable: 4, Back: []Return{{"n", 1, 1}}},
		"unkai plan detach NODE… --give-up-lost shows":                                 {Unavailable: 4, Back: []Return{{"n", 1, 1}}},
		"of 3, any 1 may fail at once for writes, any 2 for reads": {
			Zones: []string{"a", "b", "c"}, Writes: Endurance{Nodes: 1, Zones: &one}, Reads: Endurance{Nodes: 1, Zones: &two}},
		"b may not fail; of a, c any one may": {
			Zones: []string{"a", "b", "c"}, Writes: Endurance{Zones: &one, NeededZones: []string{"b"}}, Reads: Endurance{Zones: &one, NeededZones: []string{"b"}}},
		"7 of 9 buckets are on their way to other replicas":            {Moving: 7, Buckets: 9},
		"node n: that alone mends 1 buckets, and 2 others need it too": {Back: []Return{{"n", 3, 1}}},
	} {
		said := false
		for _, l := range s.Say() {
			said = said || strings.Contains(l[1], want)
		}
		if !said {
			t.Errorf("not said: %s\n%v", want, s.Say())
		}
	}
}

// after are some changes of a topology, with everything that moves arriving.
func after(t *testing.T, top *topology.Topology, changes ...func(*topology.Topology) (topology.Topology, error)) *topology.Topology {
	t.Helper()
	for _, change := range changes {
		next, err := change(top)
		if err == nil {
			err = next.Seal()
		}
		if err != nil {
			t.Fatal(err)
		}
		top = &next
	}
	return top
}

// arrive has everything arrive, be forgotten where it was, and the job end.
func arrive(top *topology.Topology) (topology.Topology, error) {
	var all []unkai.Bucket
	for b := range top.Buckets {
		all = append(all, unkai.Bucket(b))
	}
	next := *top
	for range 3 { // what waits for others to forget goes in the next
		next = next.Proceed(nil, nil, 1<<16, nil)
		next = next.Proceed(all, nil, 0, func(unkai.Bucket) int64 { return 0 })
		next = next.Proceed(nil, all, 0, nil)
		forgot := map[unkai.Seat][]unkai.Bucket{}
		for _, n := range next.Nodes {
			forgot[n.Seat] = all
		}
		next = next.Forgot(forgot)
		if ended, ok := next.Advance(nil, 1); ok {
			next = ended
		}
	}
	return next, next.Seal()
}

func begin(kind topology.Kind, nodes ...unkai.NodeID) func(*topology.Topology) (topology.Topology, error) {
	return func(top *topology.Topology) (topology.Topology, error) {
		return top.Begin(topology.Change{Kind: kind, Nodes: nodes}, nil, 1)
	}
}

// A node has lost what it held, and the job that was to bring it back was cancelled: what
// is said to help does.
func TestRemediesForLostReplicas(t *testing.T) {
	nobody := func(unkai.NodeID) bool { return false }
	holes := func(top *topology.Topology, away ...unkai.NodeID) *Holes {
		return NewSurvival(top, func(id unkai.NodeID) bool { return !slices.Contains(away, id) }, nobody).Holes
	}
	top := five(t)
	if h := holes(top); h != nil {
		t.Errorf("nothing is lost: %+v", h)
	}
	reborn := func(top *topology.Topology) (topology.Topology, error) { return top.Reborn(5) }
	top = after(t, top, reborn)
	if h := holes(top); h == nil || h.Buckets == 0 || h.Buckets == 64 || h.Remedy != "a node that has joined is attached by itself" {
		t.Errorf("%+v", h)
	}
	top = after(t, top, begin(topology.KindAttach, 5))
	if h := holes(top); h == nil || h.Remedy != "the job that runs has to end first" {
		t.Errorf("%+v", h)
	}
	top = after(t, top, func(top *topology.Topology) (topology.Topology, error) { return top.Cancel() }, arrive)
	s := NewSurvival(top, func(unkai.NodeID) bool { return true }, nobody)
	if s.Holes == nil || s.Holes.Remedy != "unkai attach 0000000000000005" || s.Writes.Nodes != 0 {
		t.Fatalf("%+v", s)
	}
	said := ""
	for _, l := range s.Say() {
		said += l[0] + ": " + l[1] + "\n"
	}
	if !strings.Contains(said, "REPLICAS LOST: ") || !strings.Contains(said, "what next: unkai attach 0000000000000005") {
		t.Error(said)
	}
	if h := holes(top, 5); h.Remedy != "unkai rebalance" {
		t.Errorf("with that node away: %+v", h)
	}
	for name, remedy := range map[string]func(*topology.Topology) (topology.Topology, error){
		"attach": begin(topology.KindAttach, 5), "rebalance": begin(topology.KindRebalance),
	} {
		mended := after(t, top, remedy, arrive)
		if s := NewSurvival(mended, func(unkai.NodeID) bool { return true }, nobody); s.Holes != nil || s.Writes.Nodes != 1 || mended.Job != nil {
			t.Errorf("%s does not help: %+v, %+v", name, s.Holes, mended.Job)
		}
	}
}
