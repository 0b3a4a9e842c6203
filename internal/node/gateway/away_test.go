package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"unkai"
	"unkai/internal/core/topology"
	"unkai/internal/node/coordinator"
	"unkai/internal/node/gateway"
	"unkai/internal/peer"
)

// lonely is a coordinator that reaches no other replica.
type lonely struct{}

func (lonely) Do(b *unkai.Batch) {
	for len(b.Results) < len(b.Ops) {
		b.Results = append(b.Results, unkai.Result{Status: unkai.Failed, Err: fmt.Errorf("2 of 3: %w", coordinator.ErrAway)})
	}
}

// mesh is a network in which some nodes are alive and all refuse.
type mesh struct {
	alive, asked []unkai.NodeID
}

func (m *mesh) Handle(peer.Kind, peer.Handler) {}
func (m *mesh) Call(to unkai.NodeID, c *peer.Call) {
	m.asked = append(m.asked, to)
	c.Err = peer.ErrDown
	c.Done.CallDone(c)
}
func (m *mesh) Alive(id unkai.NodeID) bool                                     { return slices.Contains(m.alive, id) }
func (m *mesh) Run(unkai.NodeID) uint64                                        { return 0 }
func (m *mesh) Know(unkai.NodeID, string)                                      {}
func (m *mesh) Introduce(context.Context, string) (id unkai.NodeID, err error) { return 0, nil }

// What a coordinator could not do because it reached too few replicas is brought
// to another one, if one is alive.
func TestAnotherReplicaMayReachMore(t *testing.T) {
	top := topology.New(1, 16, 3, 2, 2, topology.Node{ID: 1, Weight: 1})
	for id := range unkai.NodeID(2) {
		var err error
		if top, err = top.Join(topology.Node{ID: id + 2, Weight: 1}); err != nil {
			t.Fatal(err)
		}
	}
	top, err := top.Attach(2, 3)
	if err != nil {
		t.Fatal(err)
	}
	var all []unkai.Bucket
	for b := range top.Buckets {
		all = append(all, unkai.Bucket(b))
	}
	top = top.Proceed(all, nil, 1<<16, nil)
	top = top.Proceed(nil, all, 1<<16, nil)
	if err := top.Seal(); err != nil {
		t.Fatal(err)
	}
	// The node is the first replica of the key.
	space := top.Space()
	route := top.Route(space.Bucket(space.Hash([]byte("k"))))
	self, others := route.Members[0], route.Members[1:]
	for name, want := range map[string][]unkai.NodeID{"nobody": nil, "last": others[1:], "all": others} {
		for _, kind := range []unkai.Kind{unkai.Set, unkai.Get} {
			m := &mesh{alive: want}
			g := gateway.New(gateway.Config{
				Local: lonely{}, Self: self, Network: m, Timeout: time.Second, MaxRunning: 10,
				Topology: func() *topology.Topology { return &top },
			})
			b := batch(1)
			b.Ops[0].Kind = kind
			g.Do(b)
			if !slices.Equal(m.asked[:min(len(m.asked), len(want))], want) || len(want) == 0 && len(m.asked) > 0 {
				t.Errorf("%s alive: asked %v", name, m.asked)
			}
			if res := b.Results[0]; res.Status != unkai.Failed || len(want) == 0 && !errors.Is(res.Err, coordinator.ErrAway) {
				t.Errorf("%s alive: status %d, %v", name, res.Status, res.Err)
			}
		}
	}
}
