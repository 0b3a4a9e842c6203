package node

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
