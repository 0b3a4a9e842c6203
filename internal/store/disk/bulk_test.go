package disk

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"unkai"
	"unkai/internal/store"
)

type toldTo chan *store.Write

func (d toldTo) WriteDone(w *store.Write) { d <- w }

// What is written to a key after many writes have looked whether it is there, and before
// they are applied, is not lost.
func TestWrittenBeneathWriteAll(t *testing.T) {
	e := mustOpen(t, small(vfs.NewMem()))
	defer mustClose(t, e)
	done := make(toldTo, 3)
	write := func(hash uint64, b unkai.Ballot) *store.Write {
		rec := store.Record{Ballot: b, Promise: b, Tombstone: true}
		return &store.Write{Bucket: 1, Hash: hash, Key: []byte("k"), Record: rec, Done: done}
	}
	first := write(2, unkai.MakeBallot(2, 1))
	e.loaded = func() {
		e.loaded = nil
		e.Write(first)
	}
	all := []*store.Write{write(1, unkai.MakeBallot(1, 1)), write(2, unkai.MakeBallot(1, 1))}
	e.WriteAll(all)
	for range 3 {
		<-done
	}
	if first.Err != nil || all[0].Err != nil || !errors.Is(all[1].Err, store.ErrConflict) {
		t.Errorf("%v, %v, %v", first.Err, all[0].Err, all[1].Err)
	}
	if f, err := e.Head(1, 2, []byte("k")); err != nil || f.Record.Ballot != first.Record.Ballot {
		t.Errorf("%+v, %v", f, err)
	}
}
