package manager_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"unkai"
	"unkai/internal/core/topology"
)

// A change that another manager has found, and proposed again, is still that of whoever
// began it: it is not told that somebody else was faster.
func TestAChangeThatAnotherProposesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, top := passages(t, 4)
		ms := top.Managers
		x := unkai.NodeID(1)
		for slices.Contains(ms, x) {
			x++
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
