package ring

import "slices"

// effort bounds the work that save does, in looks at a replica and a node.
const effort = 200 << 20

// save takes moves back that turn out not to be needed. The nodes pass buckets
// around in a circle, each giving one to the next, so that every node holds as
// many as before and more replicas are where they were: as long as there is such
// a circle, fewer could move (Klein 1967). Without zones nothing less is possible
// then.
func (p *placing) save() {
	per := max(1, len(p.sets)*p.n*len(p.nodes))
	for range max(1, effort/per) {
		if !p.saveOne() {
			return
		}
	}
}

// passing is the cheapest way for one node to give a bucket to another: what it
// costs, in moves, and in which bucket.
type passing struct{ cost, bucket int }

// impossible is more than any way costs.
const impossible = 1 << 40

func (p *placing) saveOne() bool {
	n := len(p.nodes)
	ways := p.passings()
	dist, from := make([]int, n), make([]int, n)
	for i := range from {
		from[i] = -1
	}
	for range n {
		changed := false
		for u := range n {
			for v := range n {
				if w := ways[u*n+v].cost; w != impossible && dist[u]+w < dist[v] {
					dist[v], from[v], changed = dist[u]+w, u, true
				}
			}
		}
		if !changed {
			return false
		}
		if at := circle(from); at >= 0 {
			return p.pass(ways, from, at)
		}
	}
	return false
}

func (p *placing) passings() []passing {
	n := len(p.nodes)
	ways := make([]passing, n*n)
	for i := range ways {
		ways[i].cost = impossible
	}
	kept := make([]bool, n)
	for b, set := range p.sets {
		for _, i := range p.kept[b] {
			kept[i] = true
		}
		for _, u := range set {
			for v := range n {
				cost := 0
				if kept[u] {
					cost++
				}
				if kept[v] {
					cost--
				}
				if way := &ways[u*n+v]; cost < way.cost && p.fits(b, v, u) {
					*way = passing{cost, b}
				}
			}
		}
		for _, i := range p.kept[b] {
			kept[i] = false
		}
	}
	return ways
}

// circle finds a node on a circle of these steps back; -1: there is none.
func circle(from []int) int {
	seen := make([]int, len(from))
	for start := range from {
		for i := start; i >= 0 && seen[i] != start+1; i = from[i] {
			if seen[i] != 0 {
				break // where an earlier walk has been
			}
			seen[i] = start + 1
			if next := from[i]; next >= 0 && seen[next] == start+1 {
				return next
			}
		}
	}
	return -1
}

// pass has the nodes of a circle give a bucket each to the next. In one bucket
// two steps may not fit together, because of zones: then nothing changes.
func (p *placing) pass(ways []passing, from []int, at int) bool {
	n := len(p.nodes)
	type step struct{ bucket, place, was int }
	var done []step
	for v := at; ; {
		u := from[v]
		b := ways[u*n+v].bucket
		k := slices.Index(p.sets[b], u)
		if k < 0 || !p.fits(b, v, u) {
			for _, s := range slices.Backward(done) {
				p.sets[s.bucket][s.place] = s.was
			}
			return false
		}
		done = append(done, step{b, k, u})
		p.sets[b][k] = v
		if v = u; v == at {
			return true
		}
	}
}
