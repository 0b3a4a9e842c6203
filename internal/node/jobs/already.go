package jobs

import (
	"fmt"
	"slices"
	"strings"

	"unkai"
	"unkai/internal/admin"
	"unkai/internal/core/topology"
)

// already says that a change which cannot begin has been made, or that the running job
// makes it; "" when neither is so. Who asks again, or for what nodes that join do by
// themselves, has made no mistake.
func already(t *topology.Topology, c topology.Change) string {
	want, being := topology.Attached, "attached"
	if c.Kind == topology.KindDetach {
		want, being = topology.Leaving, "detached"
	}
	cancelled := t.Job != nil && t.Job.Outcome == topology.Cancelled
	if len(c.Nodes) == 0 || c.GiveUp || cancelled || c.Kind != topology.KindAttach && c.Kind != topology.KindDetach {
		return ""
	}
	for _, id := range c.Nodes {
		if m, ok := t.Node(id); !ok || m.State != want {
			return ""
		}
	}
	who := "node " + strings.Join(ids(c.Nodes), ", ")
	switch {
	case making(t, c):
		return fmt.Sprintf("%s: being %s already, by job %d; unkai jobs shows how far it is", who, being, t.Job.ID)
	case c.Kind == topology.KindAttach:
		return who + ": attached already, so nothing is to be done"
	}
	return ""
}

// making reports whether the running job attaches, or detaches, one of these nodes.
func making(t *topology.Topology, c topology.Change) bool {
	return t.Job != nil && (t.Job.Kind == c.Kind || t.Job.Kind == topology.KindReplace) &&
		slices.ContainsFunc(c.Nodes, func(id unkai.NodeID) bool { return slices.Contains(t.Job.Nodes, id) })
}

// alreadyPlanned is the plan of what is so already, and why.
func alreadyPlanned(t *topology.Topology, c topology.Change, why string) admin.Plan {
	out := admin.Plan{
		Kind: string(c.Kind), Nodes: ids(c.Nodes), Epoch: uint32(t.Epoch), Throttle: t.Throttle, Already: why,
		Flows: []admin.Flow{}, Shares: []admin.Share{}, Warnings: []string{},
	}
	out.Quorum.Before.N, out.Quorum.Before.R, out.Quorum.Before.W = t.Quorum()
	out.Quorum.After = out.Quorum.Before
	return out
}

// alreadyBegun is the job that does what is so already, or one without an id when that is
// over.
func (o *Operator) alreadyBegun(t *topology.Topology, c topology.Change) admin.Job {
	if making(t, c) {
		return o.describeJob(t, t.Job)
	}
	return admin.Job{Kind: string(c.Kind), Nodes: ids(c.Nodes), State: admin.JobDone, Progress: 1}
}
