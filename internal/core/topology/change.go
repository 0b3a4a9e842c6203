package topology

import (
	"errors"
	"fmt"
	"slices"

	"unkai"
)

// ErrMoving says that buckets are on their way already; one change at a time.
var ErrMoving = errors.New("buckets are on their way already; wait until they have arrived")

// ErrRemoved says that a node has been removed from the cluster. What it holds is
// old, and its id is never used again.
var ErrRemoved = errors.New("it was removed from the cluster, and others hold what it held; it can come back as a new node, with an empty data directory and --join")

// maxRemoved is how many removed nodes are remembered.
const maxRemoved = 64

// next is a copy with the next epoch, of which everything may be changed.
func (t *Topology) next() Topology {
	next := *t
	next.Epoch++
	next.Nodes = slices.Clone(t.Nodes)
	next.Sets = slices.Clone(t.Sets)
	next.Managers = slices.Clone(t.Managers)
	next.Removed = slices.Clone(t.Removed)
	next.History = slices.Clone(t.History)
	if t.Job != nil {
		job := *t.Job
		next.Job = &job
	}
	if t.seal != nil {
		next.was = t.seal
	}
	next.routes, next.seal, next.held, next.given = nil, nil, 0, 0
	return next
}

// Flush is the topology that begins with nothing.
func (t *Topology) Flush() Topology {
	next := t.next()
	next.Flushed, next.FlushAt = next.Epoch, 0
	return next
}

// FlushLater is the topology in which a flush is due at a later moment.
func (t *Topology) FlushLater(at int64) Topology {
	next := t.next()
	next.FlushAt = at
	return next
}

// Configure is the topology with another N:R:W. Only a cluster of one node can
// change them: in a larger one quorums of before and after might not meet.
func (t *Topology) Configure(n, r, w int) (Topology, error) {
	if len(t.Nodes) > 1 {
		return Topology{}, fmt.Errorf("topology: N:R:W are fixed once a second node has joined")
	}
	next := t.next()
	next.N, next.R, next.W = n, r, w
	return next, nil
}

// Join is the topology in which a node is recognised. A node that is a member
// already stays what it is, with the weight and zone it gives now.
func (t *Topology) Join(n Node) (Topology, error) {
	if slices.Contains(t.Removed, n.ID) {
		return Topology{}, fmt.Errorf("topology: node %v: %w", n.ID, ErrRemoved)
	}
	next := t.next()
	if i := slices.IndexFunc(next.Nodes, func(m Node) bool { return m.ID == n.ID }); i >= 0 {
		next.Nodes[i].Weight, next.Nodes[i].Zone = n.Weight, n.Zone
		return next, nil
	}
	if err := next.seat(&n); err != nil {
		return Topology{}, err
	}
	n.Incarnation, n.State = 1, Recognised
	next.Nodes = append(next.Nodes, n)
	slices.SortFunc(next.Nodes, func(a, b Node) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return next, nil
}

// seat gives n a seat that nobody ever had.
func (t *Topology) seat(n *Node) error {
	if t.Seats == ^unkai.Seat(0) {
		return fmt.Errorf("topology: all %d seats were given out", t.Seats)
	}
	t.Seats++
	n.Seat = t.Seats
	return nil
}

// Reborn is the topology in which a node has lost what it held: a new
// incarnation under a new seat, which holds nothing yet. Where the old one was
// a replica it counts as one that does not answer, until the buckets have been
// brought to the new one (see Attach).
func (t *Topology) Reborn(id unkai.NodeID) (Topology, error) {
	next := t.next()
	for i := range next.Nodes {
		n := &next.Nodes[i]
		if n.ID != id {
			continue
		}
		if j := next.Job; j != nil && j.Outcome == Running && j.Kind == KindReplace && j.Nodes[1] == id {
			j.Passed, j.Held = append(slices.Clone(j.Passed), n.Seat), true
		}
		if err := next.seat(n); err != nil {
			return Topology{}, err
		}
		n.Incarnation++
		if n.State != Leaving {
			n.Manual = n.Manual && n.State == Recognised // who had a share gets one again
			n.State = Recognised
		}
		next.bereave()
		return next, nil
	}
	return Topology{}, fmt.Errorf("topology: node %v: %w", id, ErrRemoved) // it has been one
}

// bereave lets no bucket wait for a seat that has passed. A joining set with one in
// it would never have its quorum for certain: it is dropped as by Cancel, and the
// bucket sets out again with the job, or the next change. A set of which all have passed has
// lost what it held, and one with fewer left than a quorum cannot tell it any more:
// then the set that is leaving, which still has it all, is the one again. Where all
// had to accept, those who are left go on.
func (t *Topology) bereave() {
	drop := func() {
		if t.Job != nil && t.Job.Outcome == Running {
			t.Job.Held = true // it sends them again
		}
	}
	for b := range t.Sets {
		s := &t.Sets[b]
		if slices.ContainsFunc(s.Due, t.passed) {
			drop()
			s.Due = nil
		}
		if slices.ContainsFunc(s.Joining, t.passed) {
			drop()
			*s = Set{Epoch: t.Epoch, Replicas: s.Replicas, Strays: t.strays(s, s.Joining)}
		}
		none := !t.anySeated(s.Replicas)
		switch {
		case none && len(s.Joining)+len(s.Due) > 0:
			*s = Set{Epoch: t.Epoch, Replicas: slices.Concat(s.Joining, s.Due), Strays: s.Strays}
		case none && t.anySeated(s.Leaving), len(s.Leaving) > 0 && !t.able(s.Replicas) && t.able(s.Leaving):
			drop()
			back := Set{Epoch: t.Epoch, Replicas: s.Leaving, Strays: s.Strays}
			back.Strays = t.strays(&back, s.Replicas)
			*s = back
		case s.atRest() && t.lost(s.Replicas, t.passed) && t.whole(s.Replicas, t.passed):
			*s = Set{Epoch: t.Epoch, Replicas: slices.DeleteFunc(slices.Clone(s.Replicas), t.passed), Due: s.Due, Strays: s.Strays}
		}
	}
}

// unknown is the error about a node that is not there.
func (t *Topology) unknown(id unkai.NodeID) error {
	if slices.Contains(t.Removed, id) {
		return fmt.Errorf("topology: node %v: %w", id, ErrRemoved)
	}
	return fmt.Errorf("topology: node %v is not a member", id)
}
