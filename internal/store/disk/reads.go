package disk

import (
	"errors"
	"fmt"
	"strings"
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

// readPlaces is how many reads can be noted at a time. Of more some are missed;
// when the disk hangs, it will not be those alone.
const readPlaces = 64

// reads knows which reads of files are under way, each by a number of its own.
type reads struct {
	last  atomic.Uint64
	under [readPlaces]atomic.Uint64 // 0: free
}

// begin notes a read, and gives what to end it with.
func (r *reads) begin() (place int) {
	n := r.last.Add(1)
	for i := range uint64(8) {
		place = int((n + i) % readPlaces)
		if r.under[place].CompareAndSwap(0, n) {
			return place
		}
	}
	return -1
}

func (r *reads) end(place int) {
	if place >= 0 {
		r.under[place].Store(0)
	}
}

// lookout remembers which reads it saw, and how often. It counts its looks, and
// not the time: when the process was stopped for a while, it was not the disk
// that did not answer.
type lookout [readPlaces]struct {
	read  uint64
	again int
}

// hangs looks once, and reports whether a read has been there at every look for
// as long as hungRead.
func (l *lookout) hangs(r *reads) bool {
	for i := range l {
		seen := &l[i]
		switch n := r.under[i].Load(); {
		case n == 0 || n != seen.read:
			seen.read, seen.again = n, 0
		default:
			if seen.again++; seen.again >= int(hungRead/lookEvery) {
				return true
			}
		}
	}
	return false
}

// watchReads breaks the store when the disk has not answered a read for long,
// until done is closed.
func (e *Engine) watchReads(done <-chan struct{}) {
	var l lookout
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		select {
		case <-done:
			return
		case <-t.C:
		}
		if l.hangs(&e.guard.reads) {
			e.stuck.Store(true)
			e.fail(fmt.Errorf("%w: for %v now", errHung, hungRead))
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
	if strings.HasSuffix(name, ".sst") {
		return &tableReader{readFile{f, &g.reads}, name}, nil
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
