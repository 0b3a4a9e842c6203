package node

// opsPerConn is how many operations of a connection may run at once, on average
// over all that may be open, before the gateway refuses: half of what each may
// pipeline.
const opsPerConn = 64

// spoken begins the answer to the command version: clients read off it which
// commands they may use, so it names the memcached whose protocol this is.
const spoken = "1.6.18-unkai-"

// connected is how many clients this node has.
func (n *Node) connected() int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.state != "" || n.memcache == nil {
		return 0
	}
	return n.memcache.Connections()
}
