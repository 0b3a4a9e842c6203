package topology

import (
	"encoding/json"
	"fmt"
	"slices"

	"unkai"
	"unkai/internal/core/quorum"
)

// Seal says what is wrong with a topology, or makes it ready to be asked for
// routes, and to be sent. Nobody may change it afterwards. What it has in common with
// the one it was made of is neither looked at nor made again.
func (t *Topology) Seal() error {
	head, err := t.encodeHead()
	if err != nil {
		return fmt.Errorf("topology of epoch %d: %w", t.Epoch, err)
	}
	was := t.was
	if was == nil || len(was.sets) != len(t.Sets) || was.epoch > t.Epoch || was.seats > t.Seats {
		return t.sealAs(head, nil, nil)
	}
	return t.sealAs(head, was, t.differ(was.sets))
}

// seal is what a topology has once it is sealed, and what it is made of: so that the one
// after it need not make it again.
type seal struct {
	epoch, flushed unkai.Epoch
	seats          unkai.Seat
	n, r, w        int
	nodes          []Node
	sets           []Set
	routes         []*Route
	head           []byte // all but the sets, encoded
	ofSets, sum    uint64 // checksums
}

// sealAs seals a topology that is like a sealed one, but for these buckets; or, without
// one, like none.
func (t *Topology) sealAs(head []byte, was *seal, changed []unkai.Bucket) error {
	err := t.validate()
	if err == nil {
		err = t.validSets(was, changed)
	}
	if err != nil {
		return fmt.Errorf("topology of epoch %d: %w", t.Epoch, err)
	}
	ofSets := t.route(was, changed)
	t.was, t.seal = nil, &seal{
		t.Epoch, t.Flushed, t.Seats, t.N, t.R, t.W, t.Nodes, t.Sets, t.routes,
		head, ofSets, scatter(sumHead(head) ^ ofSets),
	}
	return nil
}

// encodeHead is all but the sets, as text: it is short, and may come to say more.
func (t *Topology) encodeHead() ([]byte, error) {
	type plain Topology
	return json.Marshal(struct {
		*plain
		Sets *struct{} `json:"sets,omitempty"` // in the place of the others
	}{plain: (*plain)(t)})
}

// validSets looks at the sets. One that was valid still is: epochs and seats only grow.
func (t *Topology) validSets(was *seal, changed []unkai.Bucket) error {
	if was == nil {
		for b := range t.Sets {
			if err := t.validSet(&t.Sets[b]); err != nil {
				return fmt.Errorf("bucket %d: %w", b, err)
			}
		}
		return nil
	}
	for _, b := range changed {
		if err := t.validSet(&t.Sets[b]); err != nil {
			return fmt.Errorf("bucket %d: %w", b, err)
		}
	}
	return nil
}

// route makes the routes, and the sum of all sets. Buckets with the same set share a route,
// and so do topologies that differ elsewhere.
func (t *Topology) route(was *seal, changed []unkai.Bucket) (sum uint64) {
	r := router{Topology: t, nodes: make([]unkai.NodeID, int(t.Seats)+1), made: map[uint64]int{}}
	for _, n := range t.Nodes {
		r.nodes[n.Seat] = n.ID
	}
	if was == nil || !t.routesLike(was) {
		t.routes = make([]*Route, t.Buckets)
		for b := range t.Sets {
			h := t.Sets[b].hash()
			t.routes[b] = r.of(b, h)
			sum += sumOf(b, h)
		}
		return sum
	}
	t.routes, sum = slices.Clone(was.routes), was.ofSets
	for _, b := range changed {
		h := t.Sets[b].hash()
		t.routes[b] = r.of(int(b), h)
		sum += sumOf(int(b), h) - sumOf(int(b), was.sets[b].hash())
	}
	return sum
}

// routesLike reports whether the same set has the same route under both.
func (t *Topology) routesLike(was *seal) bool {
	return t.Flushed == was.flushed && t.N == was.n && t.R == was.r && t.W == was.w &&
		slices.EqualFunc(t.Nodes, was.nodes, func(a, b Node) bool { return a.ID == b.ID && a.Seat == b.Seat })
}

// router makes routes.
type router struct {
	*Topology
	nodes []unkai.NodeID // by seat
	made  map[uint64]int // the bucket for which one was made, by the hash of its set
}

// of is the route of a bucket, with the hash of its set.
func (r *router) of(b int, h uint64) *Route {
	s := &r.Sets[b]
	if at, ok := r.made[h]; ok {
		if r.Sets[at].equal(s) {
			return r.routes[at]
		}
	} else {
		r.made[h] = b
	}
	return r.make(s)
}

func (r *router) make(s *Set) *Route {
	other := s.Joining
	if len(other) == 0 {
		other = s.Leaving // there are not both
	}
	out := &Route{Epoch: max(s.Epoch, r.Flushed), Since: s.Epoch, Moving: len(other) > 0, Joining: len(s.Joining) > 0, seats: s.Replicas}
	present := quorum.First(len(s.Replicas))
	var joining quorum.Mask
	for _, seat := range other {
		at := slices.Index(out.seats, seat)
		if at < 0 {
			at = len(out.seats)
			out.seats = append(slices.Clip(out.seats), seat)
		}
		joining = joining.With(at)
	}
	out.Members = make([]unkai.NodeID, len(out.seats))
	for i, seat := range out.seats {
		out.Members[i] = r.nodes[seat]
	}
	n := len(s.Replicas)
	read, write := r.needs(n)
	out.Read = quorum.Rule{Present: quorum.Group{Members: present, Need: read}}
	out.Prepare = quorum.Rule{Present: quorum.Group{Members: present, Need: n - write + 1}}
	out.Write = quorum.Rule{Present: quorum.Group{Members: present, Need: write}}
	if out.Moving {
		_, write := r.needs(len(other))
		out.Write.Joining = quorum.Group{Members: joining, Need: write}
	}
	return out
}
