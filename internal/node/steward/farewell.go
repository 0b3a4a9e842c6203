package steward

import (
	"context"
	"slices"
	"sync"
	"time"

	"unkai/internal/core/topology"
)

// stayLimit is how long a drained node is waited for when it is asked whether it stays.
const stayLimit = 5 * time.Second

// farewell reports whether nodes that are to be removed, since they hold nothing any
// more, should stay for a while: one that is alive has clients, or has not heard yet
// that it holds nothing. It is a member until then, so it goes on following the topology
// and passing on what it is asked.
func (s *Steward) farewell(ctx context.Context, top *topology.Topology) bool {
	leavers := top.Departing()
	if !slices.Equal(leavers, s.emptied) {
		s.emptied, s.stayed = leavers, time.Now()
	}
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
