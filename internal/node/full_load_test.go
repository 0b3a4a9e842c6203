package node_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"unkai/internal/admin"
	"unkai/internal/node"
	"unkai/internal/store"
	"unkai/internal/store/memory"
)

// brimful is a store that is full and leaves nothing: the most that it may take is
// nothing at all, which is not the same as no limit.
type brimful struct{ store.Engine }

func (b brimful) Stats() store.Stats {
	s := b.Engine.Stats()
	s.Limit, s.Full = 0, true
	return s
}

// A node that is full has no room, though nobody can say how much it may take: an operator
// is warned, and by itself nothing is brought to it.
func TestAFullNodeHasNoRoom(t *testing.T) {
	t.Parallel()
	all := cluster(t, 3, plain)
	engine, err := memory.Open(memory.Config{Buckets: 64})
	if err != nil {
		t.Fatal(err)
	}
	full := built(t, func(c *node.Config) { c.Engine = brimful{engine} }, all[0].Peer())
	for until := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		seen := nodes(t, all[0])
		at := slices.IndexFunc(seen.Nodes, func(m admin.Node) bool { return m.ID == full.ID().String() })
		if at >= 0 && seen.Nodes[at].Prospect != nil && strings.Contains(seen.Nodes[at].Prospect.Why, "has no room") {
			break
		}
		if time.Now().After(until) || seen.Job != nil && seen.Job.Auto {
			t.Fatalf("%+v, job %+v", seen.Nodes, seen.Job)
		}
	}
	var p admin.Plan
	wish := admin.Wish{Kind: "attach", Nodes: []string{full.Peer()}}
	if code, text := post(t, all[0], "/v1/plan", wish, &p); code != http.StatusOK {
		t.Fatal(code, text)
	}
	if !slices.ContainsFunc(p.Warnings, func(w string) bool { return strings.Contains(w, "is full and has too little room") }) {
		t.Errorf("%q", p.Warnings)
	}
	if code, text := post(t, all[0], "/v1/jobs", wish, nil); code != http.StatusConflict || !strings.Contains(text, "too little room") {
		t.Errorf("%d %s", code, text)
	}
}
