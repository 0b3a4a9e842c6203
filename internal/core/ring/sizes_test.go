package ring_test

import (
	"testing"

	"unkai"
	"unkai/internal/core/ring"
)

// Clusters of 3 to 20 nodes with three replicas, through every change of one node:
// what moves is at most 1.1 times what those who gain by it must get, and no node is
// more than 5 % from its share.
func TestChangesOfOneNode(t *testing.T) {
	const buckets, n = 1024, 3
	for size := 3; size <= 20; size++ {
		var nodes []ring.Node
		for i := range size + 1 {
			nodes = append(nodes, ring.Node{ID: id(i), Weight: 1})
		}
		before := ring.Place(buckets, n, nodes[:size], nil)
		for _, c := range []struct {
			name string
			to   []ring.Node
		}{{"attach", nodes}, {"detach", nodes[1:size]}, {"replace", nodes[1:]}} {
			if len(c.to) < n {
				continue // what is left cannot hold three replicas
			}
			after := ring.Place(buckets, n, c.to, before)
			was, is := count(before), count(after)
			least := 0
			for _, node := range c.to {
				least += max(0, is.replicas[node.ID]-was.replicas[node.ID])
				checkShare(t, c.name, len(c.to), is.replicas[node.ID], buckets*n, node.ID)
			}
			if got := moved(before, after); 10*got > 11*least {
				t.Errorf("%s, %d nodes before: %d replicas move, at least %d have to", c.name, size, got, least)
			}
		}
	}
}

func checkShare(t *testing.T, name string, nodes, held, all int, id unkai.NodeID) {
	t.Helper()
	ideal := float64(all) / float64(nodes)
	if off := float64(held)/ideal - 1; off > 0.05 || off < -0.05 {
		t.Errorf("%s, %d nodes after: node %v holds %d replicas, its share is %.1f", name, nodes, id, held, ideal)
	}
}
