package node

import (
	"context"
	"io/fs"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"unkai"
	"unkai/internal/core/topology"
	"unkai/internal/node/manager"
)

// nowhere keeps nothing.
type nowhere struct{}

func (nowhere) Load() ([]byte, error) { return nil, fs.ErrNotExist }
func (nowhere) Save([]byte) error     { return nil }

// halfDead is a network on which node 2 answers nothing, and node 3 at once.
type halfDead struct {
	third *manager.Manager
	asked int
}

func (w *halfDead) Ask(ctx context.Context, to unkai.NodeID, q []byte) ([]byte, error) {
	w.asked++
	if to == 3 {
		return w.third.Serve(1, q), nil
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// Who is refused for being behind does not wait for a node that has died since.
func TestANewerTopologyIsFetchedFromWhoIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := &halfDead{}
		open := func(id unkai.NodeID, top topology.Topology) *manager.Manager {
			m, err := manager.Open(manager.Config{
				Self: id, Topology: nowhere{}, Decree: nowhere{}, Network: net, Now: func() int64 { return time.Now().UnixMilli() },
				Log: slog.New(slog.DiscardHandler), Changed: func() {}, Timeout: time.Second,
			}, func() (topology.Topology, error) { return top, nil })
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = m.Close() })
			return m
		}
		top := topology.New(1, 16, 3, 2, 2, topology.Node{ID: 1, Weight: 1})
		n := &Node{newer: make(chan unkai.NodeID, 1), manager: open(1, top), log: slog.New(slog.DiscardHandler)}
		net.third = open(3, top.Flush())
		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan struct{})
		go func() {
			n.catchUp(ctx)
			close(stopped)
		}()
		for range 3 {
			n.behind(2)
			synctest.Wait()
		}
		if net.asked != 1 {
			t.Errorf("a node that does not answer was asked %d times", net.asked)
		}
		n.behind(3) // just now another is asked
		synctest.Wait()
		if net.asked != 1 {
			t.Error("two were asked for the same thing")
		}
		time.Sleep(fetchAgain)
		n.behind(3)
		synctest.Wait()
		if e := n.manager.Topology().Epoch; e != 2 {
			t.Errorf("epoch %d", e)
		}
		cancel()
		<-stopped
	})
}
