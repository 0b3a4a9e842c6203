package steward

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"unkai"
	"unkai/internal/core/topology"
)

// watcher is the steward of node 1 among others, each of which holds a thousand bytes
// and reaches all that are alive.
type watcher struct {
	*Steward
	t   *testing.T
	c   company
	top topology.Topology
}

func watching(t *testing.T, attached, recognised int) *watcher {
	t.Helper()
	w := &watcher{t: t, c: company{self: 1, alive: map[unkai.NodeID]bool{}, says: map[unkai.NodeID]*Load{}}}
	w.top = topology.New(1, 16, 3, 2, 2, topology.Node{ID: 1, Weight: 1})
	var ids []unkai.NodeID
	for i := 2; i <= attached+recognised; i++ {
		id := unkai.NodeID(i)
		next, err := w.top.Join(topology.Node{ID: id, Weight: 1})
		if err != nil {
			t.Fatal(err)
		}
		w.top = next
		if i <= attached {
			ids = append(ids, id)
		}
	}
	next, err := w.top.Begin(topology.Change{Kind: topology.KindAttach, Nodes: ids}, nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	for b := range next.Sets {
		s := &next.Sets[b]
		*s = topology.Set{Epoch: next.Epoch, Replicas: slices.Concat(s.Joining, s.Due)}
	}
	var ok bool
	if next, ok = next.Advance(nil, 1); !ok || next.Job != nil {
		t.Fatalf("%+v", next.Job)
	}
	w.top = next
	if w.top, err = next.ReplaceAfter(5000); err != nil {
		t.Fatal(err)
	}
	for _, m := range w.top.Nodes {
		w.c.alive[m.ID], w.c.says[m.ID] = true, &Load{Load: topology.Load{Node: m.ID, Alive: true, Bytes: 1000, Used: 1000, Limit: 100_000}}
	}
	w.Steward = New(Config{Self: 1, Nodes: w.c, Managers: alone{&w.top}, Log: slog.New(slog.DiscardHandler), Now: func() int64 { return time.Now().UnixMilli() }})
	return w
}

// dies has a node be silent for all.
func (w *watcher) dies(id unkai.NodeID) {
	w.c.alive[id] = false
	for _, l := range w.c.says {
		l.Away = append(l.Away, id)
	}
}

// first is the first change of its own in so much time: the topology stays as it is.
func (w *watcher) first(d time.Duration) (c topology.Change, after time.Duration) {
	w.t.Helper()
	if err := w.top.Seal(); err != nil {
		w.t.Fatal(err)
	}
	for began := time.Now(); time.Since(began) < d; time.Sleep(lookEvery) {
		w.watch(&w.top)
		for _, next := range []func() (topology.Change, []topology.Load, bool){
			func() (topology.Change, []topology.Load, bool) { return w.attachment(w.t.Context(), &w.top) },
			func() (topology.Change, []topology.Load, bool) { return w.replacement(w.t.Context(), &w.top) },
		} {
			if c, _, ok := next(); ok {
				return c, time.Since(began)
			}
		}
	}
	return topology.Change{}, d
}

func (w *watcher) refuses(why string) {
	w.t.Helper()
	if c, after := w.first(time.Minute); c.Kind != "" {
		w.t.Errorf("after %v it is %+v", after, c)
	}
	if said := w.refused + w.waiting; !strings.Contains(said, why) {
		w.t.Errorf("it says %q, want %q", said, why)
	}
}

func (w *watcher) does(kind topology.Kind, nodes ...unkai.NodeID) time.Duration {
	w.t.Helper()
	c, after := w.first(time.Minute)
	if c.Kind != kind || !slices.Equal(c.Nodes, nodes) {
		w.t.Errorf("after %v it is %+v, want to %s %v; it says %q, %q", after, c, kind, nodes, w.refused, w.waiting)
	}
	return after
}

// What the steward does about a dead node when nobody asks for it, and when it does nothing.
func TestReplacements(t *testing.T) {
	for _, test := range []struct {
		name              string
		attached, waiting int
		is                func(w *watcher)
	}{
		{"to all that are left", 4, 0, func(w *watcher) {
			w.dies(4)
			if after := w.does(topology.KindDetach, 4); after < 5*time.Second {
				w.t.Errorf("after %v", after)
			}
		}},
		{"never, where that is not wanted", 4, 0, func(w *watcher) {
			w.dies(4)
			w.top.AutoReplace = 0
			w.refuses("")
		}},
		{"no room among those who are left", 4, 0, func(w *watcher) {
			w.dies(4)
			w.c.says[3].Limit = 1001
			w.refuses("node 0000000000000003 has no room")
		}},
		{"somebody reaches it", 4, 0, func(w *watcher) {
			w.dies(4)
			w.c.says[2].Away = nil
			w.refuses("node 0000000000000002 reaches it")
		}},
		{"another is silent", 5, 0, func(w *watcher) {
			w.dies(4)
			w.c.says[2] = nil
			w.refuses("node 0000000000000002 is silent too")
		}},
		{"two are dead", 5, 0, func(w *watcher) {
			w.dies(4)
			w.dies(5)
			w.refuses("2 nodes are dead")
		}},
		{"too few are left", 3, 0, func(w *watcher) {
			w.dies(3)
			w.refuses("too few for 3 replicas")
		}},
		{"by a spare, of exactly N", 3, 1, func(w *watcher) {
			w.dies(3)
			w.does(topology.KindReplace, 3, 4)
		}},
		{"by a spare, though others are left", 4, 1, func(w *watcher) {
			w.dies(4)
			w.does(topology.KindReplace, 4, 5)
		}},
		{"by the spare in its zone", 3, 2, func(w *watcher) {
			w.top.Nodes[2].Zone, w.top.Nodes[4].Zone = "z", "z"
			w.dies(3)
			w.does(topology.KindReplace, 3, 5)
		}},
		{"by the spare that has room", 3, 2, func(w *watcher) {
			w.dies(3)
			w.c.says[4].Limit = 1001
			w.does(topology.KindReplace, 3, 5)
		}},
		{"the spare has no room", 3, 1, func(w *watcher) {
			w.dies(3)
			w.c.says[4].Limit = 1001
			w.refuses("node 0000000000000004 cannot take its place: node 0000000000000004 has no room")
		}},
		{"the spare is full", 3, 1, func(w *watcher) {
			w.dies(3)
			w.c.says[4].Limit, w.c.says[4].Full = 0, true
			w.refuses("node 0000000000000004 cannot take its place: node 0000000000000004 has no room")
		}},
		{"the spare has no room, others have", 4, 1, func(w *watcher) {
			w.dies(4)
			w.c.says[5].Limit = 1001
			w.does(topology.KindDetach, 4)
		}},
		{"somebody reaches it, with a spare", 3, 1, func(w *watcher) {
			w.dies(3)
			w.c.says[4].Away = nil
			w.refuses("node 0000000000000004 reaches it")
		}},
		{"the spare waits for an operator", 3, 1, func(w *watcher) {
			w.top.Nodes[3].Manual = true
			w.dies(3)
			w.refuses("too few for 3 replicas of each key; node 0000000000000004 waits, but nothing is done with it by itself (--attach manual): unkai replace 0000000000000003 0000000000000004")
		}},
		{"the spare is away", 3, 1, func(w *watcher) {
			w.dies(3)
			w.dies(4)
			w.refuses("node 0000000000000004 is silent too, though it holds nothing: bring it back, or unkai detach it")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test.is(watching(t, test.attached, test.waiting)) })
		})
	}
}

// Nodes that join soon after each other are attached by one change.
func TestSeveralJoinsAreOneChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watching(t, 3, 2)
		w.c.alive[5] = false
		if c, _ := w.first(1500 * time.Millisecond); c.Kind != "" {
			t.Fatalf("one alone: %+v", c)
		}
		w.c.alive[5] = true
		if after := w.does(topology.KindAttach, 4, 5); after != attachAfter {
			t.Errorf("%v after the second", after)
		}
	})
}

// Nodes are not attached by themselves when there is no room, or another is away.
func TestAttachmentsThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watching(t, 3, 1)
		w.c.says[4].Limit = 1001
		w.refuses("node 0000000000000004 has no room")
		w.c.says[4].Limit, w.c.says[4].Full = 0, true
		w.refuses("node 0000000000000004 has no room")
		w.c.says[4].Limit, w.c.says[4].Full = 100_000, false
		w.top.AutoReplace = 0
		w.dies(2)
		w.refuses("node 0000000000000002 is away")
		w.c.alive[2] = true
		w.does(topology.KindAttach, 4)
		if w.waiting != "" {
			t.Errorf("it says %q still", w.waiting)
		}
	})
}
