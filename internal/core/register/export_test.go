package register

// Inner is what else tells proposers apart.
func (p *Proposer) Inner() []uint64 {
	again := uint64(0)
	if p.again {
		again = 1
	}
	if p.maybe {
		again |= 2
	}
	return []uint64{uint64(p.seen), uint64(p.from), uint64(p.first), p.Floor, uint64(p.Tally.At), uint64(p.held), uint64(p.Tally.Still), uint64(p.Tally.First), uint64(p.Tally.Forgot), again, uint64(p.under)}
}
