package node

// Unpace takes away the limit on what copies may cost clients. Nothing may be copied
// yet.
func (n *Node) Unpace() { n.repairer.Pace = nil }
