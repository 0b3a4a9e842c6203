package jobs

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"unkai/internal/core/topology"
)

// errIdle: a change would change nothing.
var errIdle = errors.New("nothing is to be done")

// idle says that a change which can begin would change nothing: the job that it begins
// with has nothing to move, and the nodes are what they were. "" when it would.
func idle(t *topology.Topology, c topology.Change, loads []topology.Load) string {
	if c.Kind != topology.KindWeigh && c.Kind != topology.KindRebalance {
		return ""
	}
	next, err := t.Begin(c, nil, 0, topology.Away(loads)...)
	if err != nil || next.Job.Held || next.Moving() > 0 || !slices.Equal(next.Nodes, t.Nodes) {
		return ""
	}
	for b := range t.Sets {
		if !slices.Equal(t.Sets[b].Replicas, next.Sets[b].Replicas) {
			return ""
		}
	}
	lost := t.Lost()
	switch who := "node " + strings.Join(ids(c.Nodes), ", "); {
	case c.Kind == topology.KindRebalance && lost > 0:
		return fmt.Sprintf("%d buckets have lost their quorum for good and stay where they are; unkai rebalance --give-up-lost lets them go on with what is left. All others are where they belong, so nothing else is to be done", lost)
	case c.Kind == topology.KindRebalance:
		return "every bucket is where it belongs, so nothing is to be done"
	case c.Zone != nil:
		return fmt.Sprintf("%s: in zone %q already, so nothing is to be done", who, *c.Zone)
	default:
		return fmt.Sprintf("%s: of weight %d already, so nothing is to be done", who, c.Weight)
	}
}
