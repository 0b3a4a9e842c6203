package peer

import (
	"cmp"
	"slices"

	"unkai"
)

// Connection is how this node is connected to another one, over the connections
// that it opened itself.
type Connection struct {
	Node     unkai.NodeID
	Up       bool
	Open     int // calls that wait for their answers
	Waiting  int // bytes that wait to be written
	Calls    int64
	Refused  int64 // calls that were not even sent: too much waited, or there was no connection
	Timeouts int64
	Lost     int64 // calls whose connection broke
	Connects int64 // connections dialled with success, so reconnects too
	BytesIn  int64
	BytesOut int64
}

// counting is what was counted of a remote, guarded by its mu.
type counting struct {
	live     []*outbound // connections that are there, or being dialled
	past     Stats       // of those that have ended
	connects int64
}

// Connections are those to all nodes that are known, by ascending id.
func (p *Port) Connections() []Connection {
	peers := *p.peers.Load()
	out := make([]Connection, 0, len(peers))
	for _, r := range peers {
		out = append(out, r.connection())
	}
	slices.SortFunc(out, func(a, b Connection) int { return cmp.Compare(a.Node, b.Node) })
	return out
}

func (r *remote) connection() Connection {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := Connection{Node: r.id, Up: r.port.Alive(r.id), Connects: r.count.connects}
	s := r.count.past
	for _, o := range r.count.live {
		o.mu.Lock()
		s.add(&o.count)
		c.Open += len(o.slots) - len(o.free)
		c.Waiting += o.waiting
		o.mu.Unlock()
	}
	c.Calls, c.Timeouts, c.Lost, c.BytesIn, c.BytesOut = s.Calls, s.Timeouts, s.Lost, s.BytesIn, s.BytesOut
	c.Refused = s.Busy + r.down.Load()
	return c
}

// begins counts what o carries from now on as r's.
func (r *remote) begins(o *outbound) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count.live = append(r.count.live, o)
}

// ends keeps what o has counted.
func (r *remote) ends(o *outbound) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count.live = slices.DeleteFunc(r.count.live, func(x *outbound) bool { return x == o })
	o.addTo(&r.count.past)
}
