package ring

import "slices"

// part is one of those among whom something is divided by weight.
type part struct {
	weight, least, most int
	prefer              int // what it holds: who has more than its share keeps it first
}

// divide gives each part its share of total by weight, rounded up or down,
// within its bounds. The bounds must allow it.
func divide(total int, parts []part) []int {
	out := make([]int, len(parts))
	fixed := make([]bool, len(parts))
	for {
		left, weight := total, 0
		for i, p := range parts {
			if fixed[i] {
				left -= out[i]
			} else {
				weight += p.weight
			}
		}
		// Fix all who are beyond a bound, those below the least first: what they
		// take makes the others' shares smaller.
		again := false
		for i, p := range parts {
			if !fixed[i] && left*p.weight < p.least*weight {
				out[i], fixed[i], again = p.least, true, true
			}
		}
		if again {
			continue
		}
		for i, p := range parts {
			if !fixed[i] && left*p.weight > p.most*weight {
				out[i], fixed[i], again = p.most, true, true
			}
		}
		if again {
			continue
		}
		var open []int
		rest := left
		for i, p := range parts {
			if !fixed[i] {
				out[i] = left * p.weight / weight
				rest -= out[i]
				if out[i] < p.most && left*p.weight%weight != 0 {
					open = append(open, i)
				}
			}
		}
		// Who has just its share comes last: it need not be given anything at all.
		more := func(i int) (whole bool, by int) {
			by = parts[i].prefer - out[i]
			return by == 0, by
		}
		slices.SortStableFunc(open, func(a, b int) int {
			wholeA, byA := more(a)
			wholeB, byB := more(b)
			if wholeA != wholeB {
				if wholeB {
					return -1
				}
				return 1
			}
			return byB - byA
		})
		for _, i := range open {
			if rest > 0 {
				out[i]++
				rest--
			}
		}
		for i := range parts { // rounding has hit a bound: whoever has room
			for rest > 0 && out[i] < parts[i].most {
				out[i]++
				rest--
			}
		}
		return out
	}
}

// bound is how many replicas a node can hold.
func (p *placing) bound(i, buckets int) int {
	if p.nodes[i].Full {
		return p.count[i]
	}
	return buckets
}

// quotas is how many replicas each node shall hold: first the zones divide them,
// then the nodes of each zone.
func (p *placing) quotas(buckets int) []int {
	zones := make([]part, p.inAll)
	members := make([][]int, p.inAll)
	for i, n := range p.nodes {
		z := p.zone[i]
		zones[z].weight += n.Weight
		zones[z].prefer += p.count[i]
		members[z] = append(members[z], i)
	}
	for z := range zones {
		most := 0
		for _, i := range members[z] {
			most += p.bound(i, buckets)
		}
		zones[z].most = min(most, p.most*buckets)
		if p.inAll <= p.n {
			zones[z].least = min(most, buckets)
		}
	}
	out := make([]int, len(p.nodes))
	for z, total := range divide(buckets*p.n, zones) {
		parts := make([]part, len(members[z]))
		for k, i := range members[z] {
			parts[k] = part{weight: p.nodes[i].Weight, most: p.bound(i, buckets), prefer: p.count[i]}
		}
		for k, q := range divide(total, parts) {
			out[members[z][k]] = q
		}
	}
	return out
}

// order lets each node be first for its share of buckets. It changes as few
// firsts as it can.
func (p *placing) order(old Map) {
	firsts := make([]int, len(p.nodes))
	for b, set := range p.sets {
		if old != nil && len(old[b]) > 0 { // who was first stays so, if it is there
			if i, ok := p.index[old[b][0]]; ok {
				if k := slices.Index(set, i); k > 0 {
					copy(set[1:k+1], set[:k])
					set[0] = i
				}
			}
		}
		firsts[set[0]]++
	}
	want := make([]int, len(p.nodes))
	for i := range want {
		want[i] = (p.count[i] + p.n - 1) / p.n // each of its replicas is first as often as others
	}
	p.lead = make([][]int, len(p.nodes))
	for b, set := range p.sets {
		p.lead[set[0]] = append(p.lead[set[0]], b)
	}
	for i := range p.nodes {
		for firsts[i] > want[i] && p.passOn(i, firsts, want) {
		}
	}
}

// passOn lets node i be first for one bucket less, by a chain of nodes each of
// which takes over from the one before, until one has room.
func (p *placing) passOn(i int, firsts, want []int) bool {
	reached := make([]*hop, len(p.nodes))
	reached[i] = &hop{-1, -1}
	queue := make([]int, 1, len(p.nodes))
	queue[0] = i
	for found := 1; len(queue) > 0; {
		u := queue[0]
		queue = queue[1:]
		if firsts[u] < want[u] {
			firsts[i]--
			firsts[u]++
			for h := reached[u]; h.from >= 0; h = reached[u] {
				set := p.sets[h.at]
				k := slices.Index(set, u)
				set[0], set[k] = set[k], set[0]
				p.leads(h.from, u, h.at)
				u = h.from
			}
			return true
		}
		for _, b := range p.lead[u] {
			if found == len(p.nodes) {
				break
			}
			for _, v := range p.sets[b][1:] {
				if reached[v] == nil {
					reached[v] = &hop{u, b}
					queue = append(queue, v)
					found++
				}
			}
		}
	}
	return false
}

// leads notes that another node is first for a bucket now.
func (p *placing) leads(before, now, bucket int) {
	at, _ := slices.BinarySearch(p.lead[before], bucket)
	p.lead[before] = slices.Delete(p.lead[before], at, at+1)
	at, _ = slices.BinarySearch(p.lead[now], bucket)
	p.lead[now] = slices.Insert(p.lead[now], at, bucket)
}
