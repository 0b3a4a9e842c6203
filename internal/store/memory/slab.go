package memory

import (
	"math/bits"
	"sync"
)

// A loc names a slot of a shard: the page within the shard in the upper bits,
// the offset in units of 8 bytes in the lower. No slot has the loc 0, since the
// page 0 of a shard does not exist.
const (
	unit     = 8
	unitBits = 13 // log2(pageSize/unit)

	minSlot = 48
	maxSlot = pageSize / 4
	words   = (pageSize/minSlot + 63) / 64
)

// sizes are those of the slots, rising by a sixth or less up to 4 KB, and
// above by as many as fit in a page. The last is a whole page, for pieces of
// long values.
var sizes = func() (s []uint32) {
	for n := uint32(minSlot); n <= 4096; n += max(unit, uint32(1)<<bits.Len32(n)>>4) {
		s = append(s, n)
	}
	for k := uint32(15); k >= 4; k-- {
		s = append(s, pageSize/k&^(unit-1))
	}
	return append(s, pageSize)
}()

const classes = 64

// classBySize is the class for a length in units, up to maxSlot.
var classBySize = func() (c [maxSlot/unit + 1]uint8) {
	class := uint8(0)
	for i := range c {
		for sizes[class] < uint32(i*unit) {
			class++
		}
		c[i] = class
	}
	return c
}()

func classOf(size int) uint8 {
	if size > maxSlot {
		return uint8(len(sizes) - 1)
	}
	return classBySize[(size+unit-1)/unit]
}

// chunk is the state of a page that a shard has cut into slots.
type chunk struct {
	next, prev uint32 // among those of the class that have a free slot; 0: none
	used       uint16
	class      uint8
	free       [words]uint64 // a bit for each slot
}

// shard is a part of the engine's memory, and the lock over it and over the
// parts that live in it.
type shard struct {
	mu   sync.Mutex
	pool *pool
	view
	chunks []chunk         // by page of the shard, as view.pages
	idle   []uint32        // pages of the shard that have been given back
	open   [classes]uint32 // by class: the first chunk with a free slot

	counts          counts
	writes, damaged int64

	_ [64]byte // keeps neighbours off this cache line
}

// view is what it takes to find a slot. A copy made under the lock serves
// without it, for the slots that were there and are pinned.
type view struct {
	segments [][]byte
	pages    []uint32 // page of the shard → page of the pool
}

func (s *shard) init(p *pool) {
	s.pool = p
	s.pages = make([]uint32, 1)
	s.chunks = make([]chunk, 1)
}

// at is the memory from a slot on to the end of its page, or nil for a loc that
// cannot be.
func (v *view) at(loc uint32) []byte {
	i := int(loc >> unitBits)
	if i == 0 || i >= len(v.pages) {
		return nil
	}
	return pageOf(v.segments, v.pages[i])[loc%(1<<unitBits)*unit:]
}

// sizeOf is the size of the slot.
func (s *shard) sizeOf(loc uint32) int { return int(sizes[s.chunks[loc>>unitBits].class]) }

// alloc takes a slot of the class for size or, if there is none and spill says
// so, of a larger one.
func (s *shard) alloc(size int, r right, spill bool) (loc uint32, ok bool) {
	class := classOf(size)
	if s.open[class] != 0 || s.addChunk(class, r) {
		return s.cut(class), true
	}
	if !spill || size > maxSlot {
		return 0, false
	}
	for c := int(class) + 1; c < len(sizes)-1; c++ {
		if r == toGrow && int(sizes[c]) > 2*size {
			break
		}
		if s.open[c] != 0 {
			return s.cut(uint8(c)), true
		}
	}
	return 0, false
}

// addChunk takes a page from the pool and cuts it into slots of the class.
func (s *shard) addChunk(class uint8, r right) bool {
	if len(s.idle) == 0 && len(s.pages) == 1<<(32-unitBits) {
		return false
	}
	page, segments, ok := s.pool.take(r)
	if !ok {
		return false
	}
	s.segments = segments
	var i uint32
	if n := len(s.idle); n > 0 {
		i, s.idle = s.idle[n-1], s.idle[:n-1]
		s.pages[i] = page
	} else {
		i = uint32(len(s.pages))
		s.pages = append(s.pages, page)
		s.chunks = append(s.chunks, chunk{})
	}
	c := &s.chunks[i]
	*c = chunk{class: class}
	for n := pageSize / sizes[class]; n > 0; n-- {
		c.free[(n-1)/64] |= 1 << ((n - 1) % 64)
	}
	s.link(i)
	return true
}

// cut takes a slot of the first open chunk of the class.
func (s *shard) cut(class uint8) uint32 {
	i := s.open[class]
	c := &s.chunks[i]
	size := sizes[class]
	for w := range c.free {
		if c.free[w] == 0 {
			continue
		}
		bit := uint32(bits.TrailingZeros64(c.free[w]))
		c.free[w] &^= 1 << bit
		c.used++
		if uint32(c.used) == pageSize/size {
			s.unlink(i)
		}
		return i<<unitBits | (uint32(w)*64+bit)*size/unit
	}
	panic("memory: an open chunk has no free slot")
}

// free gives a slot back, and its page to the pool when it was the last.
func (s *shard) free(loc uint32) {
	i := loc >> unitBits
	c := &s.chunks[i]
	size := sizes[c.class]
	slot := loc % (1 << unitBits) * unit / size
	if c.free[slot/64]&(1<<(slot%64)) != 0 {
		panic("memory: a slot is given back twice")
	}
	c.free[slot/64] |= 1 << (slot % 64)
	if uint32(c.used) == pageSize/size {
		s.link(i)
	}
	c.used--
	if c.used == 0 {
		s.unlink(i)
		s.pool.give(s.pages[i])
		s.idle = append(s.idle, i)
	}
}

// link puts a chunk in front of the open ones of its class.
func (s *shard) link(i uint32) {
	c := &s.chunks[i]
	c.prev, c.next = 0, s.open[c.class]
	if c.next != 0 {
		s.chunks[c.next].prev = i
	}
	s.open[c.class] = i
}

func (s *shard) unlink(i uint32) {
	c := &s.chunks[i]
	if c.next != 0 {
		s.chunks[c.next].prev = c.prev
	}
	if c.prev != 0 {
		s.chunks[c.prev].next = c.next
	} else {
		s.open[c.class] = c.next
	}
	c.prev, c.next = 0, 0
}
