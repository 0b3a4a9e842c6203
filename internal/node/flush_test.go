package node

import (
	"testing"

	"unkai/internal/core/topology"
)

// Only a flush has everything swept, and each once.
func TestAFlushIsNoticedOnce(t *testing.T) {
	n := &Node{}
	top := topology.New(1, 16, 1, 1, 1, topology.Node{ID: 1, Weight: 1})
	flushed := top.Flush()
	limited, err := flushed.Limit(1000)
	if err != nil {
		t.Fatal(err)
	}
	again := limited.Flush()
	for i, c := range []struct {
		top  *topology.Topology
		anew bool
	}{{&top, false}, {&flushed, true}, {&flushed, false}, {&limited, false}, {&again, true}} {
		if anew := n.flushedAnew(c.top); anew != c.anew {
			t.Errorf("%d: epoch %d: %v", i, c.top.Epoch, anew)
		}
	}
}
