package gateway_test

import (
	"strings"
	"testing"

	"unkai"
	"unkai/internal/core/topology"
	"unkai/internal/node/gateway"
)

// slow is a coordinator that answers when it is told to.
type slow struct{ begun, release chan struct{} }

func (s slow) Do(b *unkai.Batch) {
	s.begun <- struct{}{}
	<-s.release
	for len(b.Results) < len(b.Ops) {
		b.Results = append(b.Results, unkai.Result{Status: unkai.OK})
	}
}

func batch(n int) *unkai.Batch {
	b := new(unkai.Batch)
	for range n {
		b.Add().Key = []byte("k")
	}
	return b
}

func refused(t *testing.T, b *unkai.Batch, why string) {
	t.Helper()
	if len(b.Results) != len(b.Ops) {
		t.Fatalf("%d of %d answered", len(b.Results), len(b.Ops))
	}
	for _, r := range b.Results {
		if r.Status != unkai.Failed || !strings.Contains(r.Err.Error(), why) {
			t.Errorf("status %d, %v; want one that says %q", r.Status, r.Err, why)
		}
	}
}

func TestOverloadIsRefusedEarly(t *testing.T) {
	top := topology.New(1, 16, 3, 2, 2, topology.Node{ID: 1, Weight: 1})
	if err := top.Seal(); err != nil {
		t.Fatal(err)
	}
	s := slow{make(chan struct{}), make(chan struct{})}
	g := gateway.New(gateway.Config{Local: s, Self: 1, Topology: func() *topology.Topology { return &top }, MaxRunning: 10})
	first, done := batch(8), make(chan struct{})
	go func() { g.Do(first); close(done) }()
	<-s.begun
	b := batch(3)
	g.Do(b)
	refused(t, b, "overloaded")
	if st := g.Stats(); st.Refused != 3 || st.Running != 8 {
		t.Errorf("%+v", st)
	}
	close(s.release)
	<-done
	// One batch alone runs, however long it is.
	long := batch(11)
	go func() { <-s.begun }()
	g.Do(long)
	if long.Results[10].Status != unkai.OK {
		t.Errorf("%+v", long.Results[10])
	}
}

func TestAStoppedNodeRefuses(t *testing.T) {
	top := topology.New(1, 16, 3, 2, 2, topology.Node{ID: 1, Weight: 1})
	g := gateway.New(gateway.Config{Self: 1, Topology: func() *topology.Topology { return &top }, MaxRunning: 10})
	g.Stop()
	b := batch(2)
	g.Do(b)
	refused(t, b, "stopping")
}
