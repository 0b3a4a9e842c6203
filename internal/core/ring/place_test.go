package ring_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/zeebo/xxh3"
	"pgregory.net/rapid"

	"unkai"
	"unkai/internal/core/ring"
)

// id is the i-th node's: far from its neighbours, as random ids are.
func id(i int) unkai.NodeID { return unkai.NodeID(xxh3.HashString(fmt.Sprint("node", i)) | 1) }

func draw(t *rapid.T, least int) []ring.Node {
	nodes := make([]ring.Node, rapid.IntRange(least, 40).Draw(t, "nodes"))
	weights := rapid.SampledFrom([]int{1, 1, 3}).Draw(t, "heaviest")
	zones := rapid.SampledFrom([]int{1, 1, 3, 4}).Draw(t, "zones")
	for i := range nodes {
		nodes[i] = ring.Node{ID: id(i), Weight: rapid.IntRange(1, weights).Draw(t, "weight")}
		if zones > 1 {
			nodes[i].Zone = fmt.Sprint("z", i%zones)
		}
	}
	return nodes
}

type held struct{ replicas, firsts map[unkai.NodeID]int }

func count(m ring.Map) held {
	h := held{map[unkai.NodeID]int{}, map[unkai.NodeID]int{}}
	for _, set := range m {
		for i, n := range set {
			h.replicas[n]++
			if i == 0 {
				h.firsts[n]++
			}
		}
	}
	return h
}

// check holds a map against what Place promises.
func check(t interface{ Fatalf(string, ...any) }, m ring.Map, n int, nodes []ring.Node) {
	k := min(n, len(nodes))
	zoneOf, zones := map[unkai.NodeID]string{}, map[string]int{}
	weight, heaviest := 0, 0
	for _, node := range nodes {
		zoneOf[node.ID] = node.Zone
		zones[node.Zone] += node.Weight
		weight += node.Weight
		heaviest = max(heaviest, node.Weight)
	}
	for b, set := range m {
		met, apart := map[unkai.NodeID]bool{}, map[string]bool{}
		for _, n := range set {
			met[n], apart[zoneOf[n]] = true, true
		}
		if len(set) != k || len(met) != k || met[0] {
			t.Fatalf("bucket %d has replicas %v, want %d distinct", b, set, k)
		}
		if len(apart) < min(k, len(zones)) {
			t.Fatalf("bucket %d is in %d zones of %d: %v", b, len(apart), len(zones), set)
		}
	}
	// Shares are exact where neither a node nor a zone has more than it can hold.
	for _, w := range zones {
		if len(zones) > 1 && (w*k > weight || w*k < weight && len(zones) <= k) {
			return
		}
	}
	if heaviest*k > weight {
		return
	}
	h := count(m)
	for _, node := range nodes {
		total := len(m) * k * node.Weight
		if got := h.replicas[node.ID]; got*weight > total+total/20+weight {
			t.Fatalf("node %v of weight %d holds %d of %d replicas, its share is %d", node.ID, node.Weight, got, len(m)*k, total/weight)
		}
		share := len(m) * node.Weight
		if got := h.firsts[node.ID]; got*weight > share+share/20+weight {
			t.Fatalf("node %v is first for %d of %d buckets, its share is %d", node.ID, got, len(m), share/weight)
		}
	}
}

// moved is how many replicas of b are not where a has them.
func moved(a, b ring.Map) (n int) {
	for i := range b {
		for _, node := range b[i] {
			if !slices.Contains(a[i], node) {
				n++
			}
		}
	}
	return n
}

func TestPlaceKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := draw(t, 1)
		n := rapid.IntRange(1, 5).Draw(t, "n")
		buckets := rapid.SampledFrom([]int{16, 256, 1024}).Draw(t, "buckets")
		m := ring.Place(buckets, n, nodes, nil)
		check(t, m, n, nodes)
		if again := ring.Place(buckets, n, nodes, m); moved(m, again) != 0 || !slices.EqualFunc(m, again, slices.Equal) {
			t.Fatalf("with nothing changed %d replicas move", moved(m, again))
		}
		shuffled := slices.Clone(nodes)
		rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if other := ring.Place(buckets, n, shuffled, nil); !slices.EqualFunc(m, other, slices.Equal) {
			t.Fatalf("the order of the nodes matters")
		}
	})
}

// Adding or removing a node moves at most 1.1 times what those who gain by it
// must get. With zones, or with a node that has to be in most buckets, others
// may have to make room, which this bound does not know of: there it is twice.
func TestChangesMoveLittle(t *testing.T) {
	worst := 1.0
	rapid.Check(t, func(t *rapid.T) {
		nodes := draw(t, 4)
		n := rapid.IntRange(1, 3).Draw(t, "n")
		const buckets = 1024
		one := rapid.IntRange(0, len(nodes)-1).Draw(t, "which")
		fewer := slices.Delete(slices.Clone(nodes), one, one+1)
		for _, c := range []struct {
			name     string
			from, to []ring.Node
		}{{"add", fewer, nodes}, {"remove", nodes, fewer}} {
			before := ring.Place(buckets, n, c.from, nil)
			after := ring.Place(buckets, n, c.to, before)
			check(t, after, n, c.to)
			// At least what the shares of those who gain differ by.
			was, is, least := count(before), count(after), 0
			for _, node := range c.to {
				least += max(0, is.replicas[node.ID]-was.replicas[node.ID])
			}
			got := moved(before, after)
			weight, heaviest := 0, 0
			for _, node := range fewer {
				weight, heaviest = weight+node.Weight, max(heaviest, node.Weight)
			}
			most := 1.1
			if nodes[0].Zone != "" || 3*heaviest*n > 2*weight {
				most = 2
			}
			if float64(got) > most*float64(least)+1 {
				t.Fatalf("%s one of %d nodes: %d replicas move, at least %d have to", c.name, len(nodes), got, least)
			}
			if least > 0 {
				worst = max(worst, float64(got)/float64(least))
			}
		}
	})
	t.Logf("at most %.3f times the least possible moved", worst)
}

// The map is a format: other versions must come to the same.
func TestPlaceVectors(t *testing.T) {
	for _, c := range []struct {
		nodes, zones, n int
		want            uint64
	}{{3, 1, 3, vector3}, {7, 1, 3, vector7}, {12, 3, 3, vector12}} {
		var nodes []ring.Node
		for i := range c.nodes {
			nodes = append(nodes, ring.Node{ID: id(i), Weight: 1 + i%2, Zone: fmt.Sprint(i % c.zones)})
		}
		if got := xxh3.HashString(fmt.Sprint(ring.Place(1024, c.n, nodes, nil))); got != c.want {
			t.Errorf("%d nodes: %#x, want %#x", c.nodes, got, c.want)
		}
	}
}

func BenchmarkPlace200(b *testing.B) {
	var nodes []ring.Node
	for i := range 200 {
		nodes = append(nodes, ring.Node{ID: id(i), Weight: 1, Zone: fmt.Sprint(i % 3)})
	}
	before := ring.Place(1024, 3, nodes[1:], nil)
	b.ResetTimer()
	for b.Loop() {
		ring.Place(1024, 3, nodes, before)
	}
}

const (
	vector3  = 0xff23481aa04a37d8
	vector7  = 0xc4ea70f43d5980c4
	vector12 = 0x34b574f875a16216
)
