package register

import "slices"

// Part gives a copy of a proposer memory of its own.
func (p *Proposer) Part() { p.tried = slices.Clone(p.tried) }

// Inner is what else tells proposers apart.
func (p *Proposer) Inner() []uint64 {
	again := uint64(0)
	if p.again {
		again = 1
	}
	if p.maybe {
		again |= 2
	}
	inner := []uint64{uint64(p.seen), uint64(p.from), uint64(p.first), p.Floor, uint64(p.Tally.At), uint64(p.held), uint64(p.Tally.Still), uint64(p.Tally.First), uint64(p.Tally.Forgot), again, uint64(p.under), p.Base, p.Unique}
	for _, t := range p.tried {
		inner = append(inner, t.base, t.unique)
	}
	return inner
}
