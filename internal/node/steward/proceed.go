package steward

import (
	"context"
	"sync"
	"time"

	"unkai"
	"unkai/internal/core/topology"
)

const (
	// turnPart is which part of all buckets is on its way to joining sets at once while
	// there are clients: what they ask of those costs more (docs/decisions/0017), but
	// each turn is a change of the topology.
	turnPart = 16
	// turnLeast is how many buckets are in any case.
	turnLeast = 4
	// turnSoon is after what time others set out though less than half of the last turn has
	// arrived: every node has some work with each change, and all that clients ask waits for
	// it a little.
	turnSoon = 2 * time.Second
	// turnEach is, for each bucket that there is, how much time there is from one change to
	// the next in any case. It is ten times and more what a change takes a node
	// (docs/decisions/0023).
	turnEach = 3 * time.Microsecond
	// turnHear is for how long a job waits to be told by all nodes whether they have clients.
	turnHear = 500 * time.Millisecond
)

// proceed has buckets read at their joining sets when enough of their present replicas
// have settled them, frees them of their leaving sets when enough of these know of it, and
// sends others on their way in their place.
func (s *Steward) proceed(ctx context.Context, top *topology.Topology) {
	said := map[unkai.Bucket][]unkai.Seat{}
	bytes := weights{}
	var heard []unkai.Seat
	answers := s.ask(ctx, top, top.Nodes)
	for seat, a := range answers {
		heard = append(heard, seat)
		for i, b := range a.Buckets {
			said[b] = append(said[b], seat)
			if i < len(a.Bytes) {
				bytes.note(b, a.Bytes[i])
			}
		}
	}
	var arrived, free []unkai.Bucket
	under := 0 // way
	for b := range top.Buckets {
		bucket := unkai.Bucket(b)
		if !top.Route(bucket).Moving {
			continue
		}
		under++
		if top.Arrived(bucket, said[bucket]) && top.Serves(bucket, heard) {
			arrived = append(arrived, bucket)
		}
		if top.Heard(bucket, heard) {
			free = append(free, bucket)
		}
	}
	clients, silent, gone := crowd(top, answers, s.cfg.Nodes.Here)
	if silent && under == 0 && time.Since(s.since) < turnHear {
		return // until it is known who waits
	}
	room := top.Buckets
	if clients || silent {
		room = max(turnLeast, top.Buckets/turnPart)
	}
	ready := len(arrived) + len(free)
	if s.early(top.Buckets, ready, under, clients) || ready+len(top.Turn(room, gone...)) == 0 {
		return // for more
	}
	s.change(ctx, top, "buckets move", func(t *topology.Topology) (topology.Topology, error) {
		return t.Proceed(arrived, free, room, bytes.of, gone...), nil
	})
}

// crowd tells whether some node has clients, whether one that is there has not said so or
// otherwise, and which are not there.
func crowd(top *topology.Topology, answers map[unkai.Seat]*Settled, here func(unkai.NodeID) bool) (clients, silent bool, gone []unkai.NodeID) {
	for _, m := range top.Nodes {
		switch a, ok := answers[m.Seat]; {
		case ok:
			clients = clients || a.Clients
		case here(m.ID):
			silent = true
		default:
			gone = append(gone, m.ID)
		}
	}
	return clients, silent, gone
}

// early reports whether a change for those of the buckets under way that are ready should
// wait for others: each costs every node some work.
func (s *Steward) early(buckets, ready, under int, clients bool) bool {
	since := time.Since(s.since)
	switch {
	case since < time.Duration(buckets)*turnEach:
		return true
	case ready == under:
		return false
	case clients:
		return 2*ready < under && since < turnSoon
	}
	return since < partsAfter
}

// Settled is which buckets on their way a node has settled, and what it has forgotten of
// those that it holds no more.
type Settled struct {
	Epoch   unkai.Epoch    `json:"epoch"` // the node's topology is of
	Buckets []unkai.Bucket `json:"buckets"`
	Bytes   []int64        `json:"bytes"` // of each of them; less than none: not counted
	Forgot  []unkai.Bucket `json:"forgot,omitempty"`
	Clients bool           `json:"clients,omitempty"` // wait at that node, or did a moment ago
}

// ask asks those of some nodes that have heard of a topology what they have
// settled and forgotten.
func (s *Steward) ask(ctx context.Context, top *topology.Topology, nodes []topology.Node) map[unkai.Seat]*Settled {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	out := map[unkai.Seat]*Settled{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, m := range nodes {
		wg.Go(func() {
			a := s.cfg.Nodes.Settled(ctx, m.ID, top.Epoch)
			if a == nil {
				return // it will be asked again
			}
			mu.Lock()
			defer mu.Unlock()
			out[m.Seat] = a
		})
	}
	wg.Wait()
	return out
}
