// Package topology is the law of who holds what: the nodes of a cluster, the
// buckets they hold, the epochs in which that changes, and who decides.
package topology

import (
	"fmt"
	"slices"

	"unkai"
	"unkai/internal/core/ring"
)

// Topology is one version of the cluster's layout. It is never changed: a
// change makes a new one with the next epoch. Seal it before it is asked for
// routes.
type Topology struct {
	Epoch   unkai.Epoch `json:"epoch"`
	Cluster uint64      `json:"cluster"` // the cluster's id, and the seed of its hash space
	Buckets int         `json:"buckets"`
	N       int         `json:"n"` // as configured; a set with fewer members has majorities
	R       int         `json:"r"`
	W       int         `json:"w"`
	Nodes   []Node      `json:"nodes"` // by ascending id
	Sets    []Set       `json:"sets"`  // of each bucket
	// Managers decide the next topology, by majority; by ascending id.
	Managers []unkai.NodeID `json:"managers"`
	Seats    unkai.Seat     `json:"seats"` // the highest seat ever given out
	// Flushed is the epoch that the last flush_all began: what was accepted
	// under an earlier one does not exist any more.
	Flushed unkai.Epoch `json:"flushed"`
	// FlushAt is when a flush_all with a delay is due, in milliseconds since
	// 1970; 0: none is.
	FlushAt int64 `json:"flush_at,omitempty"`
	// Removed are the nodes that have left last. They may not come back under
	// their old ids.
	Removed []unkai.NodeID `json:"removed,omitempty"`
	// Job is what is being done now; nil: nothing. History are the last ones, the
	// latest at the end, and Jobs is how many there were.
	Job     *Job  `json:"job,omitempty"`
	History []Job `json:"history,omitempty"`
	Jobs    int   `json:"jobs,omitempty"`
	// Throttle is how many bytes in a second each node may bring on their way; 0:
	// as many as it can.
	Throttle int64 `json:"throttle,omitempty"`
	// AutoReplace is after how many milliseconds of silence a dead node's share is
	// brought to others by itself; 0: never.
	AutoReplace int64 `json:"auto_replace,omitempty"`

	routes []*Route
	seal   *seal // of this one
	was    *seal // of the one it was made of, until it has its own

	held  int // buckets that could not set out in this change, because of strays
	given int // buckets of which replicas were given up in this change

	full []unkai.NodeID // get nothing in the change that was made last; see Change.Full
}

// Node is a member in its present incarnation.
type Node struct {
	ID          unkai.NodeID      `json:"id"`
	Incarnation unkai.Incarnation `json:"incarnation"`
	Seat        unkai.Seat        `json:"seat"`
	State       State             `json:"state"`
	Weight      int               `json:"weight"`
	Zone        string            `json:"zone,omitempty"`
	// Manual says that the operator attaches it, and nobody else.
	Manual bool `json:"manual,omitempty"`
}

// MinAutoReplace is the shortest silence, in milliseconds, after which a node may be
// replaced by itself.
const MinAutoReplace = 1000

// MaxWeight is the most that a node can weigh.
const MaxWeight = 1000

// Set is who holds one bucket. While it is on its way from one set of replicas
// to another, what is written needs both, and what is read needs Replicas only:
// at first these are the old ones, and Joining the new. Once the new ones hold
// everything the two change places, and Leaving says so: until so many of the
// old ones know of it that they can no longer answer reads without the others.
type Set struct {
	// Epoch in which any of the others last changed.
	Epoch    unkai.Epoch  `json:"epoch"`
	Replicas []unkai.Seat `json:"replicas"`
	Joining  []unkai.Seat `json:"joining,omitempty"`
	Leaving  []unkai.Seat `json:"leaving,omitempty"`
	// Due is where the bucket is to go, by the job that runs, when its turn has come.
	// Until then it is at rest, and Due binds nobody.
	Due []unkai.Seat `json:"due,omitempty"`
	// Strays were in the set and are not any more, and have not yet said that
	// they have forgotten it. Until then they cannot join it: what they hold may
	// never have been chosen.
	Strays []unkai.Seat `json:"strays,omitempty"`
}

// atRest reports whether everything is asked of the replicas alone.
func (s *Set) atRest() bool { return len(s.Joining)+len(s.Leaving) == 0 }

// State is how far a node belongs to the cluster.
type State uint8

// The states.
const (
	Recognised State = iota // known, and holds nothing
	Attached                // holds its share of the buckets
	Leaving                 // gives its share away
)

var stateNames = [...]string{"recognised", "attached", "leaving"}

// String is the state's name.
func (s State) String() string { return stateNames[s] }

// MarshalText writes the state's name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *State) UnmarshalText(b []byte) error {
	i := slices.Index(stateNames[:], string(b))
	if i < 0 {
		return fmt.Errorf("topology: %q is no state of a node", b)
	}
	*s = State(i)
	return nil
}

// New is the first topology of a cluster of one node.
func New(cluster uint64, buckets, n, r, w int, first Node) Topology {
	first.Incarnation, first.Seat, first.State, first.Manual = 1, 1, Attached, false
	t := Topology{
		Epoch: 1, Cluster: cluster, Buckets: buckets, N: n, R: r, W: w,
		Nodes: []Node{first}, Managers: []unkai.NodeID{first.ID}, Seats: 1, Sets: make([]Set, buckets),
	}
	for b := range t.Sets {
		t.Sets[b] = Set{Epoch: 1, Replicas: []unkai.Seat{1}}
	}
	return t
}

func (t *Topology) validate() error {
	switch {
	case t.Epoch == 0:
		return fmt.Errorf("there is no epoch 0")
	case !ring.ValidBuckets(t.Buckets):
		return fmt.Errorf("%d buckets: want a power of two from %d to %d", t.Buckets, ring.MinBuckets, ring.MaxBuckets)
	case len(t.Nodes) == 0:
		return fmt.Errorf("no nodes")
	case len(t.Managers) == 0:
		return fmt.Errorf("no managers")
	case len(t.Sets) != t.Buckets:
		return fmt.Errorf("%d sets for %d buckets", len(t.Sets), t.Buckets)
	case t.Flushed > t.Epoch:
		return fmt.Errorf("flushed in epoch %d", t.Flushed)
	case len(t.Removed) > maxRemoved || len(t.History) > maxHistory:
		return fmt.Errorf("%d nodes that have left and %d jobs are more than are kept", len(t.Removed), len(t.History))
	case t.Throttle < 0:
		return fmt.Errorf("a throttle of %d bytes in a second", t.Throttle)
	case t.AutoReplace != 0 && t.AutoReplace < MinAutoReplace:
		return fmt.Errorf("dead nodes replaced after %d milliseconds", t.AutoReplace)
	}
	for i, n := range t.Nodes {
		switch {
		case n.ID == 0 || i > 0 && n.ID <= t.Nodes[i-1].ID:
			return fmt.Errorf("node %v is out of order", n.ID)
		case n.Seat == 0 || n.Seat > t.Seats:
			return fmt.Errorf("node %v has seat %d of %d", n.ID, n.Seat, t.Seats)
		case n.Weight < 1 || n.Weight > MaxWeight:
			return fmt.Errorf("node %v has weight %d", n.ID, n.Weight)
		}
	}
	for i, m := range t.Managers {
		if _, ok := t.Node(m); !ok || i > 0 && m <= t.Managers[i-1] {
			return fmt.Errorf("manager %v is no node, or out of order", m)
		}
	}
	return CheckQuorum(t.N, t.R, t.W)
}

func (t *Topology) validSet(s *Set) error {
	if s.Epoch == 0 || s.Epoch > t.Epoch {
		return fmt.Errorf("its set is of epoch %d", s.Epoch)
	}
	if len(s.Replicas) == 0 {
		return fmt.Errorf("it has no replica")
	}
	if len(s.Joining) > 0 && len(s.Leaving) > 0 || len(s.Due) > 0 && !s.atRest() {
		return fmt.Errorf("replicas join and leave it at once")
	}
	for k, list := range [][]unkai.Seat{s.Replicas, s.Joining, s.Leaving, s.Due, s.Strays} {
		if k < 4 && len(list) > maxReplicas {
			return fmt.Errorf("%d replicas are more than %d", len(list), maxReplicas)
		}
		for i, seat := range list {
			if seat == 0 || seat > t.Seats || slices.Contains(list[:i], seat) {
				return fmt.Errorf("seat %d is none, or there twice", seat)
			}
		}
	}
	return nil
}

// Space is the cluster's hash space.
func (t *Topology) Space() ring.Space { return ring.NewSpace(t.Cluster, t.Buckets) }

// Node finds a member.
func (t *Topology) Node(id unkai.NodeID) (Node, bool) {
	i, ok := slices.BinarySearchFunc(t.Nodes, id, func(n Node, id unkai.NodeID) int {
		switch {
		case n.ID < id:
			return -1
		case n.ID > id:
			return 1
		}
		return 0
	})
	if !ok {
		return Node{}, false
	}
	return t.Nodes[i], true
}

// Seated finds the node that has a seat now; false when its incarnation has
// passed or it has left.
func (t *Topology) Seated(s unkai.Seat) (Node, bool) {
	for _, n := range t.Nodes {
		if n.Seat == s {
			return n, true
		}
	}
	return Node{}, false
}

// Attached are the nodes that hold a share.
func (t *Topology) Attached() []Node {
	var out []Node
	for _, n := range t.Nodes {
		if n.State == Attached {
			out = append(out, n)
		}
	}
	return out
}

// Forgotten reports whether what was accepted under epoch e has been flushed.
func (t *Topology) Forgotten(e unkai.Epoch) bool { return e < t.Flushed }
