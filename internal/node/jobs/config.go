package jobs

import (
	"context"
	"log/slog"
	"time"

	"unkai"
	"unkai/internal/admin"
	"unkai/internal/core/topology"
)

// Managers decide the topology.
type Managers interface {
	// Topology is the newest that this node knows; nil before there is one.
	Topology() *topology.Topology
	// Latest is the newest that this node and the managers know.
	Latest(ctx context.Context) *topology.Topology
	// Change has what f makes of the newest topology decided.
	Change(ctx context.Context, f func(*topology.Topology) (topology.Topology, error)) (*topology.Topology, error)
}

// Nodes are the members of the cluster, this node too.
type Nodes interface {
	// Here reports whether a node answers.
	Here(id unkai.NodeID) bool
	// Peer is where a node was seen last; "": nobody knows.
	Peer(id unkai.NodeID) string
	// Full reports whether a node's store refuses growth, Clients how many it has: as far
	// as it has told.
	Full(id unkai.NodeID) bool
	Clients(id unkai.NodeID) int64
	// Loads asks all how they are, for a second at most, and answers in the order of the
	// topology.
	Loads(ctx context.Context, top *topology.Topology) []Load
	// Slowed asks all which of them bring less than they could.
	Slowed(ctx context.Context, top *topology.Topology) []admin.Slowed
}

// Load is how a node is, how many clients it has, and what it keeps its data in; one that
// has not answered is not alive.
type Load struct {
	topology.Load
	Clients     int64
	Store, Sync string // as in admin.Node
}

// plain is the part of it that a plan needs.
func plain(said []Load) []topology.Load {
	out := make([]topology.Load, len(said))
	for i, l := range said {
		out[i] = l.Load
	}
	return out
}

// Config is what an Operator needs. All of it is wanted.
type Config struct {
	Managers Managers
	Nodes    Nodes
	// Farewell is how long a drained node goes on answering its clients before it is
	// removed.
	Farewell time.Duration
	Now      func() int64 // milliseconds since 1970
	Log      *slog.Logger
}
