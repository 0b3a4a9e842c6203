package storetest

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"unkai/internal/store"
)

// testScanRanges: what is scanned of some ranges is what a scan of everything shows of
// them, in whatever way the engine does it.
func testScanRanges(t *testing.T, open Open) {
	e := begin(t, open, Options{})
	all := fill(t, e, 3, 300)
	fill(t, e, 2, 20)
	fill(t, e, 4, 20)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		bounds := make([]uint64, 2*rng.IntN(6))
		for i := range bounds {
			bounds[i] = rng.Uint64()
			if rng.IntN(4) == 0 { // a range that begins or ends with a record
				bounds[i] = hashOf(keyN(rng.IntN(300)))
			}
		}
		slices.Sort(bounds)
		if bounds = slices.Compact(bounds); len(bounds)%2 == 1 {
			bounds = append(bounds, math.MaxUint64)
		}
		var ranges []store.Range
		want := contents{}
		for i := 0; i < len(bounds); i += 2 {
			ranges = append(ranges, store.Range{First: bounds[i], Last: bounds[i+1]})
			for k, rec := range all {
				if h := hashOf([]byte(k)); h >= bounds[i] && h <= bounds[i+1] {
					want[k] = rec
				}
			}
		}
		same(t, "some ranges", collect(t, store.ScanRanges(e, 3, ranges)), want)
	}
	for _, err := range store.ScanRanges(e, 3, []store.Range{{First: 0, Last: math.MaxUint64}}) {
		if err != nil {
			t.Fatal(err)
		}
		break // a scan may be left
	}
}
