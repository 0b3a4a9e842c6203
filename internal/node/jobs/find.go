package jobs

import (
	"fmt"
	"strings"

	"unkai"
	"unkai/internal/admin"
	"unkai/internal/core/topology"
)

// find is the node that an operator means: by its id, a unique beginning of it,
// or its address for other nodes.
func (o *Operator) find(top *topology.Topology, name string) (unkai.NodeID, error) {
	var found, there []unkai.NodeID
	for _, m := range top.Nodes {
		switch id := m.ID.String(); {
		case name == "":
		case id == name:
			return m.ID, nil
		case o.cfg.Nodes.Peer(m.ID) == name:
			there = append(there, m.ID)
		case strings.HasPrefix(id, name):
			found = append(found, m.ID)
		}
	}
	switch {
	case len(there) == 1:
		return there[0], nil
	case len(there) > 1: // one may have come in the place of another
		return 0, fmt.Errorf("%w: %d nodes were last seen at %s: give the id, which is one of %s", admin.ErrBadRequest, len(there), name, strings.Join(ids(there), ", "))
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return 0, fmt.Errorf("%w: the ids of %d nodes begin with %q", admin.ErrBadRequest, len(found), name)
	}
	if id, err := unkai.ParseNodeID(name); err == nil {
		for _, gone := range top.Removed {
			if gone == id {
				return 0, fmt.Errorf("%w: node %s is not a member any more: it was removed", admin.ErrBadRequest, name)
			}
		}
	}
	return 0, fmt.Errorf("%w: no node has the id, or a peer address, %q; unkai nodes shows them", admin.ErrBadRequest, name)
}
