package node

import (
	"unkai"
	"unkai/internal/node/antientropy"
	"unkai/internal/node/replica"
)

// Tree looks at what this node's replica of a bucket sums up to.
func (n *Node) Tree(b unkai.Bucket) replica.Tree { return n.replica.Tree(b) }

// Repaired is what comparing replicas has come to at this node.
func (n *Node) Repaired() antientropy.Stats { return n.repairer.Stats() }

// PeerBytes is all that this node has sent to others by now.
func (n *Node) PeerBytes() (sum int64) {
	for _, c := range n.port.Connections() {
		sum += int64(c.BytesOut)
	}
	return sum
}
