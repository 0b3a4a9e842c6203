package admin

import (
	"strings"

	"unkai"
	"unkai/internal/core/topology"
)

// Holes are the buckets one of whose replicas has lost what it held, and that nobody
// else has taken the place of: they survive less than they should.
type Holes struct {
	Buckets int `json:"buckets"`
	// Remedy is what gives them another replica: a command, or that it comes by itself.
	Remedy string `json:"remedy"`
}

// newHoles are those of a topology; nil: there are none.
func newHoles(top *topology.Topology, alive func(unkai.NodeID) bool) *Holes {
	h := &Holes{Buckets: top.Holes()}
	if h.Buckets == 0 {
		return nil
	}
	var wait []string // for an operator
	soon := false
	for _, n := range top.Nodes {
		if n.State == topology.Recognised && alive(n.ID) {
			if soon = soon || !n.Manual; n.Manual {
				wait = append(wait, n.ID.String())
			}
		}
	}
	switch {
	case top.Job != nil:
		h.Remedy = "the job that runs has to end first"
	case soon:
		h.Remedy = "a node that has joined is attached by itself"
	case len(wait) > 0:
		h.Remedy = "unkai attach " + strings.Join(wait, " ")
	default:
		h.Remedy = "unkai rebalance"
	}
	return h
}

// lostNext is what can be done about buckets that no return of a node mends.
func (s *Survival) lostNext() string {
	first := ""
	if s.Moving > 0 {
		first = "unkai job cancel; then "
	}
	return first + "unkai plan rebalance --give-up-lost shows what it means to go on without what was lost; or put all nodes back from copies"
}
