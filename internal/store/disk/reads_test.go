package disk

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"unkai/internal/store"
)

// hangFS holds back every read of a table while it is told to.
type hangFS struct {
	vfs.FS
	gate atomic.Pointer[chan struct{}]
}

type hangFile struct {
	vfs.File
	fs *hangFS
}

func (h *hangFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := h.FS.Open(name, opts...)
	if err != nil {
		return nil, err
	}
	return &hangFile{f, h}, nil
}

func (f *hangFile) ReadAt(p []byte, off int64) (int, error) {
	if g := f.fs.gate.Load(); g != nil {
		<-*g
	}
	return f.File.ReadAt(p, off)
}

// hang makes a store with records in a table, too many for the pebble to read
// them all when it opens it, and nothing in a cache; on a disk that answers no
// read until the gate is closed.
func hang(t *testing.T) (e *Engine, gate chan struct{}, told chan error) {
	t.Helper()
	fs := &hangFS{FS: vfs.NewMem()}
	cfg := small(fs)
	told = make(chan error, 1)
	cfg.Failed = func(err error) { told <- err }
	e = mustOpen(t, cfg)
	const n = 2000
	d := make(waiter, n)
	for i := range uint64(n) {
		e.Write(&store.Write{Bucket: 1, Hash: i, Key: []byte("k"), Record: benchRecord(1<<16, noise(100)), Done: d})
	}
	for range n {
		if err := d.wait(); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.db.Flush(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, e)
	e = mustOpen(t, cfg)
	gate = make(chan struct{})
	fs.gate.Store(&gate)
	return e, gate, told
}

// read gets the record, and tells how that ended.
func read(e *Engine) chan error {
	c := make(chan error, 1)
	go func() {
		_, _, err := e.Get(1, 1000, []byte("k"), nil, 0)
		c <- err
	}()
	return c
}

// TestHungRead: a read that the disk does not answer breaks the store, and does
// not keep anybody but its caller.
func TestHungRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, gate, told := hang(t)
		began := time.Now()
		held := read(e)
		if err := <-told; !errors.Is(err, store.ErrBroken) || !errors.Is(err, errHung) {
			t.Errorf("told %v", err)
		}
		if d := time.Since(began); d < hungRead || d > hungRead+2*lookEvery {
			t.Errorf("noticed after %v", d)
		}
		_, _, get := e.Get(1, 1001, []byte("other"), nil, 0)
		_, head := e.Head(1, 5, []byte("other"))
		d := newWaiter()
		e.Write(&store.Write{Bucket: 1, Hash: 5, Key: []byte("other"), Record: benchRecord(1<<16, nil), Done: d})
		for what, err := range map[string]error{"get": get, "head": head, "write": d.wait(), "drop": e.Drop(1), "close": e.Close()} {
			if !errors.Is(err, store.ErrBroken) {
				t.Errorf("%s of a store on a disk that hangs: %v", what, err)
			}
		}
		if len(held) != 0 {
			t.Error("nothing was held")
		}
		close(gate)
		if err := <-held; err != nil && !errors.Is(err, store.ErrBroken) {
			t.Error(err)
		}
		if err := e.db.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestCloseBehindHungRead: closing the store waits for the disk, and not longer
// than anybody else does, whether that keeps the committer or only who drops a bucket.
func TestCloseBehindHungRead(t *testing.T) {
	t.Run("committer", func(t *testing.T) {
		testCloseBehindHungRead(t, func(e *Engine) error {
			return e.exclusive(func() error { _, err := e.count(1); return err })
		}, true)
	})
	t.Run("drop", func(t *testing.T) {
		testCloseBehindHungRead(t, func(e *Engine) error { return e.Drop(1) }, false)
	})
}

func testCloseBehindHungRead(t *testing.T, hold func(*Engine) error, committer bool) {
	synctest.Test(t, func(t *testing.T) {
		e, gate, told := hang(t)
		held := make(chan error, 1)
		go func() { held <- hold(e) }()
		synctest.Wait()
		if len(held) > 0 {
			t.Error("nothing is held")
		}
		if err := e.Close(); !errors.Is(err, store.ErrBroken) {
			t.Errorf("close gives %v", err)
		}
		if err := <-told; !errors.Is(err, errHung) {
			t.Errorf("told %v", err)
		}
		if !committer {
			close(gate)
		}
		if err := <-held; !errors.Is(err, store.ErrBroken) {
			t.Errorf("who was held hears %v", err)
		}
		if committer { // then nobody has closed the pebble
			close(gate)
			<-e.committed
			if err := e.db.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestCloseBehindHungCompaction: nor does it wait for what goes on in the
// background.
func TestCloseBehindHungCompaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, gate, told := hang(t)
		ended := make(chan error, 1)
		// Something to be removed, or the table would only be moved.
		if err := e.db.Delete(appendRecordKey(nil, 1, 1000, []byte("k")), pebble.Sync); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { ended <- e.db.Compact(ctx, []byte{0}, []byte{255}, false) }()
		synctest.Wait()
		if len(ended) != 0 {
			t.Fatal("nothing hangs")
		}
		if err := e.Close(); !errors.Is(err, errHung) || !errors.Is(err, store.ErrBroken) {
			t.Errorf("close gives %v", err)
		}
		if err := <-told; !errors.Is(err, errHung) {
			t.Errorf("told %v", err)
		}
		close(gate)
		cancel() // the pebble does not tell who asked when it is closed
		if err := <-ended; err == nil {
			t.Error("compacted a store that is closed")
		}
	})
}

// TestSlowReadIsNoHang: a disk that answers in the end is waited for.
func TestSlowReadIsNoHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, gate, told := hang(t)
		held := read(e)
		time.Sleep(hungRead - 2*lookEvery)
		close(gate)
		if err := <-held; err != nil {
			t.Error(err)
		}
		time.Sleep(2 * hungRead)
		if len(told) != 0 {
			t.Error(<-told)
		}
		mustClose(t, e)
	})
}

// TestLookout: only looks count, as many as it takes, at one and the same read;
// so neither a process that was stopped for an hour nor many short reads are
// taken for a disk that hangs.
func TestLookout(t *testing.T) {
	var r reads
	var l lookout
	if l.hangs(&r) {
		t.Fatal("nothing is read")
	}
	for range 100 {
		p := r.begin()
		if l.hangs(&r) {
			t.Fatal("short reads are taken for a long one")
		}
		r.end(p)
	}
	for range 2 * readPlaces { // more than there is room for
		r.begin()
	}
	looks := 1
	for !l.hangs(&r) {
		looks++
	}
	if want := int(hungRead/lookEvery) + 1; looks != want {
		t.Errorf("noticed at look %d, want %d", looks, want)
	}
}
