package topology

import (
	"hash/fnv"

	"unkai"
)

// Sum is a checksum of all that a sealed topology says. Two topologies with the same
// epoch and sum are the same one.
func (t *Topology) Sum() uint64 { return t.seal.sum }

func sumHead(head []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(head) // it never fails
	return h.Sum64()
}

// sumOf is what one bucket gives to the sum of all sets. They are added up, so that the
// sum of a topology comes of another's and of what has changed.
func sumOf(b int, set uint64) uint64 { return scatter(set + uint64(b)*0x9e3779b97f4a7c15) }

// hash is a number that differs between sets.
func (s *Set) hash() uint64 {
	h := stir(0, uint64(s.Epoch))
	for _, list := range [...][]unkai.Seat{s.Replicas, s.Joining, s.Leaving, s.Due, s.Strays} {
		h = stir(h, uint64(len(list)))
		for _, seat := range list {
			h = stir(h, uint64(seat))
		}
	}
	return scatter(h)
}

// stir takes a number up; for each h, and for each n, the result is another one.
func stir(h, n uint64) uint64 {
	h = (h ^ n) * 0x9fb21c651e98df25
	return h ^ h>>32
}

// scatter is a bijection after which each bit depends on all (the finalizer of splitmix64,
// Steele, Lea and Flood 2014).
func scatter(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// lists are the seats of a set, by what they are in it.
func (s *Set) lists() [5]*[]unkai.Seat {
	return [...]*[]unkai.Seat{&s.Replicas, &s.Joining, &s.Leaving, &s.Due, &s.Strays}
}

// equal reports whether two sets are the same.
func (s *Set) equal(o *Set) bool {
	return s.Epoch == o.Epoch && sameSeats(s.Replicas, o.Replicas) && sameSeats(s.Joining, o.Joining) &&
		sameSeats(s.Leaving, o.Leaving) && sameSeats(s.Due, o.Due) && sameSeats(s.Strays, o.Strays)
}

// sameSeats reports whether two lists are equal; most are one and the same.
func sameSeats(a, b []unkai.Seat) bool {
	if len(a) != len(b) {
		return false
	}
	if len(a) == 0 || &a[0] == &b[0] {
		return true
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// differ are the buckets whose sets are others than these, which are as many.
func (t *Topology) differ(from []Set) (out []unkai.Bucket) {
	for b := range t.Sets {
		if !t.Sets[b].equal(&from[b]) {
			out = append(out, unkai.Bucket(b))
		}
	}
	return out
}
