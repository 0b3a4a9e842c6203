package node

import (
	"strings"
	"testing"

	"unkai/internal/core/topology"
)

// A node that joins is not let in with a zone that would break a line, should it not have
// looked at that itself.
func TestAdmitLooksAtTheZone(t *testing.T) {
	var n Node
	if _, err := n.admit(&join{Node: topology.Node{ID: 1, Weight: 1, Zone: "a\nb"}}); err == nil || !strings.Contains(err.Error(), `"a\nb" is no name`) {
		t.Error(err)
	}
}
