package topology_test

import (
	"slices"

	"unkai"
	"unkai/internal/core/topology"
)

// least is how many replicas have to move, whatever is done, so that each seat
// holds as many as it does in after: a minimum-cost flow between the buckets of
// before and these numbers, got by cancelling negative cycles of after.
func least(before, after topology.Topology) (n int) {
	old, now := make([][]unkai.Seat, len(before.Sets)), make([][]unkai.Seat, len(before.Sets))
	for b := range old {
		old[b], now[b] = before.Sets[b].Replicas, slices.Clone(after.Sets[b].Replicas)
	}
	for better(old, now, int(after.Seats)) {
	}
	for b := range old {
		for _, s := range now[b] {
			if !slices.Contains(old[b], s) {
				n++
			}
		}
	}
	return n
}

// better lets seats pass buckets around in a circle so that fewer are moved,
// unless there is no such circle.
func better(old, now [][]unkai.Seat, seats int) bool {
	const far = 1 << 20
	cost := func(b int, s unkai.Seat) int {
		if slices.Contains(old[b], s) {
			return 0
		}
		return 1
	}
	price := make([][]int, seats+1) // of giving one bucket of the first to the second
	which := make([][]int, seats+1)
	for u := range price {
		price[u], which[u] = make([]int, seats+1), make([]int, seats+1)
		for v := range price[u] {
			price[u][v] = far
		}
	}
	for b := range now {
		for _, u := range now[b] {
			for v := 1; v <= seats; v++ {
				if p := cost(b, unkai.Seat(v)) - cost(b, u); p < price[u][v] && !slices.Contains(now[b], unkai.Seat(v)) {
					price[u][v], which[u][v] = p, b
				}
			}
		}
	}
	dist, from := make([]int, seats+1), make([]int, seats+1)
	last := 0
	for range seats + 1 {
		last = 0
		for u := 1; u <= seats; u++ {
			for v := 1; v <= seats; v++ {
				if price[u][v] < far && dist[u]+price[u][v] < dist[v] {
					dist[v], from[v], last = dist[u]+price[u][v], u, v
				}
			}
		}
	}
	if last == 0 {
		return false
	}
	for range seats {
		last = from[last]
	}
	for v := last; ; {
		u := from[v]
		set := now[which[u][v]]
		set[slices.Index(set, unkai.Seat(u))] = unkai.Seat(v)
		if v = u; v == last {
			return true
		}
	}
}
