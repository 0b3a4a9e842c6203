package node_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"unkai/internal/node"
)

// A node without a disk of its own starts anew again and again, each time as
// another one. It takes a share once, and no other life of it does while that one
// is away: the nodes that stay hold a quorum of everything.
func TestACrashLoopEatsNoQuorum(t *testing.T) {
	t.Parallel()
	var log buffer
	all := cluster(t, 3, func(c *node.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	life := built(t, plain, all[0].Peer())
	settled(t, 4, append(all, life)...)
	stop(t, life)
	life = built(t, plain, all[0].Peer())
	for until := time.Now().Add(30 * time.Second); !strings.Contains(log.String(), "not attached by themselves"); time.Sleep(20 * time.Millisecond) {
		for _, m := range nodes(t, all[0]).Nodes {
			if m.ID == idOf(t, life) && m.State == "attached" {
				t.Fatal("its second life is attached too, while the first holds a share")
			}
		}
		if time.Now().After(until) {
			t.Fatalf("nothing is said of it: %s", log.String())
		}
	}
	stop(t, life)
	dial(t, all[1]).check(300)
}
