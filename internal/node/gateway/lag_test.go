package gateway_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"unkai"
	"unkai/internal/core/topology"
	"unkai/internal/node/coordinator"
	"unkai/internal/node/gateway"
	"unkai/internal/peer"
)

// mover is a coordinator that holds the keys after so many times.
type mover struct{ asked, after int }

func (m *mover) Do(b *unkai.Batch) {
	for len(b.Results) < len(b.Ops) {
		r := unkai.Result{Status: unkai.OK}
		if m.asked++; m.asked <= m.after {
			r = unkai.Result{Status: unkai.Failed, Err: coordinator.ErrMoved}
		}
		b.Results = append(b.Results, r)
	}
}

// nobody is a network in which no other node can be reached.
type nobody struct{ peer.Network }

func (nobody) Alive(unkai.NodeID) bool { return false }

func (nobody) Call(_ unkai.NodeID, c *peer.Call) {
	c.Err = errors.New("there is no way to it")
	go c.Done.CallDone(c)
}

// Nodes hear of a new topology one after the other. An operation that nobody holds
// in the meantime waits for that, within its time.
func TestOperationsWaitForTheTopology(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := topology.New(1, 16, 3, 2, 2, topology.Node{ID: 1, Weight: 1})
		top, err := top.Join(topology.Node{ID: 2, Weight: 1})
		if err == nil {
			err = top.Seal()
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct {
			after int
			want  unkai.Status
		}{{0, unkai.OK}, {3, unkai.OK}, {10, unkai.OK}, {1 << 30, unkai.Failed}} {
			m := &mover{after: test.after}
			g := gateway.New(gateway.Config{Local: m, Self: 1, Network: nobody{}, Timeout: time.Second, Topology: func() *topology.Topology { return &top }, MaxRunning: 10})
			b := batch(1)
			began := time.Now()
			g.Do(b)
			if b.Results[0].Status != test.want {
				t.Errorf("held after %d times: %+v", test.after, b.Results[0])
			}
			if took := time.Since(began); took > 1100*time.Millisecond || test.after == 0 && took > 0 {
				t.Errorf("held after %d times: it took %v", test.after, took)
			}
		}
	})
}
