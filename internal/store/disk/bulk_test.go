package disk

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"unkai"
	"unkai/internal/store"
)

type toldTo chan *store.Write

func (d toldTo) WriteDone(w *store.Write) { d <- w }

// What is written to a key after many have looked whether it is there, and before they
// are applied, is not lost.
func TestWrittenBeneathWriteNew(t *testing.T) {
	e := mustOpen(t, small(vfs.NewMem()))
	defer mustClose(t, e)
	rec := func(n uint64) store.Record {
		b := unkai.MakeBallot(n, 1)
		return store.Record{Ballot: b, Promise: b, Tombstone: true}
	}
	done := make(toldTo, 2)
	first := &store.Write{Bucket: 1, Hash: 2, Key: []byte("k"), Record: rec(2), Done: done}
	e.loaded = func() {
		e.loaded = nil
		e.Write(first)
	}
	all := []store.Entry{{Hash: 1, Key: []byte("k"), Record: rec(1)}, {Hash: 2, Key: []byte("k"), Record: rec(1)}}
	left := e.WriteNew(1, all, nil, &store.Write{Done: done})
	for range 2 {
		if w := <-done; w.Err != nil {
			t.Error(w.Err)
		}
	}
	if len(left) != 1 || left[0] != 1 {
		t.Error(left)
	}
	for hash, want := range map[uint64]store.Record{1: rec(1), 2: rec(2)} {
		if f, err := e.Head(1, hash, []byte("k")); err != nil || f.Record.Ballot != want.Ballot {
			t.Errorf("%d: %+v, %v", hash, f, err)
		}
	}
}
