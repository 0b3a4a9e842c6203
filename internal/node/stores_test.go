package node_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"unkai/internal/admin"
	"unkai/internal/node"
)

// Nodes tell what they keep their data in, and a plan warns of one that loses more than
// others.
func TestAMemoryNodeAmongDiskNodes(t *testing.T) {
	t.Parallel()
	first := built(t, func(c *node.Config) { c.Store = node.Disk })
	second := built(t, manual, first.Peer())
	var stores []string
	for _, m := range nodes(t, first).Nodes {
		said := strings.TrimSpace(m.Store + " " + m.Sync)
		if (said == "memory") != (m.ID == second.ID().String()) {
			t.Errorf("%s: %s", m.ID, said)
		}
		stores = append(stores, said)
	}
	if slices.Sort(stores); !slices.Equal(stores, []string{"disk always", "memory"}) {
		t.Errorf("%q", stores)
	}
	var p admin.Plan
	if code, text := post(t, first, "/v1/plan", admin.Wish{Kind: "attach", Nodes: []string{second.ID().String()}}, &p); code != http.StatusOK {
		t.Fatal(code, text)
	}
	if !slices.ContainsFunc(p.Warnings, func(w string) bool {
		return strings.HasPrefix(w, "node "+second.ID().String()+" may lose everything when its process ends")
	}) {
		t.Errorf("%q", p.Warnings)
	}
}
