package memory

import (
	"encoding/binary"

	"unkai"
	"unkai/internal/store"
)

// Get implements store.Engine.
func (e *Engine) Get(b unkai.Bucket, hash uint64, key, dst []byte, a store.Access) (store.Found, []byte, error) {
	p, s, tag := e.locate(b, hash)
	s.mu.Lock()
	at, f := s.find(p, tag, b, key)
	if f != present {
		s.mu.Unlock()
		if f == unknown {
			return store.Found{}, dst, damaged(key, "the record or its place in the index is not as it was written")
		}
		return store.Found{}, dst, nil
	}
	h := &at.head
	found := store.Found{
		Record:   h.record(),
		Fetched:  h.slot[atFetched] != 0,
		Accessed: binary.LittleEndian.Uint32(h.slot[atAccessed:]),
	}
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
