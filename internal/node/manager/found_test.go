package manager_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"unkai"
	"unkai/internal/core/topology"
	"unkai/internal/node/manager"
)

// A change that another manager has found, and proposed again, is still that of whoever
// began it: it is not told that somebody else was faster.
func TestAChangeThatAnotherProposesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := topology.New(1, 16, 3, 2, 2, topology.Node{ID: 1, Weight: 1})
		var err error
		for id := unkai.NodeID(2); id <= 4; id++ {
			if top, err = top.Join(topology.Node{ID: id, Weight: 1}); err != nil {
				t.Fatal(err)
			}
		}
		if top, err = top.Attach(2, 3, 4); err != nil {
			t.Fatal(err)
		}
		ms := top.Managers
		x := unkai.NodeID(1)
		for slices.Contains(ms, x) {
			x++
		}
		net := &passage{all: map[unkai.NodeID]*manager.Manager{}}
		for id := unkai.NodeID(1); id <= 4; id++ {
			m, err := manager.Open(manager.Config{
				Self: id, Topology: &memory{}, Decree: &memory{}, Network: passageWire{net, id}, Now: now,
				Log: slog.New(slog.DiscardHandler), Changed: func() {}, Timeout: time.Second,
			}, func() (topology.Topology, error) { return top, nil })
			if err != nil {
				t.Fatal(err)
			}
			net.all[id] = m
			defer func() {
				if err := m.Close(); err != nil {
					t.Error(err)
				}
			}()
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		// Only the first manager accepts, and its answer is lost.
		net.let(func(_, to unkai.NodeID, do string) (bool, bool) {
			return do == "prepare" || to == ms[0], do == "prepare"
		})
		changed := make(chan error, 1)
		go func() {
			_, err := net.all[x].Change(ctx, func(b *topology.Topology) (topology.Topology, error) {
				if _, ok := b.Node(50); ok {
					return topology.Topology{}, errors.New("somebody else was faster")
				}
				return b.Join(topology.Node{ID: 50, Weight: 1})
			})
			changed <- err
		}()
		time.Sleep(100 * time.Millisecond)
		if !net.all[ms[0]].Pending() {
			t.Fatal("the first manager has not accepted")
		}
		// The second finds it and proposes it again, but only it accepts that.
		net.let(func(from, to unkai.NodeID, do string) (bool, bool) {
			ok := from == ms[1] && to == ms[0] && do == "prepare"
			return ok, ok
		})
		short, end := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer end()
		_ = net.all[ms[1]].Finish(short) // which cannot be brought to its end
		if !net.all[ms[1]].Pending() {
			t.Fatal("the second manager has not accepted")
		}
		net.let(func(from, to unkai.NodeID, do string) (bool, bool) {
			ok := from == x && to != ms[0] && do != "tell"
			return ok, ok
		})
		if err := <-changed; err != nil {
			t.Errorf("the change was decided, and is said to have failed: %v", err)
		}
		if _, ok := net.all[x].Topology().Node(50); !ok {
			t.Error("the change was not decided")
		}
		time.Sleep(5 * time.Second)
	})
}
