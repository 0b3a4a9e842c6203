package disk

import (
	"errors"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

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

// The other way round: of what is written beneath a look at the pebble, also the look knows.
func TestWriteNewBeneathWrite(t *testing.T) {
	e := mustOpen(t, small(vfs.NewMem()))
	defer mustClose(t, e)
	at := unkai.MakeBallot(1, 1)
	rec := store.Record{Ballot: at, Promise: at, Tombstone: true}
	done := make(toldTo, 2)
	e.loaded = func() {
		e.loaded = nil
		if left := e.WriteNew(1, []store.Entry{{Hash: 2, Key: []byte("k"), Record: rec}}, nil, &store.Write{Done: done}); len(left) > 0 {
			t.Error(left)
		}
	}
	w := &store.Write{Bucket: 1, Hash: 2, Key: []byte("k"), Record: rec, Done: done}
	e.Write(w)
	for range 2 {
		<-done
	}
	if !errors.Is(w.Err, store.ErrConflict) {
		t.Error(w.Err)
	}
}

// What was written is there after a power cut, once that was said, and is counted.
func TestWriteNewIsDurable(t *testing.T) {
	fs := vfs.NewCrashableMem()
	e := mustOpen(t, small(fs))
	at := unkai.MakeBallot(1, 1)
	var all []store.Entry
	for hash := range uint64(1000) {
		rec := store.Record{Ballot: at, Promise: at, Item: unkai.Item{Value: []byte("v"), CAS: uint64(at)}}
		if hash%10 == 0 {
			rec = store.Record{Ballot: at, Promise: at, Tombstone: true}
		}
		all = append(all, store.Entry{Hash: hash, Key: []byte("k"), Record: rec})
	}
	done := make(toldTo, 1)
	if left := e.WriteNew(1, all, nil, &store.Write{Done: done}); len(left) > 0 {
		t.Fatal(left)
	}
	if w := <-done; w.Err != nil {
		t.Fatal(w.Err)
	}
	cut := fs.CrashClone(vfs.CrashCloneCfg{})
	mustClose(t, e)
	e = mustOpen(t, small(cut))
	defer mustClose(t, e)
	if st := e.Stats(); st.Items != 900 || st.Tombstones != 100 || st.Bytes != 1800 {
		t.Errorf("%+v", st)
	}
	for _, x := range all {
		if f, err := e.Head(1, x.Hash, x.Key); err != nil || f.Record.Ballot != at || f.Unsynced {
			t.Fatalf("%d: %+v, %v", x.Hash, f, err)
		}
	}
}

// looksAtOnce looks at a key as soon as it hears that a write is durable.
type looksAtOnce struct {
	e     *Engine
	found chan unkai.Ballot
}

func (d looksAtOnce) WriteDone(w *store.Write) {
	f, _ := d.e.Head(w.Bucket, w.Hash, w.Key)
	d.found <- f.Record.Ballot
}

// When a record of a run and what has come after it become durable together, the record is
// not seen again.
func TestLaterThanWriteNew(t *testing.T) {
	e := mustOpen(t, small(vfs.NewMem()))
	defer mustClose(t, e)
	rec := func(n uint64) store.Record {
		b := unkai.MakeBallot(n, 1)
		return store.Record{Ballot: b, Promise: b, Tombstone: true}
	}
	began, release := make(chan struct{}), make(chan struct{})
	go func() {
		_ = e.exclusive(func() error { close(began); <-release; return nil })
	}()
	<-began // nothing is committed now
	d := looksAtOnce{e, make(chan unkai.Ballot, 1)}
	e.WriteNew(1, []store.Entry{{Hash: 2, Key: []byte("k"), Record: rec(1)}}, nil, &store.Write{Done: make(toldTo, 1)})
	e.Write(&store.Write{Bucket: 1, Hash: 2, Key: []byte("k"), Expect: rec(1).Ballot, Promised: rec(1).Ballot, Record: rec(2), Done: d})
	close(release)
	if b := <-d.found; b != rec(2).Ballot {
		t.Errorf("it is at %v again", b)
	}
}

// What is applied is counted, as what is written by itself is, before it is durable; and just
// once when it is.
func TestWriteNewIsCountedAtOnce(t *testing.T) {
	e := mustOpen(t, small(vfs.NewMem()))
	defer mustClose(t, e)
	began, release := make(chan struct{}), make(chan struct{})
	go func() {
		_ = e.exclusive(func() error { close(began); <-release; return nil })
	}()
	<-began // nothing is committed now
	at, done := unkai.MakeBallot(1, 1), make(toldTo, 2)
	item := store.Record{Ballot: at, Promise: at, Item: unkai.Item{Value: []byte("v"), CAS: uint64(at)}}
	e.WriteNew(1, []store.Entry{{Hash: 2, Key: []byte("k"), Record: item}, {Hash: 3, Key: []byte("k"), Record: item}}, nil, &store.Write{Done: done})
	if st := e.Stats(); st.Items != 2 || st.Bytes != 4 || st.Writes != 2 {
		t.Errorf("%+v", st)
	}
	gone := store.Record{Ballot: at + 1, Promise: at + 1, Tombstone: true}
	e.Write(&store.Write{Bucket: 1, Hash: 2, Key: []byte("k"), Expect: at, Promised: at, Record: gone, Done: done})
	for range 2 {
		if st := e.Stats(); st.Items != 1 || st.Tombstones != 1 || st.Bytes != 2 {
			t.Errorf("%+v", st)
		}
		if release != nil {
			close(release)
			<-done
			<-done
			release = nil
		}
	}
}

// What waits in runs is bounded, and by what it takes: what a job brings must not have the
// writes of clients refused sooner than need be.
func TestWriteNewIsBounded(t *testing.T) {
	e := mustOpen(t, small(vfs.NewMem()))
	defer mustClose(t, e)
	began, release := make(chan struct{}), make(chan struct{})
	go func() {
		_ = e.exclusive(func() error { close(began); <-release; return nil })
	}()
	<-began // nothing is committed now
	at, done := unkai.MakeBallot(1, 1), make(toldTo, 100)
	bring := func(b unkai.Bucket, value int) (left []int) {
		all := make([]store.Entry, bulkMost)
		for i := range all {
			all[i] = store.Entry{Hash: uint64(i), Key: []byte("k"), Record: store.Record{Ballot: at, Promise: at, Item: unkai.Item{Value: make([]byte, value), CAS: uint64(at)}}}
		}
		return e.WriteNew(b, all, nil, &store.Write{Done: done})
	}
	bring(0, 10)
	if n := e.waiting.Load(); n < 40*bulkMost || n > 80*bulkMost {
		t.Errorf("%d records with values of 10 bytes weigh %d", bulkMost, n)
	}
	b := unkai.Bucket(1)
	for len(bring(b, 40<<10)) == 0 {
		b++
	}
	if n := e.waiting.Load(); n < maxWaiting || n > maxWaiting+bulkMost<<16 {
		t.Errorf("%d bytes wait", n)
	}
	close(release)
	barrier(t, e)
	if n := e.waiting.Load(); n != 0 {
		t.Errorf("%d bytes wait still", n)
	}
}

// When the store breaks, who waits hears so once, whether the disk has begun or not.
func TestWriteNewInDoubt(t *testing.T) {
	at := unkai.MakeBallot(1, 1)
	all := []store.Entry{{Hash: 2, Key: []byte("k"), Record: store.Record{Ballot: at, Promise: at, Tombstone: true}}}
	for name, before := range map[string]func(*Engine, *trap) (after func()){
		"under way": func(_ *Engine, p *trap) func() { p.armed.Store(true); return func() {} },
		"gathering": func(e *Engine, _ *trap) func() {
			began, release := make(chan struct{}), make(chan struct{})
			go func() {
				_ = e.exclusive(func() error { close(began); <-release; return nil })
			}()
			<-began
			return func() { e.fail(syscall.EIO); close(release) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := &trap{kinds: syncs, at: 1, lasts: true, err: syscall.EIO}
			e := mustOpen(t, small(errorfs.Wrap(vfs.NewMem(), p)))
			after := before(e, p)
			done := make(toldTo, 2)
			e.WriteNew(1, all, nil, &store.Write{Done: done})
			after()
			if w := <-done; !errors.Is(w.Err, store.ErrBroken) {
				t.Error(w.Err)
			}
			if left := e.WriteNew(1, all, nil, &store.Write{Done: done}); len(left) != 1 {
				t.Error("a broken store takes something")
			}
			if w := <-done; w.Err != nil {
				t.Error("what was refused is in doubt:", w.Err)
			}
			if err := e.Close(); !errors.Is(err, store.ErrBroken) {
				t.Error(err)
			}
			if len(done) > 0 {
				t.Error("told again")
			}
		})
	}
}
