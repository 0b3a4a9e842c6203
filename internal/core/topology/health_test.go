package topology

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"unkai"
)

// works says by the routes, which is how coordinators count, whether each bucket
// is written and read.
func works(t *Topology, b unkai.Bucket, alive func(unkai.NodeID) bool) (writes, reads bool) {
	r := t.Route(b)
	present, other := 0, 0
	for i, id := range r.Members {
		if id == 0 || !alive(id) {
			continue
		}
		if r.Write.Present.Members.Has(i) {
			present++
		}
		if r.Write.Joining.Members.Has(i) {
			other++
		}
	}
	writes = present >= r.Write.Present.Need && other >= r.Write.Joining.Need
	return writes, present >= max(r.Read.Present.Need, r.Write.Present.Need)
}

func allWork(t *Topology, alive func(unkai.NodeID) bool) (writes, reads bool) {
	writes, reads = true, true
	for b := range t.Sets {
		w, r := works(t, unkai.Bucket(b), alive)
		writes, reads = writes && w, reads && r
	}
	return writes, reads
}

// atWorst is the greatest k for which every loss of k of these things is
// survived, found by losing every subset.
func atWorst(things int, survived func(lost uint) bool) int {
	worst := things + 1
	for lost := range uint(1) << things {
		if !survived(lost) {
			worst = min(worst, count(lost))
		}
	}
	return worst - 1
}

func count(m uint) (n int) {
	for ; m > 0; m &= m - 1 {
		n++
	}
	return n
}

// arbitrary is a topology of a few nodes in the middle of something.
func arbitrary(t *testing.T, r *rand.Rand) *Topology {
	t.Helper()
	quorums := [][3]int{{3, 2, 2}, {3, 2, 2}, {5, 3, 3}, {4, 2, 3}, {3, 1, 3}, {3, 3, 2}, {1, 1, 1}}
	q := quorums[r.IntN(len(quorums))]
	zones := []string{"", "a", "b", "c"}[:1+r.IntN(4)]
	zone := func() string { return zones[r.IntN(len(zones))] }
	top := New(7, 16, q[0], q[1], q[2], Node{ID: 10, Weight: 1, Zone: zone()})
	step := func(next Topology, err error) {
		if err != nil {
			return // it cannot be now
		}
		if err := next.Seal(); err != nil {
			t.Fatal(err)
		}
		top = next
	}
	all := func() (out []unkai.Bucket) {
		for b := range top.Sets {
			out = append(out, unkai.Bucket(b))
		}
		return out
	}
	id := unkai.NodeID(10)
	settle := func() {
		step(top.Proceed(all(), nil, 1<<16, nothing), nil)
		step(top.Proceed(nil, all(), 1<<16, nil), nil)
		for _, n := range top.Nodes { // all have forgotten what they had to
			step(top.Forgot(map[unkai.Seat][]unkai.Bucket{n.Seat: all()}), nil)
		}
	}
	for range 3 + r.IntN(12) {
		some := top.Nodes[r.IntN(len(top.Nodes))].ID
		switch r.IntN(9) {
		case 0, 1, 2, 8:
			if len(top.Nodes) < 6 {
				id++
				step(top.Join(Node{ID: id, Weight: 1 + r.IntN(2), Zone: zone()}))
				step(top.Attach(id))
				if r.IntN(4) > 0 {
					settle()
				}
			}
		case 3:
			step(top.Detach(some))
		case 4:
			step(top.Proceed(all()[r.IntN(len(top.Sets)):], nil, 1<<16, nothing), nil)
		case 5:
			step(top.Proceed(nil, all()[r.IntN(len(top.Sets)):], 1<<16, nil), nil)
		case 6:
			settle()
		case 7:
			step(top.Reborn(some))
		}
	}
	if err := top.Seal(); err != nil {
		t.Fatal(err)
	}
	return &top
}

func nothing(unkai.Bucket) int64 { return 0 }

// What Health claims is exact: every loss of so many nodes or zones is survived,
// and some loss of one more is not.
func TestHealthIsExact(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(1000) {
		r := rand.New(rand.NewPCG(seed, 3))
		top := arbitrary(t, r)
		dead := map[unkai.NodeID]bool{}
		for _, n := range top.Nodes {
			dead[n.ID] = r.IntN(6) == 0
		}
		alive := func(id unkai.NodeID) bool { return !dead[id] }
		h := top.Health(alive)
		fail := func(format string, args ...any) {
			t.Helper()
			t.Fatalf("seed %d: %s\n%+v\n%+v", seed, fmt.Sprintf(format, args...), h, top.Nodes)
		}
		var up []unkai.NodeID
		var zones []string
		for _, n := range top.Nodes {
			if alive(n.ID) {
				up = append(up, n.ID)
			}
			if n.Zone != "" && alive(n.ID) && !slices.Contains(zones, n.Zone) {
				zones = append(zones, n.Zone)
			}
		}
		slices.Sort(zones)
		unavailable := 0
		for b := range top.Sets {
			if w, r := works(top, unkai.Bucket(b), alive); !w || !r {
				unavailable++
			}
		}
		if h.Unavailable() != unavailable || !slices.Equal(h.Zones, zones) {
			fail("%d buckets are unavailable, zones are %v", unavailable, zones)
		}
		for k, e := range []Endurance{h.Writes, h.Reads} {
			survives := func(alive func(unkai.NodeID) bool) bool {
				writes, reads := allWork(top, alive)
				return []bool{writes, reads}[k]
			}
			without := []unkai.Bucket(nil)
			for b := range top.Sets {
				w, r := works(top, unkai.Bucket(b), alive)
				if ![]bool{w, r}[k] {
					without = append(without, unkai.Bucket(b))
				}
			}
			if !slices.Equal(without, e.Without) {
				fail("%d: without a quorum %v", k, without)
			}
			nodes := atWorst(len(up), func(lost uint) bool {
				return survives(func(id unkai.NodeID) bool {
					i := slices.Index(up, id)
					return i >= 0 && lost&(1<<i) == 0
				})
			})
			if nodes != e.Nodes {
				fail("%d: survives %d nodes", k, nodes)
			}
			inZone := func(id unkai.NodeID, lost uint) bool {
				n, _ := top.Node(id)
				i := slices.Index(zones, n.Zone)
				return i >= 0 && lost&(1<<i) != 0
			}
			if got := atWorst(len(zones), func(lost uint) bool {
				return survives(func(id unkai.NodeID) bool { return alive(id) && !inZone(id, lost) })
			}); got != e.Zones {
				fail("%d: survives %d zones", k, got)
			}
			seen[fmt.Sprintf("%d nodes %d", k, nodes)]++
			seen[fmt.Sprintf("%d zones %d of %d", k, e.Zones, len(zones))]++
			for i, z := range zones {
				stops := false
				for b := range top.Sets {
					before := [2]bool{}
					after := before
					before[0], before[1] = works(top, unkai.Bucket(b), alive)
					after[0], after[1] = works(top, unkai.Bucket(b), func(id unkai.NodeID) bool { return alive(id) && !inZone(id, 1<<i) })
					stops = stops || before[k] && !after[k]
				}
				if stops != slices.Contains(e.NeededZones, z) {
					fail("%d: zone %s stops something: %v", k, z, stops)
				}
			}
		}
		checkNeeded(t, seed, top, alive, h)
		checkBack(t, seed, top, alive, h)
	}
	for _, want := range []string{"0 nodes -1", "0 nodes 0", "0 nodes 1", "1 nodes 1", "0 nodes 2", "0 zones 1 of 3", "0 zones 0 of 2"} {
		if seen[want] == 0 {
			t.Errorf("never seen: %s in %v", want, seen)
		}
	}
}

func TestShares(t *testing.T) {
	for seed := range uint64(200) {
		top := arbitrary(t, rand.New(rand.NewPCG(seed, 4)))
		shares := top.Shares()
		ideal := 0.0
		for i, n := range top.Nodes {
			held := 0
			for b := range top.Sets {
				if slices.Contains(top.Route(unkai.Bucket(b)).Members, n.ID) {
					held++
				}
			}
			if s := shares[i]; s.Present+s.Joining+s.Leaving != held {
				t.Fatalf("seed %d: %+v, and it is in %d sets", seed, s, held)
			}
			ideal += shares[i].Ideal
		}
		if eff, _, _ := top.Quorum(); math.Abs(ideal-float64(16*eff)) > 0.01 {
			t.Fatalf("seed %d: %v replicas in all, not 16 times %d", seed, ideal, eff)
		}
	}
}

func checkNeeded(t *testing.T, seed uint64, top *Topology, alive func(unkai.NodeID) bool, h Health) {
	t.Helper()
	for _, n := range top.Nodes {
		stops := false
		for b := range top.Sets {
			w, r := works(top, unkai.Bucket(b), alive)
			w2, r2 := works(top, unkai.Bucket(b), func(id unkai.NodeID) bool { return alive(id) && id != n.ID })
			stops = stops || w && !w2 || r && !r2
		}
		if stops != slices.Contains(h.Needed, n.ID) {
			t.Fatalf("seed %d: without node %v something stops: %v; needed: %v", seed, n.ID, stops, h.Needed)
		}
	}
}

func checkBack(t *testing.T, seed uint64, top *Topology, alive func(unkai.NodeID) bool, h Health) {
	t.Helper()
	everybody := func(unkai.NodeID) bool { return true }
	lost := 0
	for b := range top.Sets {
		if w, r := works(top, unkai.Bucket(b), everybody); !w || !r {
			lost++
		}
	}
	if h.Lost != lost {
		t.Fatalf("seed %d: %d buckets are lost, not %d", seed, lost, h.Lost)
	}
	for _, n := range top.Nodes {
		enough := 0
		for b := range top.Sets {
			w, r := works(top, unkai.Bucket(b), alive)
			w2, r2 := works(top, unkai.Bucket(b), func(id unkai.NodeID) bool { return alive(id) || id == n.ID })
			if (!w || !r) && w2 && r2 {
				enough++
			}
		}
		i := slices.IndexFunc(h.Back, func(r Return) bool { return r.Node == n.ID })
		if i < 0 && enough > 0 || i >= 0 && (h.Back[i].Enough != enough || h.Back[i].Buckets < max(enough, 1) || alive(n.ID)) {
			t.Fatalf("seed %d: node %v alone brings %d buckets back: %+v", seed, n.ID, enough, h.Back)
		}
	}
}

func TestHealthOfManagers(t *testing.T) {
	top := New(7, 16, 3, 2, 2, Node{ID: 1, Weight: 1})
	top.Nodes = nil
	for id := range unkai.NodeID(5) {
		top.Nodes = append(top.Nodes, Node{ID: id + 1, Seat: unkai.Seat(id + 1), Weight: 1, State: Attached})
	}
	top.Seats = 5
	top.Managers = []unkai.NodeID{1, 2, 3, 4, 5}
	for down, want := range []int{2, 1, 0, -1, -2, -3} {
		h := top.Health(func(id unkai.NodeID) bool { return int(id) > down })
		if h.ManagersSpare != want || h.Managers != 5 || h.ManagersAlive != 5-down {
			t.Errorf("%d are away: %+v", down, h)
		}
	}
}

func BenchmarkHealth(b *testing.B) {
	top := New(7, 1024, 3, 2, 2, Node{ID: 1, Weight: 1, Zone: "a"})
	for id := unkai.NodeID(2); id <= 3; id++ {
		next, err := top.Join(Node{ID: id, Weight: 1, Zone: string(rune('a' + id))})
		if err != nil {
			b.Fatal(err)
		}
		if next, err = next.Attach(id); err != nil {
			b.Fatal(err)
		}
		top = next.arrived()
	}
	b.ReportAllocs()
	for b.Loop() {
		if h := top.Health(func(unkai.NodeID) bool { return true }); h.Writes.Nodes != 1 {
			b.Fatal(h)
		}
	}
}
