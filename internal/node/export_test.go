package node

import (
	"sync/atomic"
	"time"

	"unkai/internal/node/pace"
)

// Unpace takes away the limit on what copies may cost clients. Nothing may be copied
// yet.
func (n *Node) Unpace() { n.repairer.Pace = nil }

// ReceiverSlow has it look as if a receiver had taken long for what it was brought.
func (n *Node) ReceiverSlow() { n.pacer.Answered(time.Minute, false) }

// Seen counts the batches of clients that are seen from now on.
func (n *Node) Seen() func() (reads, writes int64) {
	c := &counted{latencies: n.timed.latencies}
	n.timed.latencies = c
	return func() (reads, writes int64) { return c.reads.Load(), c.writes.Load() }
}

// counted are latencies that also counts how many there are.
type counted struct {
	latencies
	reads, writes atomic.Int64
}

func (c *counted) Begin(mayWrite bool) pace.Batch {
	if mayWrite {
		c.writes.Add(1)
	} else {
		c.reads.Add(1)
	}
	return c.latencies.Begin(mayWrite)
}
