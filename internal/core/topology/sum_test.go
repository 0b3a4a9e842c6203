package topology

import (
	"testing"

	"unkai"
)

// Sets that differ by where a list ends, and by the epoch, have
// different numbers.
func TestSetsHaveDifferentHashes(t *testing.T) {
	a := Set{Epoch: 4, Replicas: []unkai.Seat{3, 5, 2}, Joining: []unkai.Seat{4}}
	b := Set{Epoch: 5, Replicas: []unkai.Seat{3, 5}, Joining: []unkai.Seat{1, 4}}
	if a.hash() == b.hash() {
		t.Errorf("%+v and %+v: %x", a, b, a.hash())
	}
}
