package memory

import (
	"encoding/binary"

	"unkai"
	"unkai/internal/store"
)

// Head implements store.Engine. Of a value in pieces it does not see whether it
// is as it was written.
func (e *Engine) Head(b unkai.Bucket, hash uint64, key []byte) (store.Found, error) {
	p, s, tag := e.locate(b, hash)
	s.mu.Lock()
	at, f := s.find(p, tag, b, key)
	var found store.Found
	if f == present {
		found = at.head.found()
	}
	s.mu.Unlock()
	if f == unknown {
		return store.Found{}, unreadable(key)
	}
	return found, nil
}

// found is what the head tells.
func (h *head) found() store.Found {
	return store.Found{
		Record:   h.record(),
		Size:     h.length,
		Fetched:  h.slot[atFetched] != 0,
		Accessed: binary.LittleEndian.Uint32(h.slot[atAccessed:]),
	}
}

func unreadable(key []byte) error {
	return damaged(key, "the record or its place in the index is not as it was written")
}

// Get implements store.Engine.
func (e *Engine) Get(b unkai.Bucket, hash uint64, key, dst []byte, a store.Access) (store.Found, []byte, error) {
	p, s, tag := e.locate(b, hash)
	s.mu.Lock()
	at, f := s.find(p, tag, b, key)
	if f != present {
		s.mu.Unlock()
		if f == unknown {
			return store.Found{}, dst, unreadable(key)
		}
		return store.Found{}, dst, nil
	}
	h := &at.head
	found := h.found()
	if a != store.NoAccess {
		h.slot[atFetched] = 1
		binary.LittleEndian.PutUint32(h.slot[atAccessed:], uint32(a))
	}
	start := len(dst)
	if !h.inPieces() {
		dst = append(dst, h.value()...)
		s.mu.Unlock()
		found.Record.Item.Value = dst[start:]
		return found, dst, nil
	}
	// A long value is copied without the lock.
	pin, v, long := p.pin(), s.view, *h
	s.mu.Unlock()
	dst, ok := v.appendValue(dst, &long)
	s.mu.Lock()
	s.unpin(p, pin)
	if !ok {
		s.damaged++
	}
	s.mu.Unlock()
	if !ok {
		return store.Found{}, dst, damaged(key, "the value is not as it was written")
	}
	found.Record.Item.Value = dst[start:]
	return found, dst, nil
}
