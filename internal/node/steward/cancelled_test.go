package steward

import (
	"testing"
	"testing/synctest"
	"time"

	"unkai"
	"unkai/internal/core/topology"
)

// cancels has a job begin by itself, and an operator cancel it: the topology after it.
func (w *watcher) cancels(c topology.Change) {
	w.t.Helper()
	next, err := w.top.Begin(c, nil, 1)
	if err != nil {
		w.t.Fatal(err)
	}
	next.Job.Auto = true
	if next, err = next.Cancel(); err != nil {
		w.t.Fatal(err)
	}
	next, ok := next.Advance(nil, 1)
	if !ok || next.Job != nil {
		w.t.Fatalf("%+v", next.Job)
	}
	w.top = next
}

// A replacement that an operator has cancelled does not begin again at once: the node is
// waited for anew.
func TestACancelledReplacement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watching(t, 4, 0)
		w.dies(4)
		w.does(topology.KindDetach, 4)
		w.cancels(topology.Change{Kind: topology.KindDetach, Nodes: []unkai.NodeID{4}})
		if after := w.does(topology.KindDetach, 4); after < 5*time.Second {
			t.Errorf("it begins again after %v", after)
		}
		if after := w.does(topology.KindDetach, 4); after != 0 {
			t.Errorf("it was waited for once more, for %v", after)
		}
	})
}

// gaping is a steward of four nodes of which one has lost what it held, and waits for an
// operator.
func gaping(t *testing.T) *watcher {
	t.Helper()
	w := watching(t, 4, 0)
	next, err := w.top.Reborn(4)
	if err != nil {
		t.Fatal(err)
	}
	w.top = next
	w.top.Nodes[3].Manual = true
	return w
}

// So it is with a job that fills the places which lost replicas have left: it is the
// operator's turn.
func TestACancelledMend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := gaping(t)
		c, _, ok := w.mending(t.Context(), &w.top)
		if !ok {
			t.Fatal("the gaps are left")
		}
		w.cancels(c)
		if c, _, ok := w.mending(t.Context(), &w.top); ok || !w.top.Gaps() {
			t.Errorf("it begins again: %+v", c)
		}
	})
}

// A node that does not answer in time, or has no room, puts such a job off, and not for
// good.
func TestAMendIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := gaping(t)
		said := w.c.says[2]
		w.c.says[2] = nil
		if c, _, ok := w.mending(t.Context(), &w.top); ok {
			t.Errorf("though a node says nothing: %+v", c)
		}
		w.c.says[2] = said
		said.Full = true
		if c, _, ok := w.mending(t.Context(), &w.top); ok {
			t.Errorf("though a node is full: %+v", c)
		}
		said.Full = false
		w.dies(4) // which holds nothing, and gets nothing
		if _, _, ok := w.mending(t.Context(), &w.top); !ok {
			t.Error("the gaps are left for good")
		}
	})
}
