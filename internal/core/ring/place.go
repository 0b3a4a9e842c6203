package ring

import "unkai"

// Node is a holder of buckets as placement sees it.
type Node struct {
	ID     unkai.NodeID
	Weight int
	Zone   string
}

// Map gives for each bucket its replica set, in order.
type Map [][]unkai.NodeID

// Place is the map of the given number of buckets over nodes with n replicas each.
func Place(buckets, n int, nodes []Node, old Map) Map {
	m := make(Map, buckets)
	for b := range m {
		for i := range min(n, len(nodes)) {
			m[b] = append(m[b], nodes[(b+i)%len(nodes)].ID)
		}
	}
	return m
}
