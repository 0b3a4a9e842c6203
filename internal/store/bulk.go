package store

import (
	"errors"
	"sync/atomic"

	"unkai"
)

// Bulk is an Engine to which many new records at once cost less than one by one.
type Bulk interface {
	// WriteNew writes records of one bucket, in the order of their hashes and keys, those
	// of whose keys there is none. It appends to left, in their order, the indexes of the others, and of
	// what it could not write for another reason: Write says which. w.Done is told once
	// what was written is durable; only w.Done and w.Err are used. An error is ErrBroken,
	// and what was written is in doubt. Keys and values are copied before it returns. It
	// does not wait for the disk.
	WriteNew(b unkai.Bucket, entries []Entry, left []int, w *Write) []int
}

// WriteNew writes to any engine, as it does it best.
func WriteNew(e Engine, b unkai.Bucket, entries []Entry, left []int, w *Write) []int {
	if bulk, ok := e.(Bulk); ok {
		return bulk.WriteNew(b, entries, left, w)
	}
	all := &together{w: w}
	all.open.Store(1)
	for i := range entries {
		t := &entries[i]
		one := &single{all: all}
		one.Write = Write{Bucket: b, Hash: t.Hash, Key: t.Key, Record: t.Record, Done: one}
		all.open.Add(1)
		e.Write(&one.Write)
		if one.ended.Load() && one.Err != nil {
			left = append(left, i)
		}
	}
	all.end()
	return left
}

// together ends a Write when all its parts have ended.
type together struct {
	w     *Write
	open  atomic.Int64
	broke atomic.Pointer[error]
}

func (a *together) end() {
	if a.open.Add(-1) > 0 {
		return
	}
	a.w.Next, a.w.Err = nil, nil
	if err := a.broke.Load(); err != nil {
		a.w.Err = *err
	}
	a.w.Done.WriteDone(a.w)
}

// single is one of them.
type single struct {
	Write
	all   *together
	ended atomic.Bool
}

// WriteDone implements Done.
func (s *single) WriteDone(w *Write) {
	if errors.Is(w.Err, ErrBroken) {
		s.all.broke.Store(&w.Err)
	}
	s.ended.Store(true)
	s.all.end()
}
