package memory

import (
	"math"
	"slices"
)

// pins keep the records and tables of a part as they are for somebody who
// reads without the lock: while there is a pin nothing is overwritten in its
// slot, and a slot given back is kept until no pin is older than that.
type pins struct {
	next    uint64
	active  []uint64
	waiting []waiting // in rising order of since
}

type waiting struct {
	loc   uint32
	since uint64
}

// pinned reports whether somebody reads the part without the lock.
func (p *part) pinned() bool { return p.pins != nil && len(p.pins.active) > 0 }

// pin keeps all slots of the part until unpin.
func (p *part) pin() uint64 {
	if p.pins == nil {
		p.pins = &pins{}
	}
	n := p.pins.next
	p.pins.next++
	p.pins.active = append(p.pins.active, n)
	return n
}

// unpin gives back the slots that only this pin has kept.
func (s *shard) unpin(p *part, pin uint64) {
	ps := p.pins
	i := slices.Index(ps.active, pin)
	ps.active = slices.Delete(ps.active, i, i+1)
	oldest := uint64(math.MaxUint64)
	for _, a := range ps.active {
		oldest = min(oldest, a)
	}
	n := 0
	for n < len(ps.waiting) && ps.waiting[n].since <= oldest {
		s.free(ps.waiting[n].loc)
		n++
	}
	ps.waiting = slices.Delete(ps.waiting, 0, n)
	if len(ps.active) > 0 {
		return
	}
	if cap(ps.waiting) > 64 {
		ps.waiting = nil
	}
	for i := range p.dir {
		p.dir[i].shared = false
	}
}

// release gives a slot back as soon as nobody reads it.
func (s *shard) release(p *part, loc uint32) {
	if p.pinned() {
		p.pins.waiting = append(p.pins.waiting, waiting{loc, p.pins.next})
		return
	}
	s.free(loc)
}
