package disk

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A disk that does not answer a read holds whoever asked, and nothing can take
// that back. But it can be noticed, so that everybody else is told.
const (
	// hungRead is twice what is called slow of a write: a disk that is merely
	// overloaded should not end the store.
	hungRead  = 2 * slowDisk
	lookEvery = time.Second
)

var errHung = errors.New("the disk does not answer a read")

// reads knows which reads of files are under way, and since when. Of more than
// it has places for it misses some; when the disk hangs, it will not be those
// alone.
type reads struct {
	start time.Time
	next  atomic.Uint32
	since [64]atomic.Int64 // from start on; 0: free
}

// begin notes a read, and gives what to end it with.
func (r *reads) begin() (place int) {
	now := int64(max(1, time.Since(r.start)))
	first := r.next.Add(1)
	for i := range uint32(8) {
		place = int((first + i) % uint32(len(r.since)))
		if r.since[place].CompareAndSwap(0, now) {
			return place
		}
	}
	return -1
}

func (r *reads) end(place int) {
	if place >= 0 {
		r.since[place].Store(0)
	}
}

// longest is how long the oldest read has been under way.
func (r *reads) longest() time.Duration {
	now := time.Since(r.start)
	var longest time.Duration
	for i := range r.since {
		if since := r.since[i].Load(); since != 0 {
			longest = max(longest, now-time.Duration(since))
		}
	}
	return longest
}

// watchReads breaks the store when the disk has not answered a read for long,
// until done is closed.
func (e *Engine) watchReads(done <-chan struct{}) {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		select {
		case <-done:
			return
		case <-t.C:
		}
		if d := e.guard.reads.longest(); d >= hungRead {
			e.stuck.Store(true)
			e.fail(fmt.Errorf("%w: for %v now", errHung, d.Round(time.Second)))
			close(e.hung)
			return
		}
	}
}

// Open opens a file that is read.
func (g *guardFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	defer g.reads.end(g.reads.begin())
	f, err := g.FS.Open(name, opts...)
	if err != nil {
		return nil, err
	}
	return &readFile{f, &g.reads}, nil
}

// readFile is a file that is read.
type readFile struct {
	vfs.File
	reads *reads
}

func (f *readFile) Read(p []byte) (int, error) {
	defer f.reads.end(f.reads.begin())
	return f.File.Read(p)
}

func (f *readFile) ReadAt(p []byte, off int64) (int, error) {
	defer f.reads.end(f.reads.begin())
	return f.File.ReadAt(p, off)
}
