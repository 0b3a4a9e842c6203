package antientropy

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"unkai"
	"unkai/internal/core/merkle"
	"unkai/internal/core/quorum"
	"unkai/internal/core/topology"
	"unkai/internal/store"
)

// newcomers are the members that join a bucket's replicas and were none.
func newcomers(r *topology.Route) quorum.Mask {
	return r.Write.Joining.Members &^ r.Write.Present.Members
}

// misses reports whether a newcomer to a bucket is away.
func (r *Repairer) misses(route *topology.Route) bool {
	fresh := newcomers(route)
	for i, id := range route.Members {
		if fresh.Has(i) && id != r.Self && (id == 0 || !r.Alive(id)) {
			return true
		}
	}
	return false
}

// unsettled is a key of which only a round can tell what is chosen.
type unsettled struct {
	hash   uint64
	key    []byte
	ballot unkai.Ballot // of what this node held before the round
	whom   quorum.Mask  // the newcomers that may lack it
}

// settleNodes has a round for each key below some nodes.
func (c *bringer) settleNodes(ctx context.Context, s *survey, nodes []uint32) error {
	if len(nodes) == 0 {
		return nil
	}
	in := setOf(nodes)
	fresh := newcomers(c.route)
	var batched []unsettled
	var failed error
	waiting := 0
	flush := func() bool {
		if failed = c.settleKeys(ctx, batched); failed == nil {
			failed = c.pay(ctx, waiting)
		}
		c.moved += int64(len(batched))
		batched, waiting = nil, 0
		return failed == nil
	}
	err := c.Replica.Each(c.b, func(e *store.Entry) bool {
		n := merkle.Node(e.Hash, c.skip, s.level)
		if _, ok := in[n]; !ok {
			return true
		}
		batched = append(batched, unsettled{e.Hash, slices.Clone(e.Key), e.Record.Ballot, c.lacking(s, s.equal(n)) & fresh})
		waiting += len(e.Key) + len(e.Record.Item.Value)
		return len(batched) < batch && waiting < batchBytes || flush()
	})
	if err == nil && failed == nil {
		flush()
	}
	return errors.Join(err, failed)
}

// settleKeys has a round for each key. A round that finds something chosen changes nothing,
// and newcomers that were away when that was accepted lack it: they are brought it. It is
// what this node held before and still holds after, or else what is chosen has another
// ballot, and the newcomers were asked to accept that, too.
func (c *bringer) settleKeys(ctx context.Context, batched []unsettled) error {
	keys := make([][]byte, len(batched))
	for i := range batched {
		keys[i] = batched[i].key
	}
	if err := c.settle(keys); err != nil {
		return err
	}
	c.heard = nil // there are no more looks
	p := c.parcels()
	var failed error
	for i := range batched {
		u := &batched[i]
		if u.whom == 0 || u.ballot == 0 || failed != nil {
			continue
		}
		f, _, err := c.Replica.Get(c.b, u.hash, u.key, nil)
		if errors.Is(err, store.ErrDamaged) {
			continue // the healer's
		}
		if err != nil {
			return fmt.Errorf("read what a round was about: %w", err)
		}
		if f.Record.Ballot == u.ballot && p.add(u.whom, &store.Entry{Hash: u.hash, Key: u.key, Record: f.Record}) {
			failed = p.send(ctx, false)
		}
	}
	if failed == nil {
		failed = p.send(ctx, true)
	}
	p.done(failed)
	return failed
}
