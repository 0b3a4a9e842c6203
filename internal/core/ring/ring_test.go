package ring_test

import (
	"fmt"
	"testing"

	"unkai/internal/core/ring"
)

// Where a key lies is a format: these must never change.
func TestHashIsFrozen(t *testing.T) {
	for _, c := range []struct {
		seed   uint64
		key    string
		hash   uint64
		bucket int
	}{
		{0, "", 0x2d06800538d394c2, 180},
		{0, "cart:7", 0x7bf6fec8224656f3, 495},
		{1, "cart:7", 0x4bf1b11edb44e346, 303},
		{0x0123456789abcdef, "a key of somewhat more than thirty-two bytes", 0x7d1580ada4606263, 500},
	} {
		s := ring.NewSpace(c.seed, 1024)
		if got := s.Hash([]byte(c.key)); got != c.hash || int(s.Bucket(got)) != c.bucket {
			t.Errorf("{%#x, %q, %#x, %d}", c.seed, c.key, got, s.Bucket(got))
		}
	}
}

func TestBucketsShareTheSpace(t *testing.T) {
	for n := ring.MinBuckets; n <= ring.MaxBuckets; n *= 2 {
		s := ring.NewSpace(1, n)
		if first, last := s.Bucket(0), s.Bucket(^uint64(0)); first != 0 || int(last) != n-1 {
			t.Errorf("%d buckets: from %d to %d", n, first, last)
		}
	}
	s, count := ring.NewSpace(9, 16), [16]int{}
	for i := range 16000 {
		count[s.Bucket(s.Hash(fmt.Append(nil, "key", i)))]++
	}
	for b, n := range count {
		if n < 850 || n > 1150 {
			t.Errorf("bucket %d has %d of 16,000 keys", b, n)
		}
	}
}

func TestValidBuckets(t *testing.T) {
	for n, want := range map[int]bool{0: false, 8: false, 16: true, 1000: false, 1024: true, 65536: true, 131072: false, -16: false} {
		if ring.ValidBuckets(n) != want {
			t.Errorf("%d: %v", n, !want)
		}
	}
}
