package ring

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/zeebo/xxh3"

	"unkai"
)

// VirtualNodes is how many positions on the ring a node of weight 1 has.
const VirtualNodes = 128

// Node is a holder of buckets as placement sees it. Its weight is at least 1.
type Node struct {
	ID     unkai.NodeID
	Weight int
	Zone   string
	// Full says that it has no room: it gets nothing that it does not hold, as far as others
	// can take it.
	Full bool
}

// Map gives for each bucket its replica set, in order.
type Map [][]unkai.NodeID

// Place is the map of so many buckets over nodes, with n replicas of each, or as
// many as there are nodes, that is nearest to old (nil: there was none).
//
// Each node holds its share, by weight, rounded up or down, so that none is
// above it by more than one replica; a share cannot be more than one replica of
// every bucket, nor that of a full node more than it holds, and what is more goes to
// the others. The replicas of a bucket
// are on distinct nodes and, as far as there are zones, in distinct zones; where
// zones are so unequal that this and the shares cannot both be, zones count more
// and a zone gets no more than it can hold. Each node also is the first replica
// of its share of buckets, as far as its replicas allow.
//
// A new map is that of a hash ring with VirtualNodes positions for each unit of
// weight (Karger and others 1997), corrected by these bounds. The same input,
// in whatever order, gives the same map everywhere.
func Place(buckets, n int, nodes []Node, old Map) Map {
	nodes = slices.Clone(nodes)
	slices.SortFunc(nodes, func(a, b Node) int { return cmp.Compare(a.ID, b.ID) })
	p := &placing{nodes: nodes, n: min(n, len(nodes)), index: make(map[unkai.NodeID]int, len(nodes))}
	for i, node := range nodes {
		p.index[node.ID] = i
	}
	p.zones()
	p.start(buckets, old)
	p.count = make([]int, len(nodes))
	for _, set := range p.sets {
		for _, i := range set {
			p.count[i]++
		}
	}
	p.quota = p.quotas(buckets)
	p.lighten()
	p.fill()
	if old != nil {
		p.save()
	}
	p.order(old)
	out := make(Map, buckets)
	for b, set := range p.sets {
		out[b] = make([]unkai.NodeID, len(set))
		for k, i := range set {
			out[b][k] = nodes[i].ID
		}
	}
	return out
}

// placing is a map on its way. Nodes are known by their index.
type placing struct {
	nodes []Node
	n     int
	index map[unkai.NodeID]int
	zone  []int // of each node
	inAll int   // zones
	most  int   // replicas of a bucket in one zone
	sets  [][]int
	kept  [][]int // of the old map
	held  [][]int // of each bucket, those who are full
	count []int   // replicas of each node
	quota []int
	ring  []position
	lead  [][]int // the buckets that each node is first for, ascending
}

func (p *placing) zones() {
	var names []string
	for _, n := range p.nodes {
		if !slices.Contains(names, n.Zone) {
			names = append(names, n.Zone)
		}
	}
	slices.Sort(names)
	p.inAll = len(names)
	p.most = max(1, p.n-p.inAll+1)
	p.zone = make([]int, len(p.nodes))
	for i, n := range p.nodes {
		p.zone[i] = slices.Index(names, n.Zone)
	}
}

// start takes from the old map what may stay.
func (p *placing) start(buckets int, old Map) {
	p.sets, p.kept, p.held = make([][]int, buckets), make([][]int, buckets), make([][]int, buckets)
	for b := range p.sets {
		p.sets[b] = make([]int, 0, p.n)
		if old == nil {
			continue
		}
		for _, id := range old[b] {
			if i, ok := p.index[id]; ok && p.nodes[i].Full {
				p.held[b] = append(p.held[b], i)
			}
		}
		for _, id := range old[b] {
			if i, ok := p.index[id]; ok && p.fits(b, i, -1) {
				p.sets[b] = append(p.sets[b], i)
			}
		}
		p.kept[b] = slices.Clone(p.sets[b])
	}
}

// fits reports whether node i may join bucket b, from which without (-1: nobody)
// leaves.
func (p *placing) fits(b, i, without int) bool {
	size, here := 0, 0
	var seen uint64 // zones, of which only the first n can matter
	zones := 0
	note := func(z int) {
		if z >= 64 || seen&(1<<z) == 0 {
			zones++
		}
		seen |= 1 << min(z, 63)
	}
	for _, j := range p.sets[b] {
		if j == i {
			return false
		}
		if j == without {
			continue
		}
		size++
		if p.zone[j] == p.zone[i] {
			here++
		} else {
			note(p.zone[j])
		}
	}
	if p.nodes[i].Full && !slices.Contains(p.held[b], i) {
		return false
	}
	left := p.n - size - 1 // places after i has taken its own
	missing := min(p.inAll, p.n) - zones - 1
	return left >= 0 && here < p.most && missing <= left
}

// lighten lets nodes that hold too much hand buckets to nodes that hold too
// little, as long as one can take the place of the other.
func (p *placing) lighten() {
	for b := range p.sets {
		for k, i := range p.sets[b] {
			if p.count[i] <= p.quota[i] {
				continue
			}
			if v := p.taker(b, i); v >= 0 {
				p.sets[b][k] = v
				p.count[i]--
				p.count[v]++
			}
		}
	}
	// What is left over has to be given up; fill finds it a place.
	for b := range p.sets {
		p.sets[b] = slices.DeleteFunc(p.sets[b], func(i int) bool {
			over := p.count[i] > p.quota[i]
			if over {
				p.count[i]--
			}
			return over
		})
	}
}

// taker is the node with the most room that may take i's place in b; -1: there
// is none.
func (p *placing) taker(b, i int) int {
	best, room := -1, 0
	for v := range p.nodes {
		if r := p.quota[v] - p.count[v]; r > room && p.fits(b, v, i) {
			best, room = v, r
		}
	}
	return best
}

// fill completes every set: an empty one by the nodes that follow it on the
// ring, if they have room, the others as mend does; and where that fails by
// letting others move up.
func (p *placing) fill() {
	var holes []int
	for b := range p.sets {
		if len(p.sets[b]) > 0 {
			for range p.n - len(p.sets[b]) {
				holes = append(holes, b)
			}
			continue
		}
		for _, i := range p.walk(b) {
			if len(p.sets[b]) < p.n && p.count[i] < p.quota[i] && p.fits(b, i, -1) {
				p.sets[b] = append(p.sets[b], i)
				p.count[i]++
			}
		}
	}
	p.mend(holes)
	for b := range p.sets {
		for len(p.sets[b]) < p.n && p.augment(b) {
		}
	}
	for b := range p.sets { // the bounds cannot all be kept: distinct nodes count most
		if len(p.sets[b]) == p.n {
			continue
		}
		for _, i := range slices.Concat(p.kept[b], p.walk(b)) { // who holds it need not be brought it
			if len(p.sets[b]) < p.n && !slices.Contains(p.sets[b], i) {
				p.sets[b] = append(p.sets[b], i)
				p.count[i]++
			}
		}
	}
}

// mend gives each of these buckets one more node, as far as that goes without
// moving others. It serves the node first whose room is the hardest to use up:
// the largest against the buckets that could use it.
func (p *placing) mend(holes []int) {
	uses := make([]int, len(p.nodes))
	note := func(b, by int) {
		for v := range p.nodes {
			if p.fits(b, v, -1) {
				uses[v] += by
			}
		}
	}
	open := make([]int, len(p.sets)) // holes of each bucket
	for _, b := range holes {
		note(b, 1)
		open[b]++
	}
	next := make([]int, len(p.nodes)) // the first of holes that each node may still fill
	for left := len(holes); left > 0; {
		v := -1
		for i := range p.nodes {
			if room := p.quota[i] - p.count[i]; room > 0 && uses[i] > 0 && (v < 0 || room*uses[v] > (p.quota[v]-p.count[v])*uses[i]) {
				v = i
			}
		}
		if v < 0 {
			return
		}
		// Whom a set does not fit, a larger one does not.
		for next[v] < len(holes) && (open[holes[next[v]]] == 0 || !p.fits(holes[next[v]], v, -1)) {
			next[v]++
		}
		if next[v] == len(holes) { // another hole of the same bucket was counted
			uses[v] = 0
			continue
		}
		b := holes[next[v]]
		note(b, -open[b])
		open[b]--
		left--
		p.sets[b] = append(p.sets[b], v)
		p.count[v]++
		note(b, open[b])
	}
}

// hop is how a node was reached: it would take the place of from in bucket at.
type hop struct{ from, at int }

// augment gives bucket b one more node: one that has room, or one that has none
// but hands another of its buckets to one that has, and so on. Of the ways to do
// that it takes one that moves the fewest replicas which had stayed so far.
func (p *placing) augment(b int) bool {
	reached := make([]hop, len(p.nodes))
	done := make([]bool, len(p.nodes))
	cost := make([]int, len(p.nodes)) // one more than that of reaching it; 0: not reached
	var near, far []int               // to be looked at, at this cost and at one more
	reach := func(v, c int, h hop) {
		if cost[v] != 0 && cost[v] <= c {
			return
		}
		cost[v], reached[v] = c, h
		if len(near) > 0 && cost[near[0]] == c || len(near) == 0 && len(far) == 0 {
			near = append(near, v)
		} else {
			far = append(far, v)
		}
	}
	for i := range p.nodes {
		if p.fits(b, i, -1) {
			cost[i], reached[i] = 1, hop{-1, b}
			near = append(near, i)
		}
	}
	for at := 1; len(near) > 0 || len(far) > 0; {
		if len(near) == 0 {
			near, far, at = far, nil, at+1
		}
		i := near[0]
		if done[i] || cost[i] != at {
			near = near[1:]
			continue
		}
		done[i] = true
		if p.count[i] < p.quota[i] {
			p.count[i]++
			p.apply(b, i, reached)
			return true
		}
		for in := range p.sets {
			if in == b || !slices.Contains(p.sets[in], i) {
				continue
			}
			c := at
			if slices.Contains(p.kept[in], i) {
				c++
			}
			for v := range p.nodes {
				if !done[v] && p.fits(in, v, i) {
					reach(v, c, hop{i, in})
				}
			}
		}
		near = near[1:]
	}
	return false
}

// apply carries out the chain that ends at node i.
func (p *placing) apply(b, i int, reached []hop) {
	for h := reached[i]; h.from >= 0; h = reached[i] {
		p.sets[h.at][slices.Index(p.sets[h.at], h.from)] = i
		i = h.from
	}
	p.sets[b] = append(p.sets[b], i)
}

// position is one of a node's on the ring.
type position struct {
	at   uint64
	node int
}

// walk are all nodes in the order in which they follow a bucket on the ring.
func (p *placing) walk(b int) []int {
	if p.ring == nil {
		p.ring = ringOf(p.nodes)
	}
	at := uint64(b) * (^uint64(0)/uint64(len(p.sets)) + 1)
	first, _ := slices.BinarySearchFunc(p.ring, at, func(x position, at uint64) int { return cmp.Compare(x.at, at) })
	out := make([]int, 0, len(p.nodes))
	met := make([]bool, len(p.nodes))
	for k := 0; k < len(p.ring) && len(out) < len(p.nodes); k++ {
		if i := p.ring[(first+k)%len(p.ring)].node; !met[i] {
			met[i] = true
			out = append(out, i)
		}
	}
	return out
}

func ringOf(nodes []Node) []position {
	var ring []position
	var text [12]byte
	for i, n := range nodes {
		binary.LittleEndian.PutUint64(text[:], uint64(n.ID))
		for v := range n.Weight * VirtualNodes {
			binary.LittleEndian.PutUint32(text[8:], uint32(v))
			ring = append(ring, position{xxh3.Hash(text[:]), i})
		}
	}
	slices.SortFunc(ring, func(a, b position) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(nodes[a.node].ID, nodes[b.node].ID))
	})
	return ring
}
