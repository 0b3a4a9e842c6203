package antientropy

import (
	"context"

	"unkai"
	"unkai/internal/core/topology"
)

// first is the present replica of a bucket, if it is another one, that brings it to the
// joining set before this one looks: the first that is alive.
func (m *Mover) first(r *topology.Route) (unkai.NodeID, bool) {
	for _, id := range present(r) {
		if id == m.Self {
			break
		}
		if id != 0 && m.Repairer.Alive(id) {
			return id, true
		}
	}
	return 0, false
}

// wait takes those departures out that other present replicas are about to bring.
func (m *Mover) wait(ctx context.Context, top *topology.Topology, todo []departure) (now []departure) {
	others := map[unkai.NodeID][]departure{}
	for _, d := range todo {
		if id, ok := m.first(top.Route(d.bucket)); ok {
			others[id] = append(others[id], d)
		}
	}
	pending := map[unkai.Bucket]bool{}
	for id, list := range others {
		m.Repairer.askPending(ctx, id, list, pending)
	}
	for _, d := range todo {
		if !pending[d.bucket] {
			now = append(now, d)
		}
	}
	return now
}

// askPending asks another replica which buckets it is about to bring. Of those of which it
// says nothing it brings none.
func (r *Repairer) askPending(ctx context.Context, to unkai.NodeID, list []departure, pending map[unkai.Bucket]bool) {
	q := []byte{byte(askPending)}
	for _, d := range list[:min(len(list), maxBuckets)] {
		q = u32(u16(q, uint16(d.bucket)), uint32(d.since))
	}
	reply, err := r.ask(ctx, to, q)
	if err != nil {
		return
	}
	for i, yes := range reply[:min(len(reply), len(list))] {
		pending[list[i].bucket] = yes != 0
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
		pending := byte(0)
		if top.Route(b).Epoch == e && r.Pending != nil && r.Pending(b) {
			pending = 1
		}
		out = append(out, pending)
	}
	return out, nil
}
