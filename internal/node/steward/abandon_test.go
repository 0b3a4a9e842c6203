package steward

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"unkai"
	"unkai/internal/core/topology"
)

// alone is a manager that decides by itself.
type alone struct{ top *topology.Topology }

// Topology implements Managers.
func (a alone) Topology() *topology.Topology { return a.top }

// Pending implements Managers.
func (a alone) Pending() bool { return false }

// Finish implements Managers.
func (a alone) Finish(context.Context) error { return nil }

// Change implements Managers.
func (a alone) Change(_ context.Context, f func(*topology.Topology) (topology.Topology, error)) (*topology.Topology, error) {
	next, err := f(a.top)
	if err != nil {
		return nil, err
	}
	*a.top = next
	return a.top, a.top.Seal()
}

// begins has a job begin by itself, of which so many buckets are switched.
func (w *watcher) begins(c topology.Change, switched int) {
	w.t.Helper()
	next, err := w.top.Begin(c, nil, 1)
	if err != nil {
		w.t.Fatal(err)
	}
	next.Job.Auto = true
	next = next.Proceed(nil, nil, switched, nil)
	var arrived []unkai.Bucket
	for b := range next.Sets {
		if len(next.Sets[b].Joining) > 0 {
			arrived = append(arrived, unkai.Bucket(b))
		}
	}
	if len(arrived) != switched {
		w.t.Fatalf("%d have set out, want %d", len(arrived), switched)
	}
	w.top = next.Proceed(arrived, nil, 0, nil)
	if err := w.top.Seal(); err != nil {
		w.t.Fatal(err)
	}
}

// abandons gives up the job that runs, and it ends. It tells after how long that was; 0: not at all.
func (w *watcher) abandons(d time.Duration) time.Duration {
	w.t.Helper()
	for began := time.Now(); time.Since(began) < d; time.Sleep(lookEvery) {
		w.watch(&w.top)
		if !w.abandon(w.t.Context(), &w.top) {
			continue
		}
		after := time.Since(began)
		next := w.top
		for next.Job != nil {
			var free []unkai.Bucket
			for b := range next.Sets {
				if len(next.Sets[b].Leaving) > 0 {
					free = append(free, unkai.Bucket(b))
				}
			}
			if len(free) > 0 {
				next = next.Proceed(nil, free, 0, nil)
				continue
			}
			ended, ok := next.Advance(nil, w.cfg.Now())
			if !ok {
				w.t.Fatalf("it does not end: %+v", next.Job)
			}
			next = ended
		}
		strays := map[unkai.Seat][]unkai.Bucket{}
		for _, m := range next.Nodes {
			strays[m.Seat] = next.Strayed(m.Seat)
		}
		w.top = next.Forgot(strays) // in time
		if err := w.top.Seal(); err != nil {
			w.t.Fatal(err)
		}
		return after
	}
	return 0
}

// returns has a node be there again, and seen.
func (w *watcher) returns(id unkai.NodeID) {
	w.c.alive[id] = true
	for _, l := range w.c.says {
		l.Away = slices.DeleteFunc(l.Away, func(away unkai.NodeID) bool { return away == id })
	}
	w.watch(&w.top)
}

func attach(ids ...unkai.NodeID) topology.Change {
	return topology.Change{Kind: topology.KindAttach, Nodes: ids}
}

// A job that began by itself, and whose newcomer has died, is cancelled by itself, and begins
// again when that one is back.
func TestAJobOfItsOwnIsGivenUp(t *testing.T) {
	for _, test := range []struct {
		name string
		is   func(w *watcher)
		want time.Duration // at least; 0: never
	}{
		{"after as long as a dead node is waited for", func(w *watcher) { w.dies(5) }, 5 * time.Second},
		{"after five minutes", func(w *watcher) { w.top.AutoReplace = 0; w.dies(5) }, 5 * time.Minute},
		{"after five minutes at most", func(w *watcher) { w.top.AutoReplace = 1000 * 3600; w.dies(5) }, 5 * time.Minute},
		{"not while it is there", func(*watcher) {}, 0},
		{"not for another node", func(w *watcher) { w.dies(3) }, 0},
		{"not when it is paused", func(w *watcher) { w.dies(5); w.top.Job.Paused = true }, 0},
		{"not what an operator wants", func(w *watcher) { w.dies(5); w.top.Job.Auto = false }, 0},
		{"not twice", func(w *watcher) { w.dies(5); w.top.Job.Outcome = topology.Cancelled }, 0},
		{"not when nothing can be decided", func(w *watcher) { w.dies(2); w.dies(3); w.dies(5) }, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := watching(t, 4, 1)
				w.begins(attach(5), 0)
				test.is(w)
				after := w.abandons(20 * time.Minute)
				if after < test.want || after > test.want+2*lookEvery {
					t.Fatalf("after %v, want %v", after, test.want)
				}
				if test.want == 0 {
					return
				}
				m, _ := w.top.Node(5)
				if j := lastJob(&w.top); m.State != topology.Recognised || m.Manual || !slices.Equal(j.Missed, []unkai.NodeID{5}) {
					t.Errorf("%+v, %+v", m, j)
				}
				want := "not attached by itself: job 2 was cancelled by itself since it was silent; it gets its share when it is back"
				if got := w.foreseen(5, time.Minute); got != want {
					t.Errorf("it is %q", got)
				}
				w.returns(5)
				w.does(topology.KindAttach, 5)
			})
		})
	}
}

// When the node that takes the place of a dead one dies, too, and that job was given up,
// others take what the dead one held: nobody was asked to wait for it any longer.
func TestAnotherHeir(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watching(t, 4, 1)
		w.dies(4)
		w.does(topology.KindReplace, 4, 5)
		w.begins(topology.Change{Kind: topology.KindReplace, Nodes: []unkai.NodeID{4, 5}}, 0)
		w.dies(5)
		if w.abandons(time.Minute) == 0 {
			t.Fatal("it waits")
		}
		if after := w.does(topology.KindDetach, 4); after != 0 {
			t.Errorf("after %v", after)
		}
	})
}

// What was switched to it is its share, and it is dead with that as any node is: an operator
// has to decide about two of them. When it is back it gets the rest.
func TestAnHeirThatHoldsSomething(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watching(t, 4, 1)
		w.begins(topology.Change{Kind: topology.KindReplace, Nodes: []unkai.NodeID{4, 5}}, 2)
		w.dies(4)
		w.dies(5)
		if w.abandons(time.Minute) == 0 {
			t.Fatal("it waits")
		}
		w.refuses("2 nodes are dead")
		if c, _, ok := w.mending(t.Context(), &w.top); ok {
			t.Errorf("%+v", c)
		}
		w.returns(4)
		w.does(topology.KindDetach, 5)
	})
}

// A newcomer that has got a part of its share gets the rest when it is back, unless an
// operator has cancelled that.
func TestTheRestOfAShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watching(t, 3, 1)
		w.begins(attach(4), 2)
		w.dies(4)
		if w.abandons(time.Minute) == 0 {
			t.Fatal("it waits")
		}
		mends := func(want bool) (c topology.Change) {
			t.Helper()
			c, _, ok := w.mending(t.Context(), &w.top)
			if ok != want || ok && c.Kind != topology.KindRebalance {
				t.Errorf("%v: %+v", ok, c)
			}
			return c
		}
		mends(false) // it is away
		w.returns(4)
		w.begins(mends(true), 1)
		w.dies(4)
		if w.abandons(time.Minute) == 0 {
			t.Fatal("it waits")
		}
		w.returns(4)
		w.cancels(mends(true))
		mends(false)
	})
}

// A node that has lost what it held, and died when it was to get it again, does not keep
// others from taking it.
func TestGapsOfWhoWasGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := gaping(t)
		w.top.Nodes[3].Manual = false
		if c, _, ok := w.mending(t.Context(), &w.top); ok {
			t.Fatalf("though it will be attached: %+v", c)
		}
		w.begins(attach(4), 0)
		w.dies(4)
		if w.abandons(time.Minute) == 0 || !w.top.Gaps() {
			t.Fatal("it waits")
		}
		if _, _, ok := w.mending(t.Context(), &w.top); !ok {
			t.Error("the gaps are left")
		}
		w.returns(4)
		w.looked = 0
		if c, _, ok := w.mending(t.Context(), &w.top); ok {
			t.Errorf("though it is back: %+v", c)
		}
	})
}
