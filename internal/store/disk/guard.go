package disk

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// guardFS stands between the pebble and the disk.
//
// The pebble ends the process when its log or its manifest cannot be written,
// in places where nobody can hold it back. So it does not hear of that: the
// first such error breaks the store, and from then on nothing reaches the disk
// and everything seems to succeed. As a broken store acknowledges nothing, the
// pretence harms nobody, and the pebble can be closed in peace. An error of a
// table is passed on: the pebble tries again, with a new file.
//
// It also carries the sync policy, see logFile, and gives rests to background
// work, see tableFile.
type guardFS struct {
	vfs.FS
	dir    string
	broken *atomic.Bool
	fail   func(error)
	policy Sync
	syncs  *atomic.Int64 // of logs
	reads  reads
	hurry  atomic.Bool // tables are written without rests
	asked  func()      // hears that somebody asks what room there is; nil: nobody does

	mu   sync.Mutex
	logs map[*logFile]struct{} // open for writing
}

// vital says whether the store cannot do without a file: all but tables, and
// all but what is in another directory, as a checkpoint.
func (g *guardFS) vital(name string) bool {
	if name != g.dir && g.PathDir(name) != g.dir {
		return false
	}
	return !strings.HasSuffix(name, ".sst") && !strings.HasSuffix(name, ".blob")
}

// verdict is what the pebble hears of an operation that ended with err.
func (g *guardFS) verdict(doing, name string, err error) error {
	if err == nil || g.broken.Load() {
		return nil
	}
	if g.vital(name) {
		g.fail(fmt.Errorf("%s %s: %w", doing, name, err))
		return nil
	}
	return err
}

// Create makes a file, or pretends to.
func (g *guardFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if g.broken.Load() {
		return &guardFile{g: g, name: name}, nil
	}
	f, err := g.FS.Create(name, c)
	return g.guard("making", name, f, err)
}

// ReuseForWrite makes a file from one that is not needed any more, or pretends to.
func (g *guardFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if g.broken.Load() {
		return &guardFile{g: g, name: newname}, nil
	}
	f, err := g.FS.ReuseForWrite(oldname, newname, c)
	return g.guard("making", newname, f, err)
}

// OpenDir opens a directory, to sync it.
func (g *guardFS) OpenDir(name string) (vfs.File, error) {
	if g.broken.Load() {
		return &guardFile{g: g, name: name}, nil
	}
	f, err := g.FS.OpenDir(name)
	return g.guard("opening", name, f, err)
}

// Link makes a second name for a file.
func (g *guardFS) Link(oldname, newname string) error {
	if g.broken.Load() {
		return nil
	}
	return g.verdict("linking", newname, g.FS.Link(oldname, newname))
}

// Rename gives a file another name.
func (g *guardFS) Rename(oldname, newname string) error {
	if g.broken.Load() {
		return nil
	}
	return g.verdict("renaming", newname, g.FS.Rename(oldname, newname))
}

// Remove removes a file. That one stays is no harm.
func (g *guardFS) Remove(name string) error {
	if g.broken.Load() {
		return nil
	}
	return g.FS.Remove(name)
}

// RemoveAll removes a directory and what is in it.
func (g *guardFS) RemoveAll(name string) error {
	if g.broken.Load() {
		return nil
	}
	return g.FS.RemoveAll(name)
}

// GetDiskUsage tells what room there is.
func (g *guardFS) GetDiskUsage(path string) (vfs.DiskUsage, error) {
	if g.asked != nil {
		g.asked()
	}
	return g.FS.GetDiskUsage(path)
}

// Unwrap gives the file system underneath.
func (g *guardFS) Unwrap() vfs.FS { return g.FS }

func (g *guardFS) guard(doing, name string, f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		if err := g.verdict(doing, name, err); err != nil {
			return nil, err
		}
		return &guardFile{g: g, name: name}, nil
	}
	file := guardFile{File: f, g: g, name: name}
	if strings.HasSuffix(name, ".sst") && g.PathDir(name) == g.dir && !isIncoming(g.PathBase(name)) {
		return &tableFile{guardFile: file}, nil
	}
	if !strings.HasSuffix(name, ".log") || !g.vital(name) {
		return &file, nil
	}
	l := &logFile{guardFile: file}
	g.mu.Lock()
	g.logs[l] = struct{}{}
	g.mu.Unlock()
	return l, nil
}

// syncLogs makes durable what was written to the logs that are open.
func (g *guardFS) syncLogs() {
	g.mu.Lock()
	var open []*logFile
	for l := range g.logs {
		open = append(open, l)
	}
	g.mu.Unlock()
	for _, l := range open {
		_ = l.flush() // the guard has acted on the error
	}
}

// syncEvery does so again and again, until done is closed.
func (g *guardFS) syncEvery(interval time.Duration, done <-chan struct{}) {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-done:
			return
		case <-t.C:
			g.syncLogs()
		}
	}
}

// guardFile is a file that is written, or seems to be.
type guardFile struct {
	vfs.File // nil: only seems to be
	g        *guardFS
	name     string
}

// do runs f unless the store is broken.
func (f *guardFile) do(doing string, run func() error) error {
	if f.pretends() {
		return nil
	}
	return f.g.verdict(doing, f.name, run())
}

func (f *guardFile) pretends() bool { return f.File == nil || f.g.broken.Load() }

func (f *guardFile) Write(p []byte) (int, error) {
	if f.pretends() {
		return len(p), nil
	}
	n, err := f.File.Write(p)
	if err == nil {
		return n, nil
	}
	if err := f.g.verdict("writing", f.name, err); err != nil {
		return n, err
	}
	return len(p), nil
}

func (f *guardFile) Sync() error { return f.do("syncing", func() error { return f.File.Sync() }) }

func (f *guardFile) SyncData() error {
	return f.do("syncing", func() error { return f.File.SyncData() })
}

func (f *guardFile) SyncTo(n int64) (full bool, err error) {
	err = f.do("syncing", func() error {
		full, err = f.File.SyncTo(n)
		return err
	})
	return full, err
}

// Preallocate asks for room ahead of time. That a disk has less is no harm: the write
// that finds no room says so.
func (f *guardFile) Preallocate(offset, n int64) error {
	if f.pretends() {
		return nil
	}
	return f.File.Preallocate(offset, n)
}

func (f *guardFile) Stat() (vfs.FileInfo, error) {
	if f.File == nil {
		return nothing{}, nil
	}
	return f.File.Stat()
}

func (f *guardFile) Prefetch(offset, n int64) error {
	if f.File == nil {
		return nil
	}
	return f.File.Prefetch(offset, n)
}

func (f *guardFile) Fd() uintptr {
	if f.File == nil {
		return vfs.InvalidFd
	}
	return f.File.Fd()
}

// Close closes the file, also that of a broken store.
func (f *guardFile) Close() error {
	if f.File == nil {
		return nil
	}
	return f.g.verdict("closing", f.name, f.File.Close())
}

var errPretended = errors.New("the file only seems to be there")

func (f *guardFile) Read(p []byte) (int, error) {
	if f.File == nil {
		return 0, errPretended
	}
	return f.File.Read(p)
}

func (f *guardFile) ReadAt(p []byte, off int64) (int, error) {
	if f.File == nil {
		return 0, errPretended
	}
	return f.File.ReadAt(p, off)
}

func (f *guardFile) WriteAt(p []byte, off int64) (int, error) {
	if f.pretends() {
		return len(p), nil
	}
	return f.File.WriteAt(p, off)
}

// nothing describes a file that only seems to be there.
type nothing struct{}

func (nothing) Name() string           { return "" }
func (nothing) Size() int64            { return 0 }
func (nothing) Mode() os.FileMode      { return 0 }
func (nothing) ModTime() time.Time     { return time.Time{} }
func (nothing) IsDir() bool            { return false }
func (nothing) Sys() any               { return nil }
func (nothing) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }

// logFile is a log of the pebble. Under a weaker policy than Always it makes no
// sync when it is asked to, but when the interval is over and when the log is
// complete. The pebble believes that all is synced and so hands every group to
// the system, which keeps it when the process ends.
type logFile struct {
	guardFile
	mu     sync.Mutex // one write or sync at a time, and no sync after the close
	dirty  bool
	closed bool
}

func (l *logFile) Write(p []byte) (int, error) {
	if l.g.policy == Always {
		return l.guardFile.Write(p) // there are no syncs but the pebble's own
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dirty = true
	return l.guardFile.Write(p)
}

func (l *logFile) Sync() error { return l.SyncData() }

func (l *logFile) SyncData() error {
	if l.g.policy != Always {
		return nil
	}
	l.g.syncs.Add(1)
	return l.guardFile.SyncData()
}

// Close makes a complete log durable: one with holes before another would be
// taken for damaged.
func (l *logFile) Close() error {
	err := l.flush()
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.g.mu.Lock()
	delete(l.g.logs, l)
	l.g.mu.Unlock()
	return errors.Join(err, l.guardFile.Close())
}

func (l *logFile) flush() error {
	if l.g.policy == Always {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || !l.dirty {
		return nil
	}
	l.dirty = false
	l.g.syncs.Add(1)
	return l.guardFile.SyncData()
}
