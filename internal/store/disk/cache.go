package disk

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"unsafe"

	"unkai"
	"unkai/internal/store"
)

// cache keeps records that were read or written lately, in the format they
// have on disk. It is a ring of bytes, filled at the tail and emptied at the
// head, where a record that was read since it was put there is moved to the
// tail once more; and an index over it. It holds no pointers and never
// allocates. Its owner holds a lock.
//
// An entry, in multiples of 8 bytes; integers are little-endian:
//
//	4  size of the entry; the top bit: nothing but filling up to the ring's end
//	4  length of the record
//	8  mixed hash
//	8  ballot
//	4  generation of the bucket
//	4  time of last access
//	4  length of the value
//	2  bucket
//	1  length of the key
//	1  marks
//	   key, record
type cache struct {
	memory []byte   // what index and ring are cut from
	index  []uint64 // upper half: of the hash; lower half: offset/8+1; 0: free
	ring   []byte
	head   int // the oldest entry
	tail   int // where the next one goes
	used   int // bytes from head to tail
	live   int // entries in the index
}

const (
	entryHeader = 40
	entryFiller = 1 << 31
)

const (
	markDead    = 1 << iota // replaced; its bytes wait for the head
	markRecent              // read since it was put at the tail
	markFetched             // read since it was written
	// The upper two bits are the kind of the record.
)

// chances is how many entries one insertion may move to the tail before it
// drops the next whatever its marks.
const chances = 8

// newCache takes about n bytes.
func newCache(n int) (cache, error) {
	n = max(n, 8<<10)
	slots := 1 << (bits.Len(uint(n/64)) - 1) // an eighth of n at most; seldom full by entries of 128 B and more
	ring := (n - 8*slots) &^ 7
	m, err := mapArena(8*slots + ring)
	if err != nil {
		return cache{}, err
	}
	return cache{
		memory: m,
		index:  unsafe.Slice((*uint64)(unsafe.Pointer(&m[0])), slots),
		ring:   m[8*slots:],
	}, nil
}

func (c *cache) close() error {
	m := c.memory
	*c = cache{}
	if m == nil {
		return nil
	}
	return unmapArena(m)
}

// cacheEntry is a view of one entry of the ring.
type cacheEntry []byte

func (t cacheEntry) size() int             { return int(binary.LittleEndian.Uint32(t) &^ entryFiller) }
func (t cacheEntry) recordLen() int        { return int(binary.LittleEndian.Uint32(t[4:])) }
func (t cacheEntry) hash() uint64          { return binary.LittleEndian.Uint64(t[8:]) }
func (t cacheEntry) ballot() unkai.Ballot  { return unkai.Ballot(binary.LittleEndian.Uint64(t[16:])) }
func (t cacheEntry) promise() unkai.Ballot { return store.PromiseOf(t.record()) }
func (t cacheEntry) gen() uint32           { return binary.LittleEndian.Uint32(t[24:]) }
func (t cacheEntry) accessed() uint32      { return binary.LittleEndian.Uint32(t[28:]) }
func (t cacheEntry) setAccessed(at uint32) { binary.LittleEndian.PutUint32(t[28:], at) }
func (t cacheEntry) valueLen() int         { return int(binary.LittleEndian.Uint32(t[32:])) }
func (t cacheEntry) bucket() unkai.Bucket  { return unkai.Bucket(binary.LittleEndian.Uint16(t[36:])) }
func (t cacheEntry) keyLen() int           { return int(t[38]) }
func (t cacheEntry) has(mark byte) bool    { return t[39]&mark != 0 }
func (t cacheEntry) kind() store.Kind      { return store.Kind(t[39] >> 6) }
func (t cacheEntry) key() []byte           { return t[entryHeader : entryHeader+t.keyLen()] }
func (t cacheEntry) record() []byte {
	from := entryHeader + t.keyLen()
	return t[from : from+t.recordLen()]
}

func (t cacheEntry) mark(m byte, on bool) {
	if on {
		t[39] |= m
	} else {
		t[39] &^= m
	}
}

// name is what an entry is found by.
type name struct {
	mixed  uint64 // hash and bucket, well mixed
	gen    uint32 // of the bucket
	bucket unkai.Bucket
}

// about is what is put into an entry beside its bytes.
type about struct {
	ballot   unkai.Ballot
	kind     store.Kind
	valueLen int
	accessed uint32
	fetched  bool
}

// find gives the slot of the entry, or -1.
func (c *cache) find(n name, key []byte) int {
	if len(c.index) == 0 {
		return -1
	}
	tag := uint32(n.mixed)
	mask := uint32(len(c.index) - 1)
	for i := tag & mask; c.index[i] != 0; i = (i + 1) & mask {
		if uint32(c.index[i]>>32) != tag {
			continue
		}
		t := c.at(int(i))
		if t.hash() == n.mixed && t.bucket() == n.bucket && bytes.Equal(t.key(), key) {
			if t.gen() != n.gen { // of a bucket that was dropped since
				c.remove(int(i))
				return -1
			}
			return int(i)
		}
	}
	return -1
}

// at is the entry of a slot.
func (c *cache) at(slot int) cacheEntry {
	return cacheEntry(c.ring[(c.index[slot]&(1<<32-1)-1)<<3:])
}

// put keeps a record, in place of what was there for its key.
func (c *cache) put(n name, key, record []byte, a about) {
	size := (entryHeader + len(key) + len(record) + 7) &^ 7
	slot := c.find(n, key)
	if slot >= 0 {
		if t := c.at(slot); t.size() == size {
			c.fill(t, n, key, record, a, size)
			return
		}
		c.remove(slot)
	}
	if size > len(c.ring)/4 {
		return
	}
	for c.live >= len(c.index)/8*7 {
		c.evict(false)
	}
	off := c.room(size)
	c.fill(cacheEntry(c.ring[off:]), n, key, record, a, size)
	c.link(n.mixed, off)
}

func (c *cache) fill(t cacheEntry, n name, key, record []byte, a about, size int) {
	binary.LittleEndian.PutUint32(t, uint32(size))
	binary.LittleEndian.PutUint32(t[4:], uint32(len(record)))
	binary.LittleEndian.PutUint64(t[8:], n.mixed)
	binary.LittleEndian.PutUint64(t[16:], uint64(a.ballot))
	binary.LittleEndian.PutUint32(t[24:], n.gen)
	binary.LittleEndian.PutUint32(t[28:], a.accessed)
	binary.LittleEndian.PutUint32(t[32:], uint32(a.valueLen))
	binary.LittleEndian.PutUint16(t[36:], uint16(n.bucket))
	t[38], t[39] = byte(len(key)), byte(a.kind)<<6
	t.mark(markFetched, a.fetched)
	copy(t[entryHeader:], key)
	copy(t[entryHeader+len(key):], record)
}

// remove drops the entry of a slot; its bytes are taken back at the head.
func (c *cache) remove(slot int) {
	c.at(slot).mark(markDead, true)
	c.unlink(slot)
}

// room makes size bytes free at the tail, takes them and says where they are.
func (c *cache) room(size int) int {
	moves := chances
	for {
		if c.used == 0 {
			c.head, c.tail = 0, 0
		}
		free := c.head - c.tail
		if c.tail > c.head || c.used == 0 {
			free = len(c.ring) - c.tail
			if free < size { // go on at the start of the ring
				if free > 0 {
					binary.LittleEndian.PutUint32(c.ring[c.tail:], uint32(free)|entryFiller)
					c.used += free
				}
				c.tail = 0
				continue
			}
		}
		if free >= size {
			return c.take(size)
		}
		if c.evict(moves > 0) {
			moves--
		}
	}
}

func (c *cache) take(size int) int {
	off := c.tail
	c.used += size
	if c.tail += size; c.tail == len(c.ring) {
		c.tail = 0
	}
	return off
}

// evict takes the head's bytes back. With spare, an entry that was read lately
// goes to the tail instead, and it reports true.
func (c *cache) evict(spare bool) bool {
	off := c.head
	t := cacheEntry(c.ring[off:])
	size := t.size()
	filler := binary.LittleEndian.Uint32(t)&entryFiller != 0
	c.used -= size
	if c.head += size; c.head == len(c.ring) {
		c.head = 0
	}
	if filler || t.has(markDead) {
		return false
	}
	slot := c.slotOf(t.hash(), off)
	hash := t.hash()
	c.unlink(slot)
	// It moves only where that needs no more room: not over the ring's end.
	if !spare || !t.has(markRecent) || len(c.ring)-c.tail < size {
		return false
	}
	t.mark(markRecent, false)
	to := c.take(size)
	copy(c.ring[to:to+size], c.ring[off:off+size]) // they may overlap
	c.link(hash, to)
	return true
}

func (c *cache) link(mixed uint64, off int) {
	tag := uint32(mixed)
	mask := uint32(len(c.index) - 1)
	i := tag & mask
	for c.index[i] != 0 {
		i = (i + 1) & mask
	}
	c.index[i] = uint64(tag)<<32 | uint64(off>>3+1)
	c.live++
}

func (c *cache) slotOf(mixed uint64, off int) int {
	want := uint64(uint32(mixed))<<32 | uint64(off>>3+1)
	mask := uint32(len(c.index) - 1)
	i := uint32(mixed) & mask
	for c.index[i] != want {
		i = (i + 1) & mask
	}
	return int(i)
}

// unlink frees a slot and moves those behind it up, so that no search for them
// ends at the hole.
func (c *cache) unlink(slot int) {
	mask := uint32(len(c.index) - 1)
	hole := uint32(slot)
	for i := (hole + 1) & mask; c.index[i] != 0; i = (i + 1) & mask {
		home := uint32(c.index[i]>>32) & mask
		if (i-home)&mask >= (i-hole)&mask {
			c.index[hole] = c.index[i]
			hole = i
		}
	}
	c.index[hole] = 0
	c.live--
}
