package disk

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// tableFS lets no table be made until it is released.
type tableFS struct {
	vfs.FS
	release chan struct{}
}

func (h *tableFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasSuffix(name, ".sst") {
		<-h.release
	}
	return h.FS.Create(name, c)
}

// While the disk is slow, room is sought by one flush, and not by one log after the
// other, each of which takes room.
func TestReliefTakesOneLog(t *testing.T) {
	held := &tableFS{vfs.NewMem(), make(chan struct{})}
	cfg := small(held)
	e := mustOpen(t, cfg)
	defer mustClose(t, e)
	logs := func() (n int) {
		names, err := held.List(cfg.Dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, ".log") {
				n++
			}
		}
		return n
	}
	l, rng := newLedger(), rand.New(rand.NewPCG(1, 1))
	before := logs()
	for range 5 {
		scribble(t, e, l, rng, 5)
		barrier(t, e)
		e.relieve()
	}
	if n := logs() - before; n != 1 {
		t.Errorf("%d logs more", n)
	}
	if !e.space.removed.Load() {
		t.Error("it is not tried again")
	}
	close(held.release)
	<-e.relief
	first := e.relief
	e.relieve()
	if e.relief == first {
		t.Error("it is not tried when the first is done")
	}
}
