package disk

import (
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// workFS takes a while for each write, as a compaction does between two.
type workFS struct {
	vfs.FS
	work time.Duration
}

type workFile struct {
	vfs.File
	work time.Duration
}

func (w *workFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := w.FS.Create(name, c)
	return &workFile{f, w.work}, err
}

func (f *workFile) Write(p []byte) (int, error) {
	time.Sleep(f.work)
	return f.File.Write(p)
}

// Who writes a table rests as long as it works; in a hurry it does not, and the log and
// what is in other directories never do.
func TestTablesRest(t *testing.T) {
	for _, c := range []struct {
		name   string
		hurry  bool
		work   time.Duration
		writes int
		want   time.Duration
	}{
		{"store/000001.sst", false, time.Millisecond, 101, 201 * time.Millisecond}, // the first only begins
		{"store/000001.sst", false, time.Millisecond / 10, 101, 20*time.Millisecond + time.Millisecond/10},
		{"store/000001.sst", false, time.Second, 3, 3*time.Second + 2*mostWork},
		{"store/000001.sst", true, time.Millisecond, 101, 101 * time.Millisecond},
		{"store/000001.log", false, time.Millisecond, 101, 101 * time.Millisecond},
		{"copy/000001.sst", false, time.Millisecond, 101, 101 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			mem := vfs.NewMem()
			g := &guardFS{
				FS: &workFS{mem, c.work}, dir: "store", broken: new(atomic.Bool),
				fail: func(err error) { t.Error(err) }, logs: map[*logFile]struct{}{},
			}
			g.hurry.Store(c.hurry)
			if err := mem.MkdirAll(filepath.Dir(c.name), 0o755); err != nil {
				t.Fatal(err)
			}
			f, err := g.Create(c.name, vfs.WriteCategoryUnspecified)
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			for range c.writes {
				if n, err := f.Write([]byte("x")); n != 1 || err != nil {
					t.Fatal(n, err)
				}
			}
			if took := time.Since(start); took != c.want {
				t.Errorf("%s, hurry %t: %d writes of %s took %s, want %s", c.name, c.hurry, c.writes, c.work, took, c.want)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestLags(t *testing.T) {
	for _, c := range []struct {
		memtables int64
		sublevels int32
		want      bool
	}{{1, 0, false}, {2, 4, false}, {3, 0, true}, {1, 5, true}} {
		var m pebble.Metrics
		m.MemTable.Count, m.Levels[0].Sublevels = c.memtables, c.sublevels
		if lags(&m) != c.want {
			t.Errorf("%d memtables, %d sublevels: want %t", c.memtables, c.sublevels, c.want)
		}
	}
}

// A store whose flushes do not keep up makes haste, and rests again when they have.
func TestHurriesWhenBehind(t *testing.T) {
	held := &tableFS{vfs.NewMem(), make(chan struct{})}
	e := mustOpen(t, small(held))
	defer mustClose(t, e)
	if e.guard.hurry.Load() {
		t.Error("an idle store is in a hurry")
	}
	v := noise(64 << 10)
	for i := uint64(0); e.db.Metrics().MemTable.Count < 3; i++ {
		key := benchKeyOf(i)
		if err := e.db.Set(key, v, pebble.Sync); err != nil {
			t.Fatal(err)
		}
	}
	e.space.sample()
	if !e.guard.hurry.Load() {
		t.Error("a memtable waits behind another, and there is no hurry")
	}
	close(held.release)
	if err := e.db.Flush(); err != nil {
		t.Fatal(err)
	}
	e.space.sample()
	if e.guard.hurry.Load() {
		t.Error("all is flushed, and the store is still in a hurry")
	}
}

func benchKeyOf(i uint64) []byte {
	key, b, h := benchKey(nil, i)
	return appendRecordKey(nil, b, h, key)
}
