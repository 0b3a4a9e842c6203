package topology

import (
	"slices"
	"testing"

	"unkai"
)

// A quorum of the joining set is not enough without the one that is new in it: it would
// count as a replica, and one that holds everything would forget it.
func TestABucketWaitsForWhoIsNewToIt(t *testing.T) {
	top, _ := attaching(t)
	top = sealed(t)(top.Proceed(nil, nil, top.Buckets, nil), nil)
	all, olds := []unkai.Seat{1, 2, 3, 4}, []unkai.Seat{1, 2, 3}
	joining := 0
	for b := range top.Sets {
		s, bucket := &top.Sets[b], unkai.Bucket(b)
		if !joins(s) {
			continue
		}
		joining++
		if !slices.Contains(s.Joining, 4) || !top.Arrived(bucket, olds) {
			t.Fatalf("bucket %d: %+v", b, s)
		}
		if top.Serves(bucket, olds) || !top.Serves(bucket, all) {
			t.Errorf("bucket %d is switched without node 4: %v, with it: %v", b, top.Serves(bucket, olds), top.Serves(bucket, all))
		}
		if !top.Serves(bucket, slices.DeleteFunc(slices.Clone(all), func(x unkai.Seat) bool { return x == s.Joining[0] && x != 4 })) {
			t.Errorf("bucket %d waits for one that has it already", b)
		}
	}
	if joining == 0 {
		t.Error("none is on its way")
	}
}
