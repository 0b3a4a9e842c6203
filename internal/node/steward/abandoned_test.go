package steward

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"unkai"
	"unkai/internal/core/topology"
)

// A node that is being replaced since it is dead is nobody for whom its replacement waits,
// though it has not forgotten what it held.
func TestTheDeadNodeIsNotAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watching(t, 4, 1)
		w.dies(4)
		w.does(topology.KindReplace, 4, 5)
		w.begins(topology.Change{Kind: topology.KindReplace, Nodes: []unkai.NodeID{4, 5}}, 2)
		w.proceeds(nil, w.leaving())
		way := w.onTheirWay()
		w.proceeds(way[1:], nil)
		w.proceeds(nil, w.leaving())
		next, ok := w.top.Renew([]topology.Renewal{{Bucket: way[0], Epoch: w.top.Epoch}}) // it was damaged, and 5 has to forget it
		if !ok || next.Moving() > 0 || !next.Job.Held {
			t.Fatalf("%v, %d on their way: %+v", ok, next.Moving(), next.Job)
		}
		w.top = next
		if err := w.top.Seal(); err != nil {
			t.Fatal(err)
		}
		if awaited := w.top.Awaited(); !slices.Equal(awaited, []unkai.NodeID{5}) {
			t.Errorf("%v are awaited", awaited)
		}
		w.watch(&w.top)
		if w.abandon(t.Context(), &w.top) {
			t.Errorf("it is cancelled for the sake of %v", w.top.Job.Missed)
		}
	})
}

// When a job has ended for the sake of one newcomer, the other gets its share all the same.
func TestTheOtherNewcomerGetsItsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watching(t, 4, 2)
		next, err := w.top.Begin(attach(5, 6), nil, 1)
		if err != nil {
			t.Fatal(err)
		}
		next.Job.Auto = true
		w.top = next
		w.proceeds(nil, nil)
		five, six := w.seat(5), w.seat(6)
		one := slices.IndexFunc(w.top.Sets, func(s topology.Set) bool {
			return slices.Contains(s.Joining, six) && !slices.Contains(s.Joining, five)
		})
		w.proceeds([]unkai.Bucket{unkai.Bucket(one)}, nil)
		w.dies(5)
		if w.abandons(time.Minute) == 0 {
			t.Fatal("it waits")
		}
		if _, _, ok := w.mending(t.Context(), &w.top); !ok {
			t.Errorf("nothing begins: %+v", w.top.Shares())
		}
	})
}

// Who was given up, came back and is silent again may be away for the same reason as
// another one.
func TestWhoCameBackIsNotGivenUpAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watching(t, 4, 1)
		w.begins(attach(5), 0)
		w.dies(5)
		if w.abandons(time.Minute) == 0 {
			t.Fatal("it waits")
		}
		w.returns(5)
		w.c.says[5].Limit = 1001 // it has no room, so nothing is done with it
		if c, _ := w.first(time.Hour); c.Kind != "" {
			t.Fatalf("%+v", c)
		}
		w.dies(4)
		w.dies(5)
		w.refuses("node 0000000000000005 is silent too")
	})
}

func (w *watcher) seat(id unkai.NodeID) unkai.Seat {
	m, _ := w.top.Node(id)
	return m.Seat
}

func (w *watcher) proceeds(arrived, heard []unkai.Bucket) {
	w.t.Helper()
	w.top = w.top.Proceed(arrived, heard, 100, nil)
	if err := w.top.Seal(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *watcher) leaving() (out []unkai.Bucket) {
	for b := range w.top.Sets {
		if len(w.top.Sets[b].Leaving) > 0 {
			out = append(out, unkai.Bucket(b))
		}
	}
	return out
}

func (w *watcher) onTheirWay() (out []unkai.Bucket) {
	for b := range w.top.Sets {
		if len(w.top.Sets[b].Joining) > 0 {
			out = append(out, unkai.Bucket(b))
		}
	}
	return out
}
