package topology

import (
	"slices"

	"unkai"
)

// Shares are what each node holds, and should by its weight.
func (t *Topology) Shares() []Held {
	out := make([]Held, len(t.Nodes))
	at := make([]*Held, t.Seats+1)
	for i, n := range t.Nodes {
		out[i].Ideal = t.ideal(n)
		at[n.Seat] = &out[i]
	}
	each := func(seats []unkai.Seat, f func(*Held)) {
		for _, s := range seats {
			if at[s] != nil {
				f(at[s])
			}
		}
	}
	for b := range t.Sets {
		s := &t.Sets[b]
		each(s.Replicas, func(h *Held) { h.Present++ })
		each(without(slices.Concat(s.Joining, s.Due), s.Replicas), func(h *Held) { h.Joining++ })
		each(without(s.Leaving, s.Replicas), func(h *Held) { h.Leaving++ })
	}
	return out
}

// Held is how many buckets a node holds.
type Held struct {
	Present int // of which it is a replica
	Joining int // that come to it, or will when their turn has come
	Leaving int // that it has given away and still writes
	Ideal   float64
}
