package jobs

import (
	"fmt"
	"slices"

	"unkai/internal/core/topology"
)

// losing is what a node may lose of what it has acknowledged, and by what setting; the
// less the later. A node on disk that syncs each write loses nothing.
var losing = []struct{ store, sync, what string }{
	{"memory", "", "everything when its process ends (--store memory)"},
	{"disk", "off", "its last writes when the power fails (--sync off)"},
	{"disk", "interval", "its last writes when the power fails (--sync interval)"},
}

// firmness is how well a node keeps what it has acknowledged: an index of losing, or more;
// below 0: it has not told.
func firmness(l Load) int {
	if l.Store == "" {
		return -1
	}
	for i, x := range losing {
		if x.store == l.Store && x.sync == l.Sync {
			return i
		}
	}
	return len(losing)
}

// warnOfStores tells of nodes that would get replicas and may lose more than others do: one
// of those who acknowledge a write may be such a node then.
func warnOfStores(p *topology.Plan, asked []Load) (out []string) {
	best := -1
	get := func(s topology.Share) int {
		i := slices.IndexFunc(asked, func(l Load) bool { return l.Node == s.Node })
		if i < 0 {
			return -1
		}
		return firmness(asked[i])
	}
	for _, s := range p.Nodes {
		if s.After > 0 {
			best = max(best, get(s))
		}
	}
	for _, s := range p.Nodes {
		if at := get(s); s.Fresh > 0 && at >= 0 && at < best {
			_, _, w := p.Quorum()
			out = append(out, fmt.Sprintf("node %v may lose %s, which others do not: it may be one of the %d that acknowledge a write", s.Node, losing[at].what, w))
		}
	}
	return out
}
