package node_test

import (
	"net/http"
	"strings"
	"testing"

	"unkai/internal/admin"
	"unkai/internal/node"
)

// The name of a zone that would break a line is refused, whoever says it.
func TestZonesThatBreakLines(t *testing.T) {
	t.Parallel()
	for _, zone := range []string{"a\nb", strings.Repeat("z", 65)} {
		c := node.DefaultConfig()
		if c.Zone = zone; c.Validate() == nil {
			t.Errorf("a node starts with zone %q", zone)
		}
		n := built(t, func(c *node.Config) { c.Zone = "a" })
		for _, path := range []string{"/v1/plan", "/v1/jobs"} {
			code, text := post(t, n, path, admin.Wish{Kind: "weigh", Nodes: []string{n.ID().String()}, Zone: &zone}, nil)
			if code != http.StatusBadRequest || !strings.Contains(text, "name for a zone") {
				t.Errorf("%s, zone %q: %d %s", path, zone, code, text)
			}
		}
	}
}
