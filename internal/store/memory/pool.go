package memory

import (
	"errors"
	"fmt"
	"sync"
)

const (
	pageSize     = 64 << 10
	segmentPages = 1024 // mapped at a time; what is not touched costs nothing
	// keepPages is how many free pages stay with us; the others go back to
	// the system until they are needed again.
	keepPages = 1024
)

// right is how far into the limit an allocation may go.
type right uint8

const (
	toGrow   right = iota // not into the reserve
	toDelete              // into the reserve: a delete must work when nothing else does
	always                // beyond the limit, where nothing may stand in the way of a delete
)

// pool hands out pages of memory that the garbage collector does not know.
type pool struct {
	limit int64 // bytes; 0: none

	mu       sync.Mutex
	segments [][]byte // append-only, so that a copy of the slice stays right
	fresh    uint32   // the first page never handed out
	warm     []uint32 // free pages
	cold     []uint32 // free pages that the system has taken back
	used     int64    // pages handed out
}

func newPool(limit int64) *pool { return &pool{limit: limit} }

// room is how many pages may be in use.
func (p *pool) room(r right) int64 {
	pages := p.limit / pageSize
	switch {
	case p.limit == 0 || r == always:
		return 1 << 40
	case r == toDelete:
		return pages
	}
	return pages - max(4, pages/128)
}

// take hands out a page, and the segments as they are now. It is full of
// whatever was there before.
func (p *pool) take(r right) (page uint32, segments [][]byte, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used >= p.room(r) {
		return 0, nil, false
	}
	switch {
	case len(p.warm) > 0:
		page = p.warm[len(p.warm)-1]
		p.warm = p.warm[:len(p.warm)-1]
	case len(p.cold) > 0:
		page = p.cold[len(p.cold)-1]
		p.cold = p.cold[:len(p.cold)-1]
	default:
		if int(p.fresh) == len(p.segments)*segmentPages {
			m, err := mapMemory(segmentPages * pageSize)
			if err != nil { // no memory: to the caller the same as the limit
				return 0, nil, false
			}
			p.segments = append(p.segments, m)
		}
		page = p.fresh
		p.fresh++
	}
	p.used++
	return page, p.segments, true
}

// give takes a page back.
func (p *pool) give(page uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used--
	if len(p.warm) < keepPages || !lend(pageOf(p.segments, page)) {
		p.warm = append(p.warm, page)
		return
	}
	p.cold = append(p.cold, page)
}

// usage is how many bytes are in use, and whether growth is refused.
func (p *pool) usage() (used int64, full bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used * pageSize, p.used >= p.room(toGrow)
}

func (p *pool) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, m := range p.segments {
		if err := unmapMemory(m); err != nil {
			errs = append(errs, fmt.Errorf("memory: unmap: %w", err))
		}
	}
	p.segments = nil
	return errors.Join(errs...)
}

// pageOf is the memory of a page.
func pageOf(segments [][]byte, page uint32) []byte {
	off := int(page%segmentPages) * pageSize
	return segments[page/segmentPages][off : off+pageSize : off+pageSize]
}
