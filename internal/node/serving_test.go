package node_test

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"

	"unkai/internal/admin"
	"unkai/internal/node"
)

// A node of which the others know that it is connected may have come back empty: until it
// serves, and they know of its new incarnation, nobody says that the next one may be
// restarted.
func TestWhoCameBackEmptyIsNotCounted(t *testing.T) {
	t.Parallel()
	dir, at := t.TempDir(), lasting()
	all := cluster(t, 3, plain)
	open := func() *node.Node { return built(t, func(c *node.Config) { c.Data, c.Peer = dir, at }, all[0].Peer()) }
	all = append(all, open())
	at = all[3].Peer() // where the others look for it
	settled(t, 4, all...)
	for range 3 {
		stop(t, all[3])
		told(t, all[0], func(s *admin.Status) bool { return !s.Survival.Restart })
		looking, enough := context.WithCancel(t.Context())
		hasty := make(chan *admin.Survival, 1)
		go func() { hasty <- promised(looking, all[0]) }()
		all[3] = open()
		enough()
		if s := <-hasty; s != nil {
			t.Fatalf("a node has lost all it held, and the next may be restarted: %+v", s)
		}
		settled(t, 4, all...)
	}
}

// promised looks, until ctx ends, whether a node says that any one may be restarted.
func promised(ctx context.Context, n *node.Node) *admin.Survival {
	for ctx.Err() == nil {
		answer, err := http.Get("http://" + n.HTTP().String() + "/v1/status")
		if err != nil {
			continue
		}
		var s admin.Status
		err = json.NewDecoder(answer.Body).Decode(&s)
		_ = answer.Body.Close()
		if err == nil && s.Survival != nil && s.Survival.Restart {
			return s.Survival
		}
	}
	return nil
}

// Whoever flushes everything tells the others of that, and of nothing that is not so.
func TestAFlushKeepsNobodyAway(t *testing.T) {
	t.Parallel()
	all := cluster(t, 3, plain)
	told(t, all[1], func(s *admin.Status) bool { return s.Survival.Restart })
	for range 5 {
		if err := all[0].Flush(0); err != nil {
			t.Fatal(err)
		}
		var s admin.Status
		if err := json.Unmarshal([]byte(page(t, all[1], "/v1/status")), &s); err != nil {
			t.Fatal(err)
		}
		if len(s.Survival.Away) > 0 || !s.Survival.Restart {
			t.Fatalf("after a flush: %+v", s.Survival)
		}
	}
}
