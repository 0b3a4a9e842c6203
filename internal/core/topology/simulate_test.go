package topology_test

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"unkai/internal/core/topology"
)

func TestSimulate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := topology.Layout{
			Nodes: rapid.IntRange(3, 20).Draw(t, "nodes"), Zones: rapid.SampledFrom([]int{0, 3}).Draw(t, "zones"),
			Buckets: 256, N: rapid.IntRange(1, 3).Draw(t, "n"), Weights: rapid.SliceOfN(rapid.IntRange(1, 2), 0, 3).Draw(t, "weights"),
			Add: rapid.IntRange(0, 4).Draw(t, "add"), Remove: rapid.IntRange(0, 2).Draw(t, "remove"),
		}
		steps, err := l.Simulate()
		if err != nil {
			t.Fatalf("%+v: %v", l, err)
		}
		want := 1 + min(l.Add, 1) + min(l.Remove, 1)
		if len(steps) != want || steps[0].Plan.Amount.Replicas != 0 {
			t.Fatalf("%+v: %d steps, the first moves %+v", l, len(steps), steps[0].Plan.Amount)
		}
		for i, s := range steps {
			sum := 0
			for _, n := range s.Plan.Nodes {
				sum += n.After
				if d := math.Abs(float64(n.After) - n.Ideal); l.Zones == 0 && d > 1 && d > n.Ideal/20 {
					t.Fatalf("%+v, %s: %+v", l, s.Name, n)
				}
			}
			left := l.Nodes
			if i > 0 {
				left += l.Add
			}
			if s.Plan.Kind == topology.KindDetach {
				left -= l.Remove
			}
			if want := 256 * min(l.N, left); sum != want {
				t.Fatalf("%+v, %s: %d replicas, want %d", l, s.Name, sum, want)
			}
		}
	})
	for _, l := range []topology.Layout{{}, {Nodes: 3, Buckets: 100, N: 3}, {Nodes: 3, Buckets: 64}, {Nodes: 3, Buckets: 64, N: 3, Remove: 3}, {Nodes: 3, Buckets: 64, N: 3, Weights: []int{0}}, {Nodes: 3, Buckets: 64, N: 3, Weights: []int{1001}}, {Nodes: 2, Add: 1, Buckets: 64, N: 3, Weights: []int{1 << 62}}, {Nodes: 100, Buckets: 64, N: 3, Weights: []int{1000}}, {Nodes: 3000, Buckets: 64, N: 3}} {
		if _, err := l.Simulate(); err == nil {
			t.Errorf("%+v", l)
		}
	}
}
