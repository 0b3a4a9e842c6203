package steward

import (
	"context"
	"slices"
	"sync"
	"time"

	"unkai"
	"unkai/internal/core/topology"
)

// stayLimit is how long a drained node is waited for when it is asked whether it stays.
const stayLimit = 5 * time.Second

// farewell reports whether nodes that are to be removed, since they hold nothing any
// more, should stay for a while: one that is alive has clients, or has not heard yet
// that it holds nothing. It is a member until then, so it goes on following the topology
// and passing on what it is asked.
func (s *Steward) farewell(ctx context.Context, top *topology.Topology) bool {
	leavers := s.leavers(top)
	if time.Since(s.stayed) >= s.cfg.Farewell {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, stayLimit)
	defer cancel()
	stays := make([]bool, len(leavers))
	var wg sync.WaitGroup
	for i, id := range leavers {
		if s.cfg.Nodes.Here(id) {
			wg.Go(func() { stays[i] = s.cfg.Nodes.Stays(ctx, id, top.Epoch) })
		}
	}
	wg.Wait()
	return slices.Contains(stays, true)
}

// leavers are the nodes that are to be removed when nothing else moves any more. Every
// steward notes since when, whether it works or not, so that who comes to work goes on with
// the count of the one before.
func (s *Steward) leavers(top *topology.Topology) []unkai.NodeID {
	leavers := top.Departing()
	if len(leavers) > 0 && top.Moving() > 0 {
		leavers = nil // not yet
	}
	if !slices.Equal(leavers, s.emptied) {
		s.emptied, s.stayed = leavers, time.Now()
	}
	return leavers
}
