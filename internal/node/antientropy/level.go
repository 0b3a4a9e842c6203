package antientropy

import (
	"context"
	"slices"
	"sync"

	"unkai"
	"unkai/internal/node/replica"
)

// Level says of which tombstones that this node holds all other replicas of the bucket
// are level with: they durably hold nothing of the key that comes before it, and never
// will again. None is while one of them does not answer in the bucket's present epoch,
// or the bucket is on its way. Of the others it says what they wait for.
func (r *Repairer) Level(ctx context.Context, b unkai.Bucket, gone []replica.Gone) []replica.Hold {
	all := func(h replica.Held, id unkai.NodeID) []replica.Hold {
		return slices.Repeat([]replica.Hold{{Held: h, Node: id}}, len(gone))
	}
	route := r.Topology().Route(b)
	if route.Moving || !slices.Contains(route.Members, r.Self) {
		return all(replica.HeldMove, 0)
	}
	for _, id := range route.Members {
		if id == 0 {
			return all(replica.HeldLost, 0)
		}
		if id != r.Self && !r.Alive(id) {
			return all(replica.HeldAway, id) // do not ask the others in vain
		}
	}
	answers := make([][]bool, len(route.Members))
	var wg sync.WaitGroup
	for i, id := range route.Members {
		if id != r.Self {
			wg.Go(func() { answers[i] = r.askLevel(ctx, id, b, route.Epoch, gone) })
		}
	}
	wg.Wait()
	if r.Topology().Route(b).Epoch != route.Epoch {
		return all(replica.HeldMove, 0)
	}
	level := all(replica.NotHeld, 0)
	for i, id := range route.Members {
		for k := range level {
			switch {
			case id == r.Self || level[k].Held != replica.NotHeld:
			case k >= len(answers[i]):
				level[k] = replica.Hold{Held: replica.HeldSilent, Node: id}
			case !answers[i][k]:
				level[k] = replica.Hold{Held: replica.HeldOther, Node: id}
			}
		}
	}
	return level
}

// askLevel asks one replica; what it does not answer is missing at the end.
func (r *Repairer) askLevel(ctx context.Context, to unkai.NodeID, b unkai.Bucket, e unkai.Epoch, gone []replica.Gone) (level []bool) {
	for part := range slices.Chunk(gone, maxKeys) {
		q := u32(about(askLevel, b, e), uint32(len(part)))
		for _, g := range part {
			q = appendKey(u32(u64(u64(q, g.Hash), uint64(g.Ballot)), uint32(g.Epoch)), g.Key)
		}
		reply, err := r.ask(ctx, to, q)
		if err != nil || len(reply) != 1+len(part) || state(reply[0]) != stateOK {
			return level // it does not hold the bucket in this epoch, or is away: another time
		}
		for _, yes := range reply[1:] {
			level = append(level, yes != 0)
		}
	}
	return level
}

func (r *Repairer) serveLevel(in *reader, b unkai.Bucket) ([]byte, error) {
	gone := make([]replica.Gone, in.list(21, maxKeys))
	for i := range gone {
		gone[i] = replica.Gone{Hash: in.u64(), Ballot: unkai.Ballot(in.u64()), Epoch: unkai.Epoch(in.u32()), Key: in.key()}
	}
	if err := in.end(); err != nil {
		return nil, err
	}
	out := []byte{byte(stateOK)}
	for i := range gone {
		level := byte(0)
		if r.Replica.Level(b, &gone[i]) {
			level = 1
		}
		out = append(out, level)
	}
	if err := r.Replica.Durable(); err != nil { // the one who asks will rely on it
		return nil, err
	}
	return out, nil
}
