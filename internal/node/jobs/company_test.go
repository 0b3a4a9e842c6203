package jobs

import (
	"context"
	"testing"

	"unkai"
	"unkai/internal/admin"
	"unkai/internal/core/topology"
)

// company are nodes of which some are there, and some full. They have no clients.
type company struct {
	here, full map[unkai.NodeID]bool
	peers      map[unkai.NodeID]string
}

func (c company) Here(id unkai.NodeID) bool { return c.here[id] }

func (c company) Peer(id unkai.NodeID) string { return c.peers[id] }

func (c company) Full(id unkai.NodeID) bool { return c.full[id] }

func (company) Clients(unkai.NodeID) int64 { return 0 }

func (company) Loads(_ context.Context, top *topology.Topology) []Load {
	return make([]Load, len(top.Nodes))
}

func (company) Slowed(context.Context, *topology.Topology) []admin.Slowed { return nil }

// becoming is what makes a topology the next one, sealed, if there is no error.
func becoming(t *testing.T, top *topology.Topology) func(topology.Topology, error) {
	return func(next topology.Topology, err error) {
		t.Helper()
		if err == nil {
			err = next.Seal()
		}
		if err != nil {
			t.Fatal(err)
		}
		*top = next
	}
}
