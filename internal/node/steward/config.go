package steward

import (
	"context"
	"log/slog"
	"time"

	"unkai"
	"unkai/internal/core/topology"
)

// Managers decide the topology.
type Managers interface {
	// Topology is the newest that this node knows.
	Topology() *topology.Topology
	// Pending reports whether one was proposed and not decided yet; then Finish has it
	// decided.
	Pending() bool
	Finish(ctx context.Context) error
	// Change has what f makes of the newest topology decided.
	Change(ctx context.Context, f func(*topology.Topology) (topology.Topology, error)) (*topology.Topology, error)
}

// Nodes are the members of the cluster, this node too. None is waited for any longer than
// the context says.
type Nodes interface {
	// Here reports whether a node answers.
	Here(id unkai.NodeID) bool
	// Serves tells which nodes do, as far as this one knows, by a topology; this one too.
	Serves(top *topology.Topology) func(unkai.NodeID) bool
	// Loads asks all how they are, for a second at most, and answers in the order of the
	// topology.
	Loads(ctx context.Context, top *topology.Topology) []Load
	// Settled asks a node that has come to an epoch what it has settled; nil from one that
	// has not come there, or is at another by now.
	Settled(ctx context.Context, id unkai.NodeID, e unkai.Epoch) *Settled
	// Stays reports whether a drained node has clients, or has not come to an epoch.
	Stays(ctx context.Context, id unkai.NodeID, e unkai.Epoch) bool
}

// Load is how a node is, and whom it does not reach; one that has not answered is not
// alive.
type Load struct {
	topology.Load
	Away []unkai.NodeID
}

// plain is the part of it that a plan needs.
func plain(said []Load) []topology.Load {
	out := make([]topology.Load, len(said))
	for i, l := range said {
		out[i] = l.Load
	}
	return out
}

// Config is what a steward needs. All of it is wanted.
type Config struct {
	Self     unkai.NodeID
	Managers Managers
	Nodes    Nodes
	// Farewell is how long a drained node goes on answering its clients before it is
	// removed.
	Farewell time.Duration
	Now      func() int64 // milliseconds since 1970
	Log      *slog.Logger
	// Looks hears of each look at the topology, and whether this steward works;
	// Foresees hears then what it will do by itself.
	Looks    func(top *topology.Topology, works bool)
	Foresees func([]Prospect)
}
