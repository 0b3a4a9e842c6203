package manager

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"unkai"
	"unkai/internal/core/topology"
)

// mark says which topology somebody knows.
type mark struct {
	Epoch unkai.Epoch `json:"epoch"`
	Sum   uint64      `json:"sum"`
}

func markOf(t *topology.Topology) mark { return mark{t.Epoch, t.Sum()} }

// news are decided topologies for who knows an earlier one: what has changed since, an
// epoch after the other, or the whole of the newest.
type news struct {
	Steps [][]byte `json:"steps,omitempty"`
	Whole []byte   `json:"whole,omitempty"`
}

// maxSteps is how many of the last changes are kept for those who have missed some, if
// together they are shorter than the whole.
const maxSteps = 32

// step is what made a topology of the one before.
type step struct {
	from mark
	made []byte
}

// errGap: some of the changes between what it knows and what it was told of are missing.
var errGap = errors.New("it knows another topology than the one of which it was told what has changed")

// newsFor is what somebody has to be told who knows a topology; nil: nothing. The lock is
// held.
func (m *Manager) newsFor(known mark) (*news, error) {
	if err := m.settled(); err != nil {
		return nil, err
	}
	t := m.current.Load()
	if known.Epoch >= t.Epoch {
		return nil, nil
	}
	out := &news{}
	for _, s := range m.steps {
		if len(out.Steps) > 0 || s.from == known {
			out.Steps = append(out.Steps, s.made)
		}
	}
	if len(out.Steps) == 0 {
		return &news{Whole: m.text}, nil
	}
	return out, nil
}

// learn takes notice of decided topologies.
func (m *Manager) learn(n *news) error {
	if n == nil {
		return nil
	}
	m.learning.Lock()
	defer m.learning.Unlock()
	if len(n.Whole) > 0 {
		t, err := topology.Decode(n.Whole)
		if err != nil {
			return fmt.Errorf("learn a topology: %w", err)
		}
		return m.keep(t, nil, false)
	}
	t, steps := m.current.Load(), []step(nil)
	for _, made := range n.Steps {
		epoch, sum, err := topology.Base(made)
		if err != nil {
			return fmt.Errorf("learn a topology: %w", err)
		}
		if epoch < t.Epoch {
			continue // it is known
		}
		if (mark{epoch, sum}) != markOf(t) {
			return errGap
		}
		if t, err = follow(t, made); err != nil {
			return fmt.Errorf("learn a topology: %w", err)
		}
		steps = append(steps, step{mark{epoch, sum}, made})
	}
	if len(steps) == 0 {
		return nil
	}
	return m.keep(t, steps, false)
}

// follow is the topology after another one.
func follow(base *topology.Topology, value []byte) (*topology.Topology, error) {
	t, err := base.Follow(value)
	if err != nil {
		return nil, err
	}
	if t.Epoch != base.Epoch+1 {
		return nil, fmt.Errorf("epoch %d does not come after %d", t.Epoch, base.Epoch)
	}
	return t, nil
}

// decision is a value that is proposed, or was chosen, and what it makes of the topology
// before it.
type decision struct {
	value []byte
	next  *topology.Topology
	steps []step
}

// propose is a decision from whose value any manager that knows base makes next: what has
// changed, or else the whole. It has been tried.
func propose(base, next *topology.Topology) (*decision, error) {
	if value := next.Delta(base); value != nil {
		if d, err := chosen(base, value); err == nil {
			return d, nil
		}
	}
	return chosen(base, next.Encode())
}

// chosen is the decision that a value is about.
func chosen(base *topology.Topology, value []byte) (d *decision, err error) {
	d = &decision{value: value}
	if _, _, err := topology.Base(value); err != nil {
		d.next, err = topology.Decode(value)
		return d, err
	}
	d.next, err = follow(base, value)
	d.steps = []step{{markOf(base), value}}
	return d, err
}

// remember adds to the changes that are kept, up to the topology t. The lock is held.
func (m *Manager) remember(old *topology.Topology, steps []step) {
	for len(steps) > 0 && old != nil && steps[0].from != markOf(old) {
		steps = steps[1:] // another was faster
	}
	if len(steps) == 0 {
		m.steps = nil // nobody knows how it came from the last one
		return
	}
	m.steps = append(m.steps, steps...)
	first, long := len(m.steps), 0
	for first > 0 && len(m.steps)-first < maxSteps && long+len(m.steps[first-1].made) <= len(m.text) {
		first--
		long += len(m.steps[first].made)
	}
	m.steps = slices.Clone(m.steps[first:])
}

// Catch fetches the topology that another node knows.
func (m *Manager) Catch(ctx context.Context, from unkai.NodeID) error {
	known := markOf(m.current.Load())
	for {
		a, err := m.ask(ctx, from, question{Do: fetch, Known: known})
		if err != nil {
			return fmt.Errorf("fetch the topology: %w", err)
		}
		err = m.learn(a.News)
		if !errors.Is(err, errGap) || known == (mark{}) {
			return err
		}
		known = mark{} // of which nobody knows: the whole
	}
}
