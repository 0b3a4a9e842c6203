package disk

import (
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"unkai"
	"unkai/internal/store"
)

// noLinks refuses links, and may refuse to remove what should have been linked.
type noLinks struct {
	links, removes atomic.Bool
	made           atomic.Int64 // files that were to be linked
}

func (n *noLinks) String() string { return "no links" }

func (n *noLinks) MaybeError(op errorfs.Op) error {
	switch of := strings.Contains(op.Path, incoming); {
	case of && op.Kind == errorfs.OpCreate:
		n.made.Add(1)
	case op.Kind == errorfs.OpLink && n.links.Load(), of && op.Kind == errorfs.OpRemove && n.removes.Load():
		return syscall.EPERM
	}
	return nil
}

// bringGroup brings the i-th group to a bucket, the first of which is worth a table.
func bringGroup(t *testing.T, e *Engine, l *ledger, b unkai.Bucket, i int) {
	t.Helper()
	all, d := brought(l, b, 1000*i, 20)
	if left := e.WriteNew(b, all, nil, &store.Write{Done: d}); len(left) > 0 {
		t.Fatal(left)
	}
	barrier(t, e)
}

// Where tables are not taken, none are written for a while, and then it is tried again.
func TestTablesPause(t *testing.T) {
	n, mem, l := &noLinks{}, vfs.NewMem(), newLedger()
	e := eager(mustOpen(t, small(errorfs.Wrap(mem, n))))
	defer mustClose(t, e)
	n.links.Store(true)
	bringGroup(t, e, l, 3, 0)
	if n.made.Load() == 0 || e.tables.made.Load() > 0 {
		t.Fatal("no table was refused")
	}
	tried := n.made.Load()
	n.links.Store(false)
	for i := range vainPause {
		bringGroup(t, e, l, unkai.Bucket(6+i%8), 1+i/8)
	}
	if n.made.Load() > tried {
		t.Errorf("%d tables were written during the pause", n.made.Load()-tried)
	}
	bringGroup(t, e, l, 5, 0)
	if e.tables.made.Load() == 0 {
		t.Error("it was not tried again")
	}
	checkSurvivors(t, e, l.snapshot(), l.written)
}

// A file that was not taken and could not be removed goes later.
func TestTablesLeftOver(t *testing.T) {
	n, mem, l := &noLinks{}, vfs.NewMem(), newLedger()
	e := eager(mustOpen(t, small(errorfs.Wrap(mem, n))))
	defer mustClose(t, e)
	n.links.Store(true)
	n.removes.Store(true)
	bringGroup(t, e, l, 3, 0)
	if len(stray(t, mem)) == 0 {
		t.Fatal("nothing is left over")
	}
	n.links.Store(false)
	left := len(stray(t, mem))
	e.tables.pause = 0
	bringGroup(t, e, l, 4, 0)
	if s := stray(t, mem); len(s) != left || e.tables.made.Load() > 0 {
		t.Errorf("%d are left over, and then %v", left, s)
	}
	n.removes.Store(false)
	e.tables.pause = 0
	bringGroup(t, e, l, 5, 0)
	if e.tables.made.Load() == 0 {
		t.Error("no tables were made afterwards")
	}
	if s := stray(t, mem); len(s) > 0 {
		t.Errorf("left over: %v", s)
	}
}

// What tables add is counted if they were taken, and only then, also where after a crash the
// place cannot be read at which the first of them begins.
func TestTablesCountedUnread(t *testing.T) {
	for _, taken := range []bool{true, false} {
		mem, l := vfs.NewCrashableMem(), newLedger()
		e := eager(mustOpen(t, small(mem)))
		bringGroup(t, e, l, 3, 0)
		if !taken {
			// Of a table that was not, something is known; its place is inside of one that was.
			all, _ := brought(newLedger(), 3, 0, 20)
			at := append(appendRecordKey(nil, 3, all[10].Hash, all[10].Key), 0)
			if err := e.exclusive(func() error { return e.expect(e.total, counts{items: 7, bytes: 70}, at) }); err != nil {
				t.Fatal(err)
			}
		}
		want := e.Stats()
		crashed := mem.CrashClone(vfs.CrashCloneCfg{})
		mustClose(t, e)
		names, err := crashed.List("store")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, ".sst") {
				data, err := crashed.UnsafeGetFileDataBuffer("store/" + name)
				if err != nil {
					t.Fatal(err)
				}
				data[10] ^= 1
			}
		}
		e = mustOpen(t, small(crashed))
		if st := e.Stats(); st.Items != want.Items || st.Tombstones != want.Tombstones || st.Bytes != want.Bytes {
			t.Errorf("taken %v: counted are %+v, want %+v", taken, st, want)
		}
		if st := e.Stats(); st.Items == 0 {
			t.Error("nothing is counted")
		}
		damaged := false
		for _, err := range e.Scan(3) {
			damaged = damaged || err != nil
		}
		if !damaged {
			t.Error("everything can be read")
		}
		mustClose(t, e)
	}
}
