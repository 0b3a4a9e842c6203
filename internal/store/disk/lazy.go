package disk

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// lazyFS makes no sync of the pebble's log when it is asked to, but every
// interval, or never, and when a log is complete. The pebble believes that all
// is synced and so hands every group to the system, which keeps it when the
// process ends.
type lazyFS struct {
	vfs.FS
	interval time.Duration // 0: never
	syncs    *atomic.Int64

	mu   sync.Mutex
	logs map[*lazyFile]struct{} // open ones
}

// Create makes a file; that of a log is lazy.
func (l *lazyFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := l.FS.Create(name, c)
	return l.wrap(name, f, err)
}

// ReuseForWrite renames a file that is not needed any more, to be written again.
func (l *lazyFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := l.FS.ReuseForWrite(oldname, newname, c)
	return l.wrap(newname, f, err)
}

// Unwrap gives the file system underneath.
func (l *lazyFS) Unwrap() vfs.FS { return l.FS }

func (l *lazyFS) wrap(name string, f vfs.File, err error) (vfs.File, error) {
	if err != nil || !strings.HasSuffix(name, ".log") {
		return f, err
	}
	z := &lazyFile{File: f, fs: l}
	l.mu.Lock()
	l.logs[z] = struct{}{}
	l.mu.Unlock()
	return z, nil
}

// run syncs every interval until done is closed.
func (l *lazyFS) run(done <-chan struct{}, fail func(error)) {
	if l.interval == 0 {
		return
	}
	t := time.NewTicker(l.interval)
	defer t.Stop()
	for {
		select {
		case <-done:
			return
		case <-t.C:
		}
		if err := l.sync(); err != nil {
			fail(fmt.Errorf("syncing the log: %w", err))
			return
		}
	}
}

// sync makes durable what was written to the logs that are open.
func (l *lazyFS) sync() error {
	l.mu.Lock()
	var open []*lazyFile
	for z := range l.logs {
		open = append(open, z)
	}
	l.mu.Unlock()
	var err error
	for _, z := range open {
		err = errors.Join(err, z.flush())
	}
	return err
}

// lazyFile is a log.
type lazyFile struct {
	vfs.File
	fs     *lazyFS
	dirty  atomic.Bool
	mu     sync.Mutex // no sync after the close
	closed bool
}

func (z *lazyFile) Write(p []byte) (int, error) {
	z.dirty.Store(true)
	return z.File.Write(p)
}

// Sync does nothing yet.
func (z *lazyFile) Sync() error { return nil }

// SyncData does nothing yet.
func (z *lazyFile) SyncData() error { return nil }

// Close makes a complete log durable: one with holes before another would not
// be accepted.
func (z *lazyFile) Close() error {
	err := z.flush()
	z.mu.Lock()
	z.closed = true
	z.mu.Unlock()
	z.fs.mu.Lock()
	delete(z.fs.logs, z)
	z.fs.mu.Unlock()
	return errors.Join(err, z.File.Close())
}

func (z *lazyFile) flush() error {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.closed || !z.dirty.Swap(false) {
		return nil
	}
	z.fs.syncs.Add(1)
	return z.File.SyncData()
}

// unsyncedFile is there while the log may hold less than it says: it was
// written without syncs, and not closed.
const unsyncedFile = "UNSYNCED"

// prepareLog wraps the file system for a weaker policy, and repairs the log
// after a power cut under such a one.
func (e *Engine) prepareLog() error {
	marker := e.fs.PathJoin(e.cfg.Dir, unsyncedFile)
	_, err := e.fs.Stat(marker)
	if err == nil {
		if err := e.repairLog(); err != nil {
			return fmt.Errorf("repairing the log: %w", err)
		}
	}
	if e.cfg.Sync == Always {
		return nil
	}
	e.lazy = &lazyFS{FS: e.fs, syncs: &e.syncs, logs: map[*lazyFile]struct{}{}}
	if e.cfg.Sync == Interval {
		e.lazy.interval = e.cfg.Interval
	}
	f, err := e.fs.Create(marker, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("marking the log: %w", err)
	}
	return errors.Join(f.Sync(), f.Close(), e.syncDir())
}

// unmark says that the log is whole and that no sync of it is skipped.
func (e *Engine) unmark() error {
	marker := e.fs.PathJoin(e.cfg.Dir, unsyncedFile)
	if _, err := e.fs.Stat(marker); err != nil {
		return nil // there is none
	}
	if err := e.fs.Remove(marker); err != nil {
		return fmt.Errorf("taking the mark away: %w", err)
	}
	return e.syncDir()
}

func (e *Engine) syncDir() error {
	d, err := e.fs.OpenDir(e.cfg.Dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// repairLog cuts the latest log at its first gap. The policy allows for the
// loss of what is behind it, and without the cut the pebble would take the gap
// for damage of something that it had been told was durable.
func (e *Engine) repairLog() error {
	names, err := e.fs.List(e.cfg.Dir)
	if err != nil {
		return err
	}
	last, lastNumber := "", uint64(0)
	for _, n := range names {
		base, ok := strings.CutSuffix(n, ".log")
		number, err := strconv.ParseUint(base, 10, 64)
		if ok && err == nil && number >= lastNumber {
			last, lastNumber = n, number
		}
	}
	if last == "" {
		return nil
	}
	path := e.fs.PathJoin(e.cfg.Dir, last)
	end, err := wholeUntil(e.fs, path, lastNumber)
	if err != nil {
		return err
	}
	return e.cut(path, end)
}

// wholeUntil is the length of the log's part without a gap.
func wholeUntil(fsys vfs.FS, path string, number uint64) (int64, error) {
	f, err := fsys.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }() // only read
	r := newLogReader(record.NewReader, f, number)
	for {
		at := r.Offset()
		rr, err := r.Next()
		if err == nil {
			_, err = io.Copy(io.Discard, rr)
		}
		if err != nil {
			return at, nil // whatever it is: behind it nothing can be read
		}
	}
}

// newLogReader calls make with a number of a type that the pebble keeps to itself.
func newLogReader[N ~uint64](make func(io.Reader, N) *record.Reader, r io.Reader, n uint64) *record.Reader {
	return make(r, N(n))
}

// cut leaves the first n bytes of a file.
func (e *Engine) cut(path string, n int64) error {
	from, err := e.fs.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return err
	}
	part := path + ".dbtmp"
	to, err := e.fs.Create(part, vfs.WriteCategoryUnspecified)
	if err != nil {
		return errors.Join(err, from.Close())
	}
	_, err = io.CopyN(to, from, n)
	if err := errors.Join(err, to.Sync(), to.Close(), from.Close()); err != nil {
		return err
	}
	if err := e.fs.Rename(part, path); err != nil {
		return err
	}
	return e.syncDir()
}
