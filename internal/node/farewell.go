package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"unkai"
	"unkai/internal/core/topology"
)

// ErrDrained says that a node has nothing left to do: others hold what it held, and it
// was removed as it was asked to be.
var ErrDrained = errors.New("others hold all that it held")

// drain is whether this node was seen to hold nothing any more, and to be leaving, in the
// newest topology in which it was a member. The zero value has seen none.
type drain struct{ seen atomic.Uint64 } // twice the epoch, and one more if it was

// note looks at a topology in which the node is a member. Who tells another node of an
// epoch has noted it before: the next one may be that in which the node was removed.
func (d *drain) note(top *topology.Topology, id unkai.NodeID) {
	next := uint64(top.Epoch) << 1
	if slices.Contains(top.Departing(), id) {
		next++
	}
	for old := d.seen.Load(); next > old && !d.seen.CompareAndSwap(old, next); {
		old = d.seen.Load()
	}
}

func (d *drain) done() bool { return d.seen.Load()&1 == 1 }

// belongs ends this node when it is no member any more.
func (n *Node) belongs(top *topology.Topology) {
	if _, ok := top.Node(n.id); ok {
		n.drained.note(top, n.id)
		return
	}
	if n.drained.done() {
		n.fail(fmt.Errorf("node %v: %w: %w", n.id, ErrDrained, topology.ErrRemoved))
		return
	}
	n.fail(fmt.Errorf("node %v: %w", n.id, topology.ErrRemoved))
}

// farewell reports whether nodes that are to be removed, since they hold nothing any
// more, should stay for a while: one that is alive has clients, or has not heard yet
// that it holds nothing. It is a member until then, so it goes on following the topology
// and passing on what it is asked.
func (s *steward) farewell(ctx context.Context, top *topology.Topology) bool {
	leavers := top.Departing()
	if !slices.Equal(leavers, s.emptied) {
		s.emptied, s.stayed = leavers, time.Now()
	}
	if time.Since(s.stayed) >= s.n.cfg.Farewell {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	stays := make([]bool, len(leavers))
	var wg sync.WaitGroup
	for i, id := range leavers {
		if s.n.here(id) {
			wg.Go(func() { stays[i] = s.n.stays(ctx, id, top.Epoch) })
		}
	}
	wg.Wait()
	return slices.Contains(stays, true)
}

// stays reports whether a drained node has clients, or has not come to an epoch.
func (n *Node) stays(ctx context.Context, id unkai.NodeID, e unkai.Epoch) bool {
	l := n.load()
	if id != n.id {
		a, err := n.askControl(ctx, id, control{Load: &load{}})
		if err != nil || a.Load == nil {
			return true // it will be asked again, unless it is dead
		}
		l = a.Load
	}
	return l.Conns > 0 || l.Epoch < uint32(e)
}

// connected is how many clients this node has.
func (n *Node) connected() int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.state != "" || n.memcache == nil {
		return 0
	}
	return n.memcache.Connections()
}

// guestsOf is how many clients a node has, as far as it has told.
func (n *Node) guestsOf(id unkai.NodeID) int64 {
	if told, ok := n.guests.Load(id); ok {
		return told.(int64)
	}
	return 0
}

func (n *Node) noteGuests(id unkai.NodeID, clients int64) {
	if clients > 0 {
		n.guests.Store(id, clients)
	} else {
		n.guests.Delete(id)
	}
}

// farewells tell for whose sake drained nodes are not removed yet.
func (n *Node) farewells(top *topology.Topology) (out []string) {
	if j := top.Job; j.Outcome != topology.Running || j.Held || top.Moving() > 0 {
		return nil
	}
	for _, id := range top.Departing() {
		if c := n.guestsOf(id); c > 0 && n.here(id) {
			out = append(out, fmt.Sprintf("%s to leave node %v, which holds nothing any more: %.0f seconds at most", clients(c), id, n.cfg.Farewell.Seconds()))
		}
	}
	return out
}

// warnOfClients tells of the clients of nodes that a plan would have removed.
func (n *Node) warnOfClients(top *topology.Topology, p *topology.Plan, asked []*load) (out []string) {
	for i, l := range asked {
		id := top.Nodes[i].ID
		leaves := p.Kind == topology.KindDetach && slices.Contains(p.Change.Nodes, id) || p.Kind == topology.KindReplace && p.Change.Nodes[0] == id
		if l == nil || l.Conns == 0 || !leaves {
			continue
		}
		are := "are"
		if l.Conns == 1 {
			are = "is"
		}
		out = append(out, fmt.Sprintf("%s %s connected to node %v: point them elsewhere; when it holds nothing any more it goes on answering them until they have left, for %.0f seconds at most", clients(l.Conns), are, id, n.cfg.Farewell.Seconds()))
	}
	return out
}

func clients(n int64) string {
	if n == 1 {
		return "1 client"
	}
	return fmt.Sprintf("%d clients", n)
}
