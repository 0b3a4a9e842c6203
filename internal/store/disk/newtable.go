package disk

import (
	"bytes"
	"errors"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// makeTable writes sorted runs to a file, durably.
func (e *Engine) makeTable(path string, runs []*run) error {
	g := &e.tables
	f, err := e.guard.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	buf := g.buffers.Get().(*[]byte)
	defer g.buffers.Put(buf)
	w := sstable.NewWriter(&tableWriter{f: f, buf: buf}, g.options)
	err = appendRuns(w, runs)
	return errors.Join(err, w.Close())
}

// appendRuns appends the records of sorted runs in the order of their keys.
func appendRuns(w *sstable.Writer, runs []*run) error {
	for len(runs) > 0 {
		n, _ := together(runs)
		if err := appendTogether(w, runs[:n]); err != nil {
			return err
		}
		runs = runs[n:]
	}
	return nil
}

func appendTogether(w *sstable.Writer, runs []*run) error {
	if len(runs) > 1 {
		return appendMerged(w, runs)
	}
	r := runs[0]
	for i := range r.entries {
		x := &r.entries[i]
		if err := w.Set(r.keyOf(x), r.recordOf(x)); err != nil {
			return err
		}
	}
	return nil
}

// appendMerged does so where they have keys among each other's. No key is in two: who made
// the second saw the first.
func appendMerged(w *sstable.Writer, runs []*run) error {
	type record struct{ key, value []byte }
	var all []record
	for _, r := range runs {
		for i := range r.entries {
			all = append(all, record{r.keyOf(&r.entries[i]), r.recordOf(&r.entries[i])})
		}
	}
	slices.SortFunc(all, func(a, b record) int { return bytes.Compare(a.key, b.key) })
	for _, t := range all {
		if err := w.Set(t.key, t.value); err != nil {
			return err
		}
	}
	return nil
}

// tableWriter is the file of a table. It is written in large parts, and without rests:
// somebody waits for it.
type tableWriter struct {
	f   vfs.File
	buf *[]byte
}

const tablePart = 1 << 20

func newTableBuffers() sync.Pool {
	return sync.Pool{New: func() any { b := make([]byte, 0, tablePart+tablePart/8); return &b }}
}

// Write implements objstorage.Writable.
func (w *tableWriter) Write(p []byte) error {
	*w.buf = append(*w.buf, p...)
	if len(*w.buf) < tablePart {
		return nil
	}
	return w.flush()
}

func (w *tableWriter) flush() error {
	_, err := w.f.Write(*w.buf)
	*w.buf = (*w.buf)[:0]
	return err
}

// Finish implements objstorage.Writable.
func (w *tableWriter) Finish() error {
	err := w.flush()
	if err == nil {
		err = w.f.Sync()
	}
	return errors.Join(err, w.f.Close())
}

// Abort implements objstorage.Writable.
func (w *tableWriter) Abort() {
	*w.buf = (*w.buf)[:0]
	_ = w.f.Close() // it is removed
}
