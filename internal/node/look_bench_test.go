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

// PeerBytes is all that went over the connections on which this node asks others, with the
// answers.
func (n *Node) PeerBytes() (sum int64) {
	for _, c := range n.port.Connections() {
		sum += c.BytesOut + c.BytesIn
	}
	return sum
}
