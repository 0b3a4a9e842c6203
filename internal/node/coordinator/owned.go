package coordinator

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"unkai"
	"unkai/internal/core/register"
)

// What a coordinator remembers of the keys whose last item it had chosen: the
// replicas that accepted it have promised it the next ballot, so the next change
// needs no promises first. It forgets when it needs the room, and pays with
// one round trip.

// owned is one such key, by its hash.
type owned struct {
	hash   uint64
	ballot unkai.Ballot
	epoch  unkai.Epoch
}

const ownedPerStripe = 32

func (s *stripe) slot(hash uint64) *owned {
	if s.owned == nil {
		s.owned = new([ownedPerStripe]owned)
	}
	return &s.owned[bits.RotateLeft64(hash, 24)%ownedPerStripe]
}

// own remembers, under the stripe's lock, that a ballot was chosen.
func (s *stripe) own(hash uint64, e unkai.Epoch, b unkai.Ballot) {
	*s.slot(hash) = owned{hash, b, e}
}

// disown forgets it, and that counters up to that of b may have been used for
// some key of the stripe without anybody here knowing.
func (s *stripe) disown(hash uint64, b unkai.Ballot) {
	if o := s.slot(hash); o.hash == hash {
		*o = owned{}
	}
	s.floor = max(s.floor, b.Counter())
}

// owns reports whether what a replica holds is what was chosen last, with the
// promises that went with it.
func (s *stripe) owns(hash uint64, e unkai.Epoch, local register.State) bool {
	if s.owned == nil {
		return false
	}
	o := s.slot(hash)
	return o.ballot != 0 && *o == owned{hash, local.Accepted, e} && local.Promised == o.ballot.Heir()
}

// clockCounter is a counter that rises with the clock. A coordinator whose own
// replica has missed what another one did lately so comes above it all the same,
// if their clocks are not far apart, and need not try twice. Nothing but that
// rests on clocks.
func clockCounter(now int64) uint64 {
	const (
		since = 1_704_067_200_000 // the beginning of 2024
		unit  = 16                // milliseconds in which the counter rises by a stride
		most  = 1 << 47           // however wrong the clock is: half of all counters
	)
	return min(uint64(max(now-since, 0))/unit*unkai.Stride, most)
}

// reservation hands out counters that no earlier life of this node has used.
type reservation struct {
	upTo atomic.Uint64
	mu   sync.Mutex
	save func(uint64) error
}

// reserveStep is how many counters are reserved at a time, so that even the
// hottest key seldom waits for it.
const reserveStep = 1 << 20 * unkai.Stride

// use makes sure that a ballot's counter is reserved.
func (r *reservation) use(b unkai.Ballot) error {
	if b.Counter() <= r.upTo.Load() {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if b.Counter() <= r.upTo.Load() {
		return nil
	}
	next := b.Counter() + reserveStep
	if err := r.save(next); err != nil {
		return err
	}
	r.upTo.Store(next)
	return nil
}
