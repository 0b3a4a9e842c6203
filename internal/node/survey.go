package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"sync"
	"time"

	"unkai"
	"unkai/internal/admin"
	"unkai/internal/core/topology"
	"unkai/internal/node/coordinator"
	"unkai/internal/node/jobs"
	"unkai/internal/node/replica"
)

// surveyLimit is how long other nodes are waited for.
const surveyLimit = time.Second

// survey is what the side door is told of the cluster.
type survey struct{ n *Node }

// Nodes implements admin.Cluster.
func (s survey) Nodes(ctx context.Context) (admin.Nodes, error) {
	n := s.n
	top := n.topology()
	if top == nil {
		return admin.Nodes{}, jobs.ErrNoTopology
	}
	out := admin.Nodes{
		Cluster: fmt.Sprintf("%016x", top.Cluster), Epoch: uint32(top.Epoch), Buckets: top.Buckets, Moving: top.Moving(),
		Nodes: make([]admin.Node, len(top.Nodes)),
	}
	out.Quorum.N, out.Quorum.R, out.Quorum.W = top.Quorum()
	for _, id := range top.Managers {
		out.Managers = append(out.Managers, id.String())
	}
	out.Survival = admin.NewSurvival(top, n.serves(top), n.isFull)
	out.Survives, out.Unavailable = out.Survival.Worst(), out.Survival.Unavailable
	all := n.jobs.Describe(top)
	out.Job, out.AutoReplace = all.Running, all.AutoReplace
	where := n.book.Nodes()
	ctx, cancel := context.WithTimeout(ctx, surveyLimit)
	defer cancel()
	var wg sync.WaitGroup
	for i, m := range top.Nodes {
		node := &out.Nodes[i]
		*node = admin.Node{
			ID: m.ID.String(), Peer: where[m.ID].Peer, Zone: m.Zone, Weight: m.Weight, State: m.State.String(), Manual: m.Manual,
			Incarnation: uint32(m.Incarnation), Manager: slices.Contains(top.Managers, m.ID), Alive: n.here(m.ID),
		}
		wg.Go(func() { n.fillLoad(ctx, m.ID, node) })
	}
	wg.Wait()
	for i, s := range top.Shares() {
		m := &out.Nodes[i]
		m.Replicas, m.Present, m.Joining, m.Leaving, m.Ideal = s.Present+s.Joining+s.Leaving, s.Present, s.Joining, s.Leaving, s.Ideal
	}
	for _, p := range n.foretold(top) {
		if at := slices.IndexFunc(out.Nodes, func(m admin.Node) bool { return m.ID == p.Node }); at >= 0 {
			out.Nodes[at].Prospect = &p
		}
	}
	for b := range top.Buckets {
		id := top.Route(unkai.Bucket(b)).Members[0]
		if at, ok := slices.BinarySearchFunc(top.Nodes, id, func(m topology.Node, id unkai.NodeID) int { return cmp.Compare(m.ID, id) }); ok {
			out.Nodes[at].Coordinates++
		}
	}
	for _, l := range n.links(top) {
		at := slices.IndexFunc(out.Nodes, func(m admin.Node) bool { return m.ID == l.Node })
		out.Nodes[at].Link = &l
	}
	return out, nil
}

func (n *Node) here(id unkai.NodeID) bool { return id == n.id || id != 0 && n.alive(id) }

func (n *Node) fillLoad(ctx context.Context, id unkai.NodeID, node *admin.Node) {
	l := n.load()
	if id != n.id {
		a, err := n.askControl(ctx, id, control{Load: &load{}})
		if err == nil && a.Load == nil {
			err = errors.New("it gave no answer")
		}
		if err != nil {
			node.Alive, node.Problem = false, strings.TrimPrefix(err.Error(), fmt.Sprintf("node %v: ", id)) // which is said beside it
			return
		}
		l = a.Load
	}
	node.Alive = true
	node.Listen, node.HTTP, node.Epoch, node.Problem = l.Listen, l.HTTP, l.Epoch, l.State
	node.Store, node.Sync = l.Store, l.Sync
	node.Items, node.Bytes, node.Used, node.Limit, node.Connections = l.Items, l.Bytes, l.Used, l.Limit, l.Conns
}

// Locate implements admin.Cluster.
func (s survey) Locate(key []byte) (admin.Location, error) {
	n := s.n
	top := n.topology()
	if top == nil {
		return admin.Location{}, jobs.ErrNoTopology
	}
	if len(key) > unkai.MaxKeyLen {
		return admin.Location{}, fmt.Errorf("%w: a key has at most %d bytes", admin.ErrBadRequest, unkai.MaxKeyLen)
	}
	hash := top.Space().Hash(key)
	bucket := top.Space().Bucket(hash)
	r := top.Route(bucket)
	out := admin.Location{Key: string(key), Hash: fmt.Sprintf("%016x", hash), Bucket: int(bucket), Epoch: uint32(r.Epoch)}
	for i, id := range r.Members {
		if r.Write.Present.Members.Has(i) {
			out.Replicas = append(out.Replicas, id.String())
			if out.Coordinator == "" && n.here(id) {
				out.Coordinator = id.String()
			}
		}
		if r.Joining && r.Write.Joining.Members.Has(i) {
			out.Joining = append(out.Joining, id.String())
		}
	}
	return out, nil
}

// Explain implements admin.Cluster.
func (s survey) Explain(ctx context.Context, key []byte) (admin.Explanation, error) {
	n := s.n
	where, err := s.Locate(key)
	if err != nil {
		return admin.Explanation{}, err
	}
	top := n.topology()
	r := top.Route(unkai.Bucket(where.Bucket))
	out := admin.Explanation{Location: where, Held: make([]admin.Held, len(r.Members))}
	ctx, cancel := context.WithTimeout(ctx, surveyLimit)
	defer cancel()
	var wg sync.WaitGroup
	for i, id := range r.Members {
		wg.Go(func() { out.Held[i] = n.held(ctx, top, id, key) })
	}
	wg.Wait()
	return out, nil
}

var valueSum = crc32.MakeTable(crc32.Castagnoli)

// held is what one replica holds of a key.
func (n *Node) held(ctx context.Context, top *topology.Topology, id unkai.NodeID, key []byte) admin.Held {
	out := admin.Held{Node: id.String()}
	var to coordinator.Replica
	switch own := n.localReplica(); {
	case id == 0:
		out.Error = "an incarnation that has passed"
		return out
	case id != n.id:
		to = n.remote(id)
	case own == nil:
		out.Error = "this node is starting"
		return out
	default:
		to = own
	}
	hash := top.Space().Hash(key)
	bucket := top.Space().Bucket(hash)
	done := make(heldDone)
	c := &replica.Call{Epoch: top.Route(bucket).Epoch, Bucket: bucket, Hash: hash, Key: key, Answered: done}
	if !to.Read(c) {
		select {
		case <-done:
		case <-ctx.Done():
			out.Error = "no answer in time"
			return out
		}
	}
	switch {
	case c.Err != nil:
		out.Error = c.Err.Error()
		return out
	case c.Status != replica.OK:
		out.Error = "it is in another epoch; ask again"
		return out
	}
	rec := &c.Found.Record
	out.Tombstone, out.Flushed = rec.Tombstone, rec.Ballot != 0 && top.Forgotten(rec.Epoch)
	out.Exists = rec.Ballot != 0 && !rec.Tombstone && !out.Flushed
	out.Ballot, out.Promise, out.Epoch = rec.Ballot.String(), rec.Promise.String(), uint32(rec.Epoch)
	out.CAS, out.Flags, out.Expiry, out.Size = rec.Item.CAS, rec.Item.Flags, rec.Item.Expiry, len(rec.Item.Value)
	out.Checksum = fmt.Sprintf("%08x", crc32.Checksum(rec.Item.Value, valueSum))
	return out
}

type heldDone chan struct{}

// CallAnswered implements replica.Answered.
func (h heldDone) CallAnswered(*replica.Call) { close(h) }

func (n *Node) localReplica() *replica.Local {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.replica
}
