package antientropy

import (
	"context"
	"log/slog"
	"time"

	"unkai"
	"unkai/internal/core/topology"
	"unkai/internal/node/replica"
)

// Healer has damaged records of this node replaced by what the other replicas hold. It
// asks the managers for a new epoch of their buckets, so that nobody relies any more on
// what this replica has forgotten, and then has a round at each of the keys; see
// docs/decisions/0019. Set the fields, then Run.
type Healer struct {
	Self     unkai.NodeID
	Topology func() *topology.Topology
	Replica  *replica.Local
	// Settle has a round at a key, and tells which ballot was promised for that.
	Settle func(key []byte) (unkai.Ballot, error)
	// Renew has buckets get a new epoch.
	Renew func(ctx context.Context, r []topology.Renewal) error
	Log   *slog.Logger

	due    time.Time // when a new epoch may be asked for
	pause  time.Duration
	at     int // with which wound it goes on
	moves  map[unkai.Bucket]move
	warned bool
}

const (
	// healEvery is how often it is looked for damage that was noticed.
	healEvery = time.Second
	// healGather is how long damage that was noticed waits, so that one new epoch serves
	// for all that is found with it.
	healGather = 2 * time.Second
	// healPause is how long it waits for the next new epoch, twice as long each time, up
	// to healRare: a disk that goes on falling apart must not keep the managers busy.
	healPause = 10 * time.Second
	healRare  = 10 * time.Minute
	// healMoves is for how long a bucket on its way is left alone that others bring: to have
	// a new epoch it would be sent back, and is to get one when it has arrived. Others may be
	// damaged, too, so that it never does.
	healMoves = time.Minute
	// healWork is for how long keys are settled before others have their turn.
	healWork = time.Second
)

// move is that a bucket with something damaged is on its way: since which epoch, and since
// when that is known.
type move struct {
	since unkai.Epoch
	seen  time.Time
}

// Run heals until the context ends.
func (h *Healer) Run(ctx context.Context) {
	tick := time.NewTicker(healEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		h.Step(ctx)
	}
}

// Step does what can be done now.
func (h *Healer) Step(ctx context.Context) {
	wounds := h.Replica.Wounds()
	if len(wounds) == 0 {
		h.due, h.pause, h.at, h.moves = time.Time{}, 0, 0, nil
		return
	}
	if h.Replica.Overwhelmed() && !h.warned {
		h.warned = true
		h.Log.Error("so many records are damaged that this disk should be given up: stop the node, empty its store, start it again", "records", len(wounds))
	}
	top := h.Topology()
	var renewals []topology.Renewal
	var ready []replica.Wound
	moves := map[unkai.Bucket]move{}
	for _, w := range wounds {
		switch route := top.Route(w.Bucket); {
		case len(route.Members) == 1: // there is nobody else who has it
		case w.Epoch < route.Epoch:
			ready = append(ready, w)
		case route.Joining && h.arrives(top, w.Bucket, moves): // and then has a new epoch
		case len(renewals) == 0 || renewals[len(renewals)-1].Bucket != w.Bucket:
			renewals = append(renewals, topology.Renewal{Bucket: w.Bucket, Epoch: w.Epoch})
		}
	}
	h.moves = moves
	if len(renewals) > 0 {
		h.renew(ctx, renewals)
	}
	h.heal(ctx, top, ready)
}

// arrives reports whether others may be expected to bring a bucket to where it is on its
// way, and notes that in moves.
func (h *Healer) arrives(top *topology.Topology, b unkai.Bucket, moves map[unkai.Bucket]move) bool {
	m, ok := h.moves[b]
	if since := top.Route(b).Since; !ok || m.since != since {
		m = move{since, time.Now()}
	}
	moves[b] = m
	return time.Since(m.seen) < healMoves && top.Spares(b, h.Self)
}

// renew asks for a new epoch, when it is time.
func (h *Healer) renew(ctx context.Context, renewals []topology.Renewal) {
	now := time.Now()
	if h.due.IsZero() {
		h.due = now.Add(healGather)
	}
	if now.Before(h.due) {
		return
	}
	h.pause = min(max(2*h.pause, healPause), healRare)
	h.due = now.Add(h.pause)
	if err := h.Renew(ctx, renewals); err != nil && ctx.Err() == nil {
		h.Log.Warn("damaged records cannot be healed yet: the managers could not renew the epoch of their buckets; it will be tried again", "buckets", len(renewals), "err", err)
	}
}

// heal has rounds at keys that may be healed.
func (h *Healer) heal(ctx context.Context, top *topology.Topology, ready []replica.Wound) {
	began := time.Now()
	for range ready {
		if ctx.Err() != nil || time.Since(began) > healWork {
			return
		}
		w := ready[h.at%len(ready)]
		h.at++
		if err := h.healOne(top, w); err != nil {
			h.Log.Debug("a damaged record cannot be healed yet; it will be tried again", "key", w.Key, "err", err)
		}
	}
}

// healOne has a round at a key. After it this replica holds what is chosen; or nothing is
// held anywhere, and then what is damaged can be forgotten.
func (h *Healer) healOne(top *topology.Topology, w replica.Wound) error {
	key := []byte(w.Key)
	promised, err := h.Settle(key)
	if err != nil {
		return err
	}
	return h.Replica.Bury(w, top.Space().Hash(key), top.Route(w.Bucket).Epoch, promised)
}
