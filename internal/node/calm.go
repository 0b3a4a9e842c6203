package node

import (
	"sync"
	"time"
)

// turnCalm is for how long a node must have had no clients before it says so. When no node
// has, all buckets of a job set out at once, and those that have cannot be called back; and
// who asks in bursts is quiet for a second or two now and then.
const turnCalm = 10 * time.Second

// calm knows whether there are clients, or were a moment ago: also before there was a job.
// The zero value has seen none.
type calm struct {
	mu   sync.Mutex
	last time.Time // that there were
}

// crowded tells it whether there are some now.
func (c *calm) crowded(now bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now {
		c.last = time.Now()
	}
	return !c.last.IsZero() && time.Since(c.last) < turnCalm
}

// crowded reports whether this node has clients, or had a moment ago, as far as it was
// asked meanwhile.
func (n *Node) crowded() bool { return n.calm.crowded(n.paced().Told > 0) }
