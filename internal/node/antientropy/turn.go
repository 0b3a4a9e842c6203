package antientropy

import (
	"context"
	"maps"
	"slices"

	"unkai"
	"unkai/internal/core/quorum"
	"unkai/internal/core/topology"
	"unkai/internal/node/replica"
)

// first is the present replica of a bucket, if it is another one, that brings it to the
// joining set before this one looks.
func (m *Mover) first(r *topology.Route) (unkai.NodeID, bool) {
	id, ok := topology.Sender(present(r), func(id unkai.NodeID) bool { return id == m.Self || id != 0 && m.Repairer.Alive(id) })
	return id, ok && id != m.Self
}

// wait takes those departures out that other present replicas are about to bring.
func (m *Mover) wait(ctx context.Context, top *topology.Topology, todo []departure) (now []departure) {
	others := map[unkai.NodeID][]departure{}
	for _, d := range todo {
		if id, ok := m.first(top.Route(d.bucket)); ok {
			others[id] = append(others[id], d)
		}
	}
	said := map[unkai.Bucket]prospect{}
	for _, id := range slices.Sorted(maps.Keys(others)) {
		m.Repairer.askPending(ctx, id, top, others[id], said)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range todo {
		p := said[d.bucket]
		if p == none || p == behind && lasts(&m.awaited, d.bucket, d.since) {
			now = append(now, d)
		}
	}
	return now
}

// prospect is whether a replica will bring a bucket.
type prospect uint8

const (
	none    prospect = iota
	pending          // it is about to
	behind           // it has not heard that the bucket is on its way
)

// askPending asks another replica which buckets it is about to bring. Of those of which it
// says nothing it brings none.
func (r *Repairer) askPending(ctx context.Context, to unkai.NodeID, top *topology.Topology, list []departure, said map[unkai.Bucket]prospect) {
	for part := range slices.Chunk(list, maxBuckets) {
		q := []byte{byte(askPending)}
		for _, d := range part {
			q = u32(u16(q, uint16(d.bucket)), uint32(top.Route(d.bucket).Epoch))
		}
		reply, err := r.ask(ctx, to, q)
		if err != nil {
			return
		}
		for i, yes := range reply[:min(len(reply), len(part))] {
			said[part[i].bucket] = prospect(yes)
		}
	}
}

func (r *Repairer) servePending(in *reader) ([]byte, error) {
	var out []byte
	top := r.Topology()
	for len(in.b) > 0 {
		b, e := in.bucket()
		if in.short || int(b) >= top.Buckets || len(out) >= maxBuckets {
			return nil, errShort
		}
		p := none
		switch at := top.Route(b).Epoch; {
		case at < e:
			p = behind
		case at == e && r.Pending != nil && r.Pending(b):
			p = pending
		}
		out = append(out, byte(p))
	}
	return out, nil
}

// alike takes those departures out of which all that join, and are alive or were no
// replicas before, hold durably just what this node does, and have forgotten as much: it
// settles them. One question to each tells it of all.
func (m *Mover) alike(ctx context.Context, top *topology.Topology, todo []departure) (left []departure) {
	own := make([]replica.Tree, len(todo))
	same := make([]quorum.Mask, len(todo))
	want := make([]quorum.Mask, len(todo))
	joining := map[unkai.NodeID][]int{}
	for i, d := range todo {
		route := top.Route(d.bucket)
		own[i] = m.Repairer.Replica.Tree(d.bucket)
		for j, id := range route.Members {
			switch {
			case !route.Write.Joining.Members.Has(j):
			case id == m.Self:
				same[i], want[i] = same[i].With(j), want[i].With(j)
			case id != 0 && m.Repairer.Alive(id):
				want[i] = want[i].With(j)
				joining[id] = append(joining[id], i)
			case !route.Write.Present.Members.Has(j):
				want[i] = want[i].With(j)
			}
		}
	}
	if err := m.Repairer.Replica.Durable(); err != nil {
		return todo // who brings them will say so
	}
	for _, id := range slices.Sorted(maps.Keys(joining)) {
		which := joining[id]
		for n, r := range m.Repairer.askWhole(ctx, id, top, todo, which) {
			if i := which[n]; r.known && r.root == own[i].Root && r.floor >= m.Repairer.Replica.Floor(todo[i].bucket) {
				same[i] = same[i].With(slices.Index(top.Route(todo[i].bucket).Members, id))
			}
		}
	}
	for i, d := range todo {
		route := top.Route(d.bucket)
		rule := quorum.Rule{Present: route.Write.Joining}
		seen := route.Since == d.since && own[i].Known && !own[i].Blind && !m.Repairer.Replica.Tree(d.bucket).Blind
		if _, err := m.allowed(d.bucket, d.since); err == nil && seen && same[i] == want[i] && rule.Enough(same[i]) {
			m.settled.Store(d.bucket, arrival{d.since, notCounted})
		} else {
			left = append(left, d)
		}
	}
	return left
}

// whole is what a replica holds of a bucket in all.
type whole struct {
	known bool
	root  uint64
	floor unkai.Ballot
}

// askWhole asks another member about some buckets; of those that it does not answer for
// nothing is known.
func (r *Repairer) askWhole(ctx context.Context, to unkai.NodeID, top *topology.Topology, list []departure, which []int) (out []whole) {
	for part := range slices.Chunk(which, maxBuckets) {
		q := []byte{byte(askWhole)}
		for _, i := range part {
			q = u32(u16(q, uint16(list[i].bucket)), uint32(top.Route(list[i].bucket).Epoch))
		}
		reply, err := r.ask(ctx, to, q)
		if err != nil || len(reply) != 17*len(part) {
			return out
		}
		for in := (reader{b: reply}); len(in.b) > 0; {
			out = append(out, whole{state(in.u8()) == stateOK, in.u64(), unkai.Ballot(in.u64())})
		}
	}
	return out
}

func (r *Repairer) serveWhole(in *reader) ([]byte, error) {
	var out []byte
	top := r.Topology()
	for n := 0; len(in.b) > 0; n++ {
		b, e := in.bucket()
		if in.short || int(b) >= top.Buckets || n >= maxBuckets {
			return nil, errShort
		}
		t, s := r.Replica.Tree(b), stateOK
		switch route := top.Route(b); {
		case route.Epoch != e || !slices.Contains(route.Members, r.Self):
			s = stateFenced
		case !t.Known:
			s = stateUnknown
		}
		out = u64(u64(append(out, byte(s)), t.Root), uint64(r.Replica.Forgot(b)))
	}
	return out, r.Replica.Durable() // what it holds must not be lost
}
