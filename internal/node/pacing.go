package node

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"unkai"
	"unkai/internal/admin"
	"unkai/internal/core/command"
	"unkai/internal/core/topology"
	"unkai/internal/node/jobs"
	"unkai/internal/node/pace"
)

// timed is this node's coordinator, where it is seen what clients wait: those of
// this node, and those of others whose keys are coordinated here.
type timed struct {
	n         *Node
	latencies latencies
}

// latencies is where it is noted how long a batch took.
type latencies interface {
	Begin(mayWrite bool) pace.Batch
	End(pace.Batch)
}

// Do implements gateway.Coordinator.
func (t *timed) Do(b *unkai.Batch) {
	if t.n.network.refused(b) {
		return
	}
	if len(t.n.manager.Topology().Nodes) == 1 { // there is nobody to copy anything to
		t.n.coordinator.Do(b)
		return
	}
	wrote := false
	for i := len(b.Results); i < len(b.Ops) && !wrote; i++ {
		wrote = !command.ReadsOnly(&b.Ops[i])
	}
	began := t.latencies.Begin(wrote)
	t.n.coordinator.Do(b)
	t.latencies.End(began)
}

// newPacer is what keeps copies of data from slowing clients down.
func (n *Node) newPacer() *pace.Pacer {
	var last atomic.Pointer[bound]
	now := func() *bound {
		top := n.manager.Topology()
		b := last.Load()
		if b == nil || b.top != top {
			b = boundFrom(n.id, top)
			last.Store(b)
		}
		return b
	}
	return &pace.Pacer{
		Now:    n.cfg.Now,
		Moving: func() bool { return now().moving },
		Receivers: func(ctx context.Context) (strain float64) {
			for _, a := range n.askPace(ctx, now().to) {
				if a != nil {
					strain = max(strain, a.Told)
				}
			}
			return strain
		},
	}
}

// bound is what is on its way in a topology.
type bound struct {
	top    *topology.Topology
	moving bool
	to     []unkai.NodeID // from this node
}

func boundFrom(self unkai.NodeID, top *topology.Topology) *bound {
	b := &bound{top: top, moving: top.Moving() > 0}
	for i := range top.Buckets {
		r := top.Route(unkai.Bucket(i))
		present := r.Members[:r.Write.Present.Members.Count()]
		if !r.Joining || !slices.Contains(present, self) {
			continue
		}
		for _, id := range r.Members[len(present):] {
			if id != 0 && !slices.Contains(b.to, id) {
				b.to = append(b.to, id)
			}
		}
	}
	return b
}

// paced asks how fast a node may copy, and why. The answer says so.
type paced struct {
	Rate   int64   `json:"rate"`
	Strain float64 `json:"strain"`
	Slow   bool    `json:"slow"`
	Told   float64 `json:"told"` // what its clients wait, for who brings it something
}

// paced is how fast this node may copy.
func (n *Node) paced() *paced {
	n.mu.Lock()
	p := n.pacer
	n.mu.Unlock()
	if p == nil {
		return &paced{}
	}
	s := p.State()
	return &paced{Rate: s.Rate, Strain: s.Strain, Slow: s.Slow, Told: p.Told()}
}

// paceLimit is how long is waited for what others say of their clients.
const paceLimit = 500 * time.Millisecond

// askPace asks some nodes how fast they may copy; nil for one that does not answer.
func (n *Node) askPace(ctx context.Context, of []unkai.NodeID) []*paced {
	ctx, cancel := context.WithTimeout(ctx, paceLimit)
	defer cancel()
	out := make([]*paced, len(of))
	var wg sync.WaitGroup
	for i, id := range of {
		switch {
		case id == n.id:
			out[i] = n.paced()
		case n.here(id):
			wg.Go(func() {
				if a, err := n.askControl(ctx, id, control{Pace: &paced{}}); err == nil {
					out[i] = a.Pace
				}
			})
		}
	}
	wg.Wait()
	return out
}

// slowed are the nodes that may bring less than they could.
func (n *Node) slowed(ctx context.Context, top *topology.Topology) (out []admin.Slowed) {
	all := make([]unkai.NodeID, len(top.Nodes))
	for i, m := range top.Nodes {
		all[i] = m.ID
	}
	full := len(jobs.Crammed(top, n.isFull)) > 0 // which refuses what it is brought, and is not slow
	for i, a := range n.askPace(ctx, all) {
		if a != nil && a.Rate > 0 {
			out = append(out, admin.Slowed{Node: all[i].String(), Rate: a.Rate, Strain: a.Strain, Disk: a.Slow && !full})
		}
	}
	return out
}
