package node

import (
	"errors"
	"fmt"

	"unkai/internal/peer"
)

// introduced notes how asking at an address of --join has ended. When another cluster is
// there, this node's data directory most likely began one of its own by mistake, in a
// first start without --join.
func (n *Node) introduced(addr string, err error) {
	switch {
	case err == nil:
		n.stray.Store(nil)
	case errors.Is(err, peer.ErrOtherCluster):
		said := fmt.Sprintf("the node at %s, as --join names it, is of another cluster than the data directory %s: stop this node; when nothing in that directory is needed, empty it and start again, and it joins; otherwise leave --join out", addr, n.cfg.Data)
		if n.stray.Swap(&said) == nil {
			n.log.Warn("this node does not join: "+said, "err", err)
		}
	}
}

// problem is what is wrong with this node though it serves, or "".
func (n *Node) problem() string {
	if said := n.stray.Load(); said != nil {
		return *said
	}
	return ""
}
