package register

// Inner is what else tells proposers apart.
func (p *Proposer) Inner() []uint64 {
	return []uint64{uint64(p.seen), uint64(p.from), uint64(p.first), p.Floor, uint64(p.Tally.At)}
}
