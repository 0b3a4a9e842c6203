package memory

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"unkai"
	"unkai/internal/store"
)

// Write implements store.Engine. Done is told before it returns.
func (e *Engine) Write(w *store.Write) {
	w.Err = e.write(w)
	w.Done.WriteDone(w)
}

func (e *Engine) write(w *store.Write) error {
	if err := w.Record.Check(); err != nil {
		return fmt.Errorf("memory: write of %q: %w", w.Key, err)
	}
	p, s, tag := e.locate(w.Bucket, w.Hash)
	l := layoutOf(w.Key, &w.Record)
	accessed := w.Accessed
	if accessed == 0 {
		accessed = uint32(e.now() / 1000)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at, f := s.find(p, tag, w.Bucket, w.Key)
	if err := s.expected(w, &at, f); err != nil {
		return err
	}
	r := toGrow
	if w.Record.Tombstone {
		r = toDelete
	}
	if l.fields&fieldPieces != 0 {
		return s.writeLong(p, tag, l, w, accessed, r)
	}
	if f != present {
		loc, ok := s.alloc(l.size, r, true)
		if !ok {
			return errFull
		}
		if !s.insert(p, tag, loc, r) {
			s.free(loc)
			return errFull
		}
		encode(s.at(loc), l, w, accessed)
		s.count(p, nil, w)
		if f == unknown {
			s.bury(p, tag, w.Bucket, w.Hash, w.Key, loc)
		}
		return nil
	}
	old := at.head
	size := s.sizeOf(at.loc)
	fits := !p.pinned() && !old.inPieces() && l.size <= size
	if !fits || classOf(l.size) != classOf(size) {
		ok, err := s.move(p, tag, at, l, w, accessed, r, fits)
		if ok || err != nil {
			return err
		}
	}
	s.count(p, &old, w)
	encode(s.at(at.loc), l, w, accessed)
	return nil
}

// expected reports whether the write may go ahead.
func (s *shard) expected(w *store.Write, at *place, f finding) error {
	if w.Heal {
		if f == unknown || f == present && !s.whole(&at.head) {
			return nil
		}
		return errConflict
	}
	var ballot, promise unkai.Ballot
	switch f {
	case unknown:
		return damaged(w.Key, "cannot tell whether a write may replace it")
	case present:
		ballot, promise = at.head.ballot(), at.head.promise()
	}
	if ballot != w.Expect || promise != w.Promised {
		return errConflict
	}
	return nil
}

// move writes a record to a new slot and gives back the old. Without memory it
// does nothing if the record fits where it is.
func (s *shard) move(p *part, tag uint32, at place, l layout, w *store.Write, accessed uint32, r right, fits bool) (bool, error) {
	loc, ok := s.alloc(l.size, r, !fits)
	if !ok && fits {
		return false, nil
	}
	if !ok && w.Record.Tombstone {
		// The old record stays in its slot for a reader, or the new one is
		// the longer: the delete must not fail for that.
		r = always
		loc, ok = s.alloc(l.size, r, true)
	}
	if !ok {
		return false, errFull
	}
	if w.Record.Tombstone {
		r = always
	}
	if !s.replace(p, at, tag, loc, r) {
		s.free(loc)
		return false, errFull
	}
	encode(s.at(loc), l, w, accessed)
	s.count(p, &at.head, w)
	s.releaseRecord(p, at.loc, &at.head)
	return true, nil
}

// writeLong writes a record whose value is kept in pieces. It fills them
// without the lock, which it holds when it returns as when it was called.
func (s *shard) writeLong(p *part, tag uint32, l layout, w *store.Write, accessed uint32, r right) error {
	loc, ok := s.allocLong(l, len(w.Record.Item.Value), r)
	if !ok {
		return errFull
	}
	v := s.view
	s.mu.Unlock()
	v.fillLong(loc, l, w, accessed)
	s.mu.Lock()
	at, f := s.find(p, tag, w.Bucket, w.Key)
	err := s.expected(w, &at, f)
	switch {
	case err != nil:
	case f != present:
		if !s.insert(p, tag, loc, r) {
			err = errFull
			break
		}
		s.count(p, nil, w)
		if f == unknown {
			s.bury(p, tag, w.Bucket, w.Hash, w.Key, loc)
		}
	default:
		if !s.replace(p, at, tag, loc, r) {
			err = errFull
			break
		}
		s.count(p, &at.head, w)
		s.releaseRecord(p, at.loc, &at.head)
	}
	if err != nil {
		h, ok := parse(s.at(loc))
		if !ok {
			panic("memory: a record just written cannot be read")
		}
		s.freeRecord(loc, &h)
	}
	return err
}

// allocLong takes a slot for the head of a record, and one for each piece of
// its value, and notes those in the head.
func (s *shard) allocLong(l layout, n int, r right) (loc uint32, ok bool) {
	if loc, ok = s.alloc(l.size, r, true); !ok {
		return 0, false
	}
	le := binary.LittleEndian
	first := l.piecesAt() + 4
	for at := first; n > 0; at += 4 {
		piece, ok := s.alloc(pieceLen(n), r, true)
		if !ok {
			for ; at > first; at -= 4 {
				s.free(le.Uint32(s.at(loc)[at-4:]))
			}
			s.free(loc)
			return 0, false
		}
		le.PutUint32(s.at(loc)[at:], piece)
		n -= pieceLen(n)
	}
	return loc, true
}

// fillLong writes head and pieces.
func (v *view) fillLong(loc uint32, l layout, w *store.Write, accessed uint32) {
	le := binary.LittleEndian
	slot := v.at(loc)
	at := l.piecesAt()
	le.PutUint32(slot[at:], crc32.Checksum(w.Record.Item.Value, castagnoli))
	for rest := w.Record.Item.Value; len(rest) > 0; {
		at += 4
		n := pieceLen(len(rest))
		copy(v.at(le.Uint32(slot[at:])), rest[:n])
		rest = rest[n:]
	}
	encode(slot, l, w, accessed)
}

// releaseRecord gives back the slots of a record as soon as nobody reads them.
func (s *shard) releaseRecord(p *part, loc uint32, h *head) {
	if h.inPieces() {
		locs, _ := h.locs()
		for ; len(locs) > 0; locs = locs[4:] {
			s.release(p, binary.LittleEndian.Uint32(locs))
		}
	}
	s.release(p, loc)
}

// freeRecord gives back the slots of a record that nobody has seen.
func (s *shard) freeRecord(loc uint32, h *head) {
	s.releaseRecord(&part{}, loc, h)
}

// count counts a write of w in place of old, which may be nil.
func (s *shard) count(p *part, old *head, w *store.Write) {
	if old != nil {
		s.discount(p, old)
	}
	s.writes++
	d := countOf(w.Record.Kind(), len(w.Key)+len(w.Record.Item.Value))
	p.counts.add(d)
	s.counts.add(d)
}

// discount forgets a record in the counts.
func (s *shard) discount(p *part, h *head) {
	d := countOf(h.kind(), h.keyLen+h.length)
	p.counts.sub(d)
	s.counts.sub(d)
}
