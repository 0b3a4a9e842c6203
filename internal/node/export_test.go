package node

import "time"

// Unpace takes away the limit on what copies may cost clients. Nothing may be copied
// yet.
func (n *Node) Unpace() { n.repairer.Pace = nil }

// ReceiverSlow has it look as if a receiver had taken long for what it was brought.
func (n *Node) ReceiverSlow() { n.pacer.Answered(time.Minute, false) }

// Seen is how many batches of clients were seen.
func (n *Node) Seen() (reads, writes int) { return n.pacer.Latencies.Counts() }
