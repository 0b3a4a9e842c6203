package disk

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// unsyncedFile is there while the log may hold less than it says: it was
// written without syncs, and not closed.
const unsyncedFile = "UNSYNCED"

// prepareLog repairs the log after a power cut under a weak policy, and leaves
// the mark where this life has such a one.
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
