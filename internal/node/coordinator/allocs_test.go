//go:build !race

package coordinator_test

import (
	"testing"
	"time"

	"unkai"
)

// Under the race detector sync.Pool forgets at random, so this is for builds
// without it.
func TestHotPathDoesNotAllocate(t *testing.T) {
	h := open(time.Minute)
	h.do(set("k", "value"))
	b := unkai.Batch{Ops: []unkai.Op{get("k"), get("absent"), get("k")}}
	if n := testing.AllocsPerRun(100, func() {
		b.Results, b.Values = b.Results[:0], b.Values[:0]
		h.Do(&b)
	}); n != 0 {
		t.Errorf("three gets: %v allocations", n)
	}
}
