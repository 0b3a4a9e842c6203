package disk

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"unkai/internal/store"
)

// space watches how much of the disk is free. It looks now and then, and after
// every few megabytes written; the answer is ready when a write asks.
type space struct {
	fs      vfs.FS
	dir     string
	reserve uint64
	used    func() int64
	warn    func(string, ...any)
	relieve func() // gives back the room of what was removed

	full    atomic.Bool // growth is refused
	tight   atomic.Bool // every value is refused
	usage   atomic.Int64
	limit   atomic.Int64
	written atomic.Int64
	removed atomic.Bool // something was, since relief was last sought
	ask     chan struct{}
}

const (
	spacePeriod = 250 * time.Millisecond
	spaceBytes  = 16 << 20
	minReserve  = 256 << 20
)

// admit says whether a value may be written; grows: it needs more room than
// what it replaces.
func (p *space) admit(grows bool) error {
	if p.full.Load() && (grows || p.tight.Load()) {
		return fmt.Errorf("%w: less than %d bytes of disk are free", store.ErrFull, p.reserve)
	}
	return nil
}

// wrote counts bytes on their way to the disk.
func (p *space) wrote(n int64) {
	if p.written.Add(n) > spaceBytes {
		p.written.Store(0)
		p.look()
	}
}

// look asks for a look soon.
func (p *space) look() {
	select {
	case p.ask <- struct{}{}:
	default:
	}
}

// run looks until done is closed.
func (p *space) run(done <-chan struct{}) {
	t := time.NewTicker(spacePeriod)
	defer t.Stop()
	for {
		select {
		case <-done:
			return
		case <-t.C:
		case <-p.ask:
		}
		p.sample()
		if p.full.Load() && p.removed.Swap(false) {
			p.relieve()
		}
	}
}

// sample looks at the disk. A quarter more than the reserve must be free before
// growth is allowed again, so that it does not come and go.
func (p *space) sample() {
	used := p.used()
	p.usage.Store(used)
	d, err := p.fs.GetDiskUsage(p.dir)
	if err != nil {
		if !errors.Is(err, vfs.ErrUnsupported) {
			p.warn("cannot see how full the disk is", "err", err)
		}
		return
	}
	p.limit.Store(max(0, used+int64(d.AvailBytes)-int64(p.reserve)))
	was := p.full.Load()
	switch {
	case d.AvailBytes < p.reserve:
		p.full.Store(true)
	case d.AvailBytes >= p.reserve+p.reserve/4:
		p.full.Store(false)
	}
	p.tight.Store(d.AvailBytes < p.reserve/2)
	if now := p.full.Load(); now != was {
		p.warn("disk space", "growth refused", now, "free", d.AvailBytes, "reserve", p.reserve)
	}
}

// defaultReserve is a hundredth of the disk, and at least what flushes and
// compactions need.
func defaultReserve(fs vfs.FS, dir string) uint64 {
	d, err := fs.GetDiskUsage(dir)
	if err != nil {
		return minReserve
	}
	return max(min(minReserve, d.TotalBytes/4), d.TotalBytes/100)
}

// relieve brings what was removed to the tables, where compactions drop it
// together with what it removes. With growth refused nothing else would fill
// the memtable, and the disk would stay full. One at a time: each makes a log, which
// takes room itself until it is done.
func (e *Engine) relieve() {
	if e.relief != nil {
		select {
		case <-e.relief:
		default:
			e.space.removed.Store(true) // later
			return
		}
	}
	var err error
	if e.relief, err = e.db.AsyncFlush(); err != nil && !e.broken.Load() {
		e.log.Warn("removed records could not be flushed to make room; trying again", "err", err)
		e.space.removed.Store(true)
	}
}
