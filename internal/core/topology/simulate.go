package topology

import (
	"errors"
	"fmt"

	"unkai"
)

// Layout is a cluster that is only thought of.
type Layout struct {
	Nodes   int
	Zones   int // over which the nodes are spread by turns; 0 or 1: none
	Buckets int
	N       int
	Weights []int // by turns; none: all weigh 1
	// Add and Remove are how many nodes come, and then how many of the first ones
	// go.
	Add, Remove int
}

// Step is a change of such a cluster, with the plan for it. The first one, which
// places the buckets, moves nothing.
type Step struct {
	Name string
	Plan Plan
}

// Simulate places the buckets of a layout and carries out its changes.
func (l Layout) Simulate() ([]Step, error) {
	if l.Nodes < 1 || l.Add < 0 || l.Remove < 0 || l.Remove >= l.Nodes+l.Add || l.Zones < 0 {
		return nil, errors.New("topology: a cluster has one node at least, also when some have been removed")
	}
	if l.Nodes+l.Add > maxSimulated {
		return nil, fmt.Errorf("topology: %d nodes are more than %d", l.Nodes+l.Add, maxSimulated)
	}
	for _, w := range l.Weights {
		if w < 1 || w > MaxWeight {
			return nil, fmt.Errorf("topology: a weight is from 1 to %d, not %d", MaxWeight, w)
		}
	}
	sum := 0
	for i := range l.Nodes + l.Add {
		sum += l.node(i).Weight
	}
	if sum > maxSimulatedWeight {
		return nil, fmt.Errorf("topology: nodes that weigh %d together are more than %d", sum, maxSimulatedWeight)
	}
	t := New(1, l.Buckets, l.N, l.N/2+1, l.N/2+1, l.node(0))
	if err := t.Seal(); err != nil {
		return nil, err
	}
	others, err := t.join(l, 1, l.Nodes)
	if err != nil {
		return nil, err
	}
	if t, err = t.at(others); err != nil {
		return nil, err
	}
	steps := []Step{}
	do := func(name string, c Change) error {
		p, err := t.Plan(c, nil)
		if err != nil {
			return err
		}
		steps = append(steps, Step{name, p})
		t = p.next.arrived()
		if next, ok := t.Depart(); ok {
			t = next
		}
		return nil
	}
	if err := do(fmt.Sprintf("%d nodes", l.Nodes), Change{Kind: KindRebalance}); err != nil {
		return nil, err
	}
	if l.Add > 0 {
		added, err := t.join(l, l.Nodes, l.Nodes+l.Add)
		if err != nil {
			return nil, err
		}
		if err := do(fmt.Sprintf("add %d", l.Add), Change{Kind: KindAttach, Nodes: added}); err != nil {
			return nil, err
		}
	}
	if l.Remove > 0 {
		c := Change{Kind: KindDetach}
		for i := range l.Remove {
			c.Nodes = append(c.Nodes, l.node(i).ID)
		}
		if err := do(fmt.Sprintf("remove %d", l.Remove), c); err != nil {
			return nil, err
		}
	}
	return steps, nil
}

// maxSimulated is how many nodes somebody may think of.
const maxSimulated = 1000

// maxSimulatedWeight is how much they may weigh together: each unit takes memory.
const maxSimulatedWeight = 20_000

// node is the i-th node of a layout. Its id is far from its neighbours', as
// random ids are.
func (l Layout) node(i int) Node {
	n := Node{ID: unkai.NodeID(uint64(i+1)*0x9E3779B97F4A7C15 | 1), Weight: 1}
	if len(l.Weights) > 0 {
		n.Weight = l.Weights[i%len(l.Weights)]
	}
	if l.Zones > 1 {
		n.Zone = fmt.Sprintf("z%d", i%l.Zones+1)
	}
	return n
}

// join lets the nodes from one to another be recognised.
func (t *Topology) join(l Layout, from, to int) (ids []unkai.NodeID, err error) {
	for i := from; i < to; i++ {
		n := l.node(i)
		if *t, err = t.Join(n); err != nil {
			return nil, err
		}
		ids = append(ids, n.ID)
	}
	return ids, nil
}

// at is the topology in which the buckets are where a new cluster with these
// nodes too would have them.
func (t *Topology) at(ids []unkai.NodeID) (Topology, error) {
	next := t.next()
	for b := range next.Sets { // held by nobody: placed afresh
		next.Sets[b].Replicas = []unkai.Seat{next.Seats + 1}
	}
	next.Seats++
	return next.Attach(ids...)
}
