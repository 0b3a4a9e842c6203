package manager

import (
	"context"
	"encoding/json"
	"slices"
	"sync"

	"unkai"
	"unkai/internal/core/topology"
)

// announceAtOnce bounds how many nodes are told of a new topology at once.
const announceAtOnce = 64

// announce tells all nodes of what was decided after base. Who does not hear it now fetches
// it later.
func (m *Manager) announce(base *topology.Topology, d *decision) {
	var others []unkai.NodeID
	for _, n := range slices.Concat(d.next.Nodes, base.Nodes) {
		if n.ID != m.cfg.Self && !slices.Contains(others, n.ID) {
			others = append(others, n.ID)
		}
	}
	if len(others) == 0 {
		return
	}
	n := &news{}
	for _, s := range d.steps {
		n.Steps = append(n.Steps, s.made)
	}
	if len(n.Steps) == 0 {
		n.Whole = d.value
	}
	text, err := json.Marshal(question{Do: tell, News: n})
	if err != nil {
		m.cfg.Log.Error("a new topology cannot be told", "epoch", d.next.Epoch, "err", err)
		return
	}
	m.running.Go(func() {
		var told sync.WaitGroup
		defer told.Wait()
		slots := make(chan struct{}, announceAtOnce)
		for _, id := range others {
			slots <- struct{}{}
			told.Go(func() {
				defer func() { <-slots }()
				if err := m.inform(id, text, d); err != nil {
					m.cfg.Log.Debug("a node was not told of a new topology", "node", id.String(), "epoch", d.next.Epoch, "err", err)
				}
			})
		}
	})
}

// inform tells one node what has changed, and all that it lacks if that is not enough.
func (m *Manager) inform(id unkai.NodeID, text []byte, d *decision) error {
	ctx, cancel := context.WithTimeout(m.ctx, m.cfg.Timeout)
	defer cancel()
	a, err := m.put(ctx, id, text)
	if err != nil || a.Lacks == nil {
		return err
	}
	m.mu.Lock()
	n, err := m.newsFor(*a.Lacks)
	m.mu.Unlock()
	if err != nil {
		return err
	}
	if m.current.Load().Epoch < d.next.Epoch { // it is not kept here yet
		n = &news{Whole: d.next.Encode()}
	}
	again, err := json.Marshal(question{Do: tell, News: n})
	if err != nil {
		return err
	}
	_, err = m.put(ctx, id, again)
	return err
}
