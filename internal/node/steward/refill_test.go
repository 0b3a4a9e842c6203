package steward

import (
	"slices"
	"testing"
	"testing/synctest"

	"unkai"
	"unkai/internal/core/topology"
)

// A node that has lost what it held gets it again though the others are full, and some of
// them would get something, too, were there room: they are spared. So it is with gaps that
// are filled. Where nobody else can take it, nothing is done.
func TestTheFullAreSpared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watching(t, 6, 0)
		next, err := w.top.Reborn(6)
		if err != nil {
			t.Fatal(err)
		}
		w.top = next
		w.top.Nodes[1].Weight = 3 // it holds less than it should
		for id := unkai.NodeID(2); id < 6; id++ {
			w.c.says[id].Full = true
		}
		if p, err := w.top.Plan(attach(6), plain(w.c.Loads(t.Context(), &w.top))); err != nil || !slices.Equal(p.Roomless, []unkai.NodeID{2}) {
			t.Fatalf("no room at %v, %v", p.Roomless, err)
		}
		if c, after := w.first(10e9); c.Kind != topology.KindAttach || !slices.Equal(c.Full, []unkai.NodeID{2}) || after != attachAfter {
			t.Errorf("after %v %+v; it says %q", after, c, w.waiting)
		}
		w.top.Nodes[5].Manual = true
		if c, _, ok := w.mending(t.Context(), &w.top); ok {
			t.Errorf("nobody has room: %+v", c)
		}
		for _, id := range []unkai.NodeID{3, 4} {
			w.c.says[id].Full = false
		}
		if c, _, ok := w.mending(t.Context(), &w.top); !ok || !slices.Contains(c.Full, 2) {
			t.Errorf("%v: %+v", ok, c)
		}
	})
}
