package gateway_test

import (
	"fmt"
	"testing"
	"time"

	"unkai"
	"unkai/internal/core/topology"
	"unkai/internal/node/coordinator"
	"unkai/internal/node/gateway"
)

// healed reaches too few replicas for the first operation, and enough for the second.
type healed struct{}

func (healed) Do(b *unkai.Batch) {
	for len(b.Results) < len(b.Ops) {
		r := unkai.Result{Status: unkai.OK}
		if len(b.Results) == 0 {
			r = unkai.Result{Status: unkai.Failed, Err: fmt.Errorf("2 of 3: %w", coordinator.ErrAway)}
		}
		b.Results = append(b.Results, r)
	}
}

// An operation that has to be brought elsewhere is not brought there behind a later
// change of its key: pipelined changes keep their order, and it says that it failed.
func TestNothingIsOvertaken(t *testing.T) {
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
	space := top.Space()
	route := top.Route(space.Bucket(space.Hash([]byte("k"))))
	m := &mesh{alive: route.Members}
	g := gateway.New(gateway.Config{
		Local: healed{}, Self: route.Members[0], Network: m, Timeout: time.Second, MaxRunning: 10,
		Topology: func() *topology.Topology { return &top },
	})
	b := batch(1)
	second := b.Add()
	*second = b.Ops[0]
	b.Ops[0].Kind, b.Ops[1].Kind = unkai.Set, unkai.Set
	g.Do(b)
	if len(m.asked) > 0 || b.Results[1].Status != unkai.OK || b.Results[0].Status != unkai.Failed {
		t.Errorf("the first set was brought to %v after the second had been stored: %+v", m.asked, b.Results)
	}
}
