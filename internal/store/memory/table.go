package memory

import (
	"math/bits"
	"unsafe"

	"unkai"
)

// The index of a part is a set of tables, each for the tags with one prefix.
// A table is open addressing with linear probing in a slot of the shard. The
// place where a search begins rises with the tag, so that "all entries with a
// tag from here to there" means the same before and after a table has grown or
// was split: that is what a scan goes by.
//
// An entry is a tag (31 bits of the mixed hash), a parity bit and a loc; 0 is
// none. The parity makes every single flipped bit visible to whoever searches
// past it: a record whose entry is damaged is not taken for absent.
const (
	tagBits   = 31
	tagMask   = 1<<tagBits - 1
	tagShift  = 64 - tagBits
	parityBit = 1 << 32

	minTable = 64 / 8
	maxTable = maxSlot / 8
	// A part has at most 1<<maxDepth tables; beyond that, too many keys have
	// the same tag for it to be chance.
	maxDepth = 16
)

type entry uint64

func makeEntry(tag, loc uint32) entry {
	e := entry(tag)<<tagShift | entry(loc)
	if bits.OnesCount64(uint64(e))%2 == 1 {
		e |= parityBit
	}
	return e
}

func (e entry) tag() uint32  { return uint32(e >> tagShift) }
func (e entry) loc() uint32  { return uint32(e) }
func (e entry) intact() bool { return bits.OnesCount64(uint64(e))%2 == 0 }

// table is one table of a part's index. It stands in the first of the places
// of the directory that share its prefix.
type table struct {
	loc   uint32
	size  uint16 // entries there is room for
	used  uint16
	depth uint8 // length of the prefix, in bits
	// shared: a snapshot reads it, so a change needs a copy.
	shared bool
	// damaged: an entry was found damaged; a key not found may have been it.
	damaged bool
}

// part is a bucket, or a fraction of one: records and their index.
type part struct {
	dir    []table // by the upper bits of the tag
	depth  uint8   // log2(len(dir))
	pins   *pins
	counts counts
}

// table for a tag; nil if the part is empty.
func (p *part) table(tag uint32) *table {
	if p.dir == nil {
		return nil
	}
	i := tag >> (tagBits - p.depth)
	return &p.dir[i&^(1<<(p.depth-p.dir[i].depth)-1)]
}

// home is where the search for a tag begins.
func (t *table) home(tag uint32) int {
	return int(uint64(tag<<t.depth&tagMask) * uint64(t.size) >> tagBits)
}

// entries of a table.
func (v *view) entries(t *table) []entry {
	return unsafe.Slice((*entry)(unsafe.Pointer(&v.at(t.loc)[0])), int(t.size))
}

// place is where a record was found.
type place struct {
	t    *table
	i    int // in the table
	loc  uint32
	head head
}

type finding uint8

const (
	absent finding = iota
	present
	unknown // damaged
)

// find searches the record of a key. Everything it meets on the way must be
// intact, or the key is unknown.
func (s *shard) find(p *part, tag uint32, b unkai.Bucket, key []byte) (at place, f finding) {
	t := p.table(tag)
	if t == nil {
		return place{}, absent
	}
	if t.damaged {
		f = unknown // unless it is found
	}
	es := s.entries(t)
	for i, n := t.home(tag), 0; n < len(es); n++ {
		e := es[i]
		if e == 0 {
			break
		}
		if !e.intact() {
			t.damaged = true
			f = unknown
		} else if e.tag() == tag {
			h, ok := parse(s.at(e.loc()))
			if !ok || !h.intact(b) {
				f = unknown
			} else if string(h.key()) == string(key) {
				return place{t, i, e.loc(), h}, present
			}
		}
		if i++; i == len(es) {
			i = 0
		}
	}
	if f == unknown {
		s.damaged++
	}
	return place{t: t}, f
}

// insert adds an entry for a tag.
func (s *shard) insert(p *part, tag, loc uint32, r right) bool {
	if p.dir == nil {
		l, ok := s.alloc(minTable*8, r, true)
		if !ok {
			return false
		}
		p.dir = []table{{loc: l, size: minTable}}
		clear(s.entries(&p.dir[0]))
	}
	for {
		t := p.table(tag)
		if int(t.used+1)*16 <= int(t.size)*13 {
			break
		}
		if !s.grow(p, t, tag, r) {
			if t.used+1 >= t.size { // one place stays empty
				return false
			}
			break
		}
	}
	t := p.table(tag)
	if !s.own(p, t, r) {
		return false
	}
	put(s.entries(t), t, makeEntry(tag, loc))
	return true
}

// put adds an entry where there is room for it.
func put(es []entry, t *table, e entry) {
	i := t.home(e.tag())
	for es[i] != 0 {
		if i++; i == len(es) {
			i = 0
		}
	}
	es[i] = e
	t.used++
}

// replace changes the loc of an entry.
func (s *shard) replace(p *part, at place, tag, loc uint32, r right) bool {
	if !s.own(p, at.t, r) {
		return false
	}
	s.entries(at.t)[at.i] = makeEntry(tag, loc)
	return true
}

// own makes sure that nobody else reads the table.
func (s *shard) own(p *part, t *table, r right) bool {
	if !t.shared {
		return true
	}
	loc, ok := s.alloc(int(t.size)*8, r, true)
	if !ok {
		return false
	}
	old := *t
	t.loc, t.shared = loc, false
	copy(s.entries(t), s.entries(&old))
	s.release(p, old.loc)
	return true
}

// remove takes an entry out of a table that nobody else reads.
func (s *shard) remove(p *part, at place) {
	t := at.t
	es := s.entries(t)
	n := len(es)
	hole := at.i
	for i := hole; ; {
		if i++; i == n {
			i = 0
		}
		e := es[i]
		if e == 0 {
			break
		}
		if !e.intact() {
			t.damaged = true
		}
		// It may go into the hole if its search passes there.
		if (i-t.home(e.tag())+n)%n >= (i-hole+n)%n {
			es[hole] = e
			hole = i
		}
	}
	es[hole] = 0
	t.used--
	if t.size > minTable && int(t.used)*4 < int(t.size) {
		s.resize(p, t, int(t.used)*3/2, toDelete)
	}
}

// grow makes the table of a tag larger, or cuts it in two.
func (s *shard) grow(p *part, t *table, tag uint32, r right) bool {
	if int(t.size) < maxTable {
		return s.resize(p, t, int(t.size)*8/7, r)
	}
	return s.split(p, t, tag, r)
}

// tableSize is the number of entries of the table with room for n at least.
func tableSize(n int) int {
	return int(sizes[classOf(min(max(n, minTable), maxTable)*8)]) / 8
}

// resize moves the entries to a table of at least n.
func (s *shard) resize(p *part, t *table, n int, r right) bool {
	size := tableSize(n)
	loc, ok := s.alloc(size*8, r, false)
	if !ok {
		return false
	}
	old := *t
	*t = table{loc: loc, size: uint16(size), depth: old.depth, damaged: old.damaged}
	es := s.entries(t)
	clear(es)
	for _, e := range s.entries(&old) {
		if e == 0 {
			continue
		}
		if !e.intact() {
			t.damaged = true
			continue
		}
		put(es, t, e)
	}
	s.release(p, old.loc)
	return true
}

// split cuts a table in two by the next bit of the tag.
func (s *shard) split(p *part, t *table, tag uint32, r right) bool {
	old := *t
	if old.depth == maxDepth {
		return false
	}
	depth := old.depth + 1
	bit := uint32(1) << (tagBits - depth)
	var n [2]int
	oldEntries := s.entries(&old)
	for _, e := range oldEntries {
		if e != 0 && e.tag()&bit != 0 {
			n[1]++
		} else if e != 0 {
			n[0]++
		}
	}
	var half [2]table
	for i := range half {
		size := tableSize(n[i]*4/3 + 1)
		loc, ok := s.alloc(size*8, r, false)
		if !ok {
			if i == 1 {
				s.free(half[0].loc)
			}
			return false
		}
		half[i] = table{loc: loc, size: uint16(size), depth: depth, damaged: old.damaged}
		clear(s.entries(&half[i]))
	}
	for _, e := range oldEntries {
		if e == 0 {
			continue
		}
		if !e.intact() {
			half[0].damaged, half[1].damaged = true, true
			continue
		}
		h := &half[e.tag()&bit>>(tagBits-depth)]
		put(s.entries(h), h, e)
	}
	if depth > p.depth {
		double := make([]table, 2*len(p.dir))
		for i, t := range p.dir {
			double[2*i], double[2*i+1] = t, t
		}
		p.dir = double
		p.depth++
	}
	// The places of the old table: the first half of them to one, the
	// second to the other.
	span := 1 << (p.depth - old.depth)
	first := int(tag>>(tagBits-p.depth)) &^ (span - 1)
	for i := range span {
		p.dir[first+i] = half[i/(span/2)]
	}
	s.release(p, old.loc)
	return true
}

// each passes the tables of the part, with the first tag of each.
func each(dir []table, depth uint8, f func(t *table, first uint32)) {
	for i := 0; i < len(dir); {
		t := &dir[i]
		f(t, uint32(i)<<(tagBits-depth))
		i += 1 << (depth - t.depth)
	}
}

// clearTables gives the index of an empty part back.
func (s *shard) clearTables(p *part) {
	each(p.dir, p.depth, func(t *table, _ uint32) { s.release(p, t.loc) })
	p.dir, p.depth = nil, 0
}
