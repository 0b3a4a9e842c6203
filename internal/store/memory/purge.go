package memory

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"unkai"
	"unkai/internal/store"
)

// Purge implements store.Engine.
func (e *Engine) Purge(b unkai.Bucket, hash uint64, key []byte, ballot unkai.Ballot) error {
	p, s, tag := e.locate(b, hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	at, f := s.find(p, tag, b, key)
	switch {
	case f == unknown && ballot != 0:
		return damaged(key, "cannot tell whether a purge may remove it")
	case f == unknown:
		return s.purgeDamaged(p, tag, b, hash, key)
	case f == absent || at.head.ballot() != ballot && (ballot != 0 || s.whole(&at.head)):
		return fmt.Errorf("memory: purge of %q: %w", key, store.ErrConflict)
	}
	if !s.own(p, at.t, always) {
		return errFull
	}
	e.raiseFloor(b, uint64(at.head.promise()))
	s.discount(p, &at.head)
	s.remove(p, at)
	s.releaseRecord(p, at.loc, &at.head)
	if !p.inUse() {
		s.clearTables(p)
	}
	return nil
}

// RaiseFloor implements store.Engine.
func (e *Engine) RaiseFloor(b unkai.Bucket, at unkai.Ballot) error {
	e.raiseFloor(b, uint64(at))
	return nil
}

func (e *Engine) raiseFloor(b unkai.Bucket, at uint64) {
	for floor := &e.floors[b]; ; {
		now := floor.Load()
		if now >= at || floor.CompareAndSwap(now, at) {
			return
		}
	}
}

// purgeDamaged removes what is damaged and can be told to be the key's.
func (s *shard) purgeDamaged(p *part, tag uint32, b unkai.Bucket, hash uint64, key []byte) error {
	if !s.own(p, p.table(tag), always) {
		return errFull
	}
	s.bury(p, tag, b, hash, key, 0)
	if _, f := s.find(p, tag, b, key); f == unknown {
		return damaged(key, "something on the way to it is, and cannot be told to be its")
	}
	if !p.inUse() {
		s.clearTables(p)
	}
	return nil
}

// bury takes damaged records of the key out of a table that nobody else reads;
// the entry with the loc but is a good one. Their slots stay taken until the
// process ends: what they say of themselves cannot be believed. Then it counts
// the part anew, as nobody knows what they were counted as.
func (s *shard) bury(p *part, tag uint32, b unkai.Bucket, hash uint64, key []byte, but uint32) {
	for {
		at, ok := s.damagedOf(p, tag, b, hash, key, but)
		if !ok {
			break
		}
		s.remove(p, at)
	}
	s.recount(p, b)
}

// damagedOf finds a damaged record that has the key or the hash, beside the
// tag: so many equal bits are no chance.
func (s *shard) damagedOf(p *part, tag uint32, b unkai.Bucket, hash uint64, key []byte, but uint32) (place, bool) {
	t := p.table(tag)
	es := s.entries(t)
	for i, n := t.home(tag), 0; n < len(es) && es[i] != 0; n++ {
		if e := es[i]; e.intact() && e.tag() == tag && e.loc() != but {
			mem := s.at(e.loc())
			h, ok := parse(mem)
			if ok && h.intact(b) {
				// Another key, or a record with a damaged value: that is replaced
				// as what it is.
			} else if ok && string(h.key()) == string(key) || len(mem) >= fixedLen && binary.LittleEndian.Uint64(mem[atHash:]) == hash {
				return place{t: t, i: i, loc: e.loc()}, true
			}
		}
		if i++; i == len(es) {
			i = 0
		}
	}
	return place{}, false
}

// recount counts the records of a part that can be read.
func (s *shard) recount(p *part, b unkai.Bucket) {
	var c counts
	each(p.dir, p.depth, func(t *table, _ uint32) {
		for _, e := range s.entries(t) {
			if e == 0 || !e.intact() {
				continue
			}
			if h, ok := parse(s.at(e.loc())); ok && h.intact(b) {
				c.add(countOf(h.kind(), h.keyLen+h.length))
			}
		}
	})
	s.counts.sub(p.counts)
	s.counts.add(c)
	p.counts = c
}

// whole reports whether the value of an intact head is as it was written.
func (s *shard) whole(h *head) bool {
	if !h.inPieces() {
		return true
	}
	locs, want := h.locs()
	sum := uint32(0)
	for n := h.length; n > 0; locs = locs[4:] {
		l := pieceLen(n)
		mem := s.at(binary.LittleEndian.Uint32(locs))
		if len(mem) < l {
			return false
		}
		sum = crc32.Update(sum, castagnoli, mem[:l])
		n -= l
	}
	return sum == want
}

// inUse reports whether the part holds a record, be it a damaged one.
func (p *part) inUse() bool {
	used := p.counts != counts{}
	if !used {
		each(p.dir, p.depth, func(t *table, _ uint32) { used = used || t.damaged || t.used > 0 })
	}
	return used
}
