package sim_test

import (
	"testing"

	"unkai/internal/sim"
	"unkai/internal/store"
	"unkai/internal/store/storetest"
)

// The simulated disk keeps the contract that the real engines keep.
func TestEngine(t *testing.T) {
	storetest.Run(t, func(t *testing.T, opts storetest.Options) store.Engine {
		if opts.Limit != 0 {
			t.Skip("the simulated disk is never full")
		}
		return sim.Open(&sim.Disk{}, 1, nil)
	})
}
