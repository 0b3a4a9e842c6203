package main

import (
	"strings"
	"testing"

	"unkai/internal/admin"
)

// What nodes keep their data in is shown when it is not the same for all.
func TestNodesThatKeepDataOtherwise(t *testing.T) {
	n := &admin.Nodes{Nodes: []admin.Node{
		{ID: "01", Alive: true, Manager: true, Store: "disk", Sync: "always"}, {ID: "02"}, {ID: "03", Alive: true, Store: "disk", Sync: "always"},
	}}
	if got := describeNodes(n); strings.Contains(got, "disk") {
		t.Errorf("%s", got)
	}
	n.Nodes[2].Sync = "off"
	if got := describeNodes(n); !strings.Contains(got, "manager; disk, sync always\n") || !strings.Contains(got, "  disk, sync off\n") {
		t.Errorf("%s", got)
	}
	n.Nodes[2].Store, n.Nodes[2].Sync = "memory", ""
	if got := describeNodes(n); !strings.Contains(got, "  memory\n") {
		t.Errorf("%s", got)
	}
}
