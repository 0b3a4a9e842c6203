package bench

import (
	"math"
	"testing"
)

func TestZipfIsZipf(t *testing.T) {
	const draws = 400_000
	for _, keys := range []int{1, 2, 10, 1000} {
		z := newZipf(keys)
		l := Defaults()
		p := newPicker(&l, z, 0)
		counts := make([]float64, keys)
		for range draws {
			counts[z.rank(&p.rng)-1]++
		}
		sum := 0.0
		for r := range counts {
			sum += math.Pow(float64(r+1), -zipfExponent)
		}
		for r, n := range counts {
			want := draws * math.Pow(float64(r+1), -zipfExponent) / sum
			// Six standard deviations: the seed is fixed anyway.
			if math.Abs(n-want) > 6*math.Sqrt(want)+1 {
				t.Errorf("%d keys, rank %d: drawn %.0f times, want about %.0f", keys, r+1, n, want)
			}
		}
	}
}

func TestZipfReachesEveryKeyOnce(t *testing.T) {
	for _, keys := range []uint64{1, 2, 3, 10, 97, 1000, 65536} {
		stride, seen := coprime(keys), map[uint64]bool{}
		for rank := range keys {
			seen[rank*stride%keys] = true
		}
		if len(seen) != int(keys) {
			t.Errorf("%d keys: %d were reached", keys, len(seen))
		}
	}
}

func TestPicker(t *testing.T) {
	l := Defaults()
	l.Keys, l.MinValue, l.MaxValue, l.Connections = 1000, 10, 20, 4
	for _, reads := range []float64{0, 0.5, 90, 100} {
		l.Reads = reads
		p := newPicker(&l, nil, 3)
		gets, sizes, keys := 0.0, map[int]bool{}, map[uint64]bool{}
		const draws = 20_000
		for range draws {
			if p.kind() == get {
				gets++
			}
			sizes[p.size()], keys[p.key()] = true, true
		}
		want := draws * reads / 100
		if d := math.Abs(gets - want); d > 6*math.Sqrt(want*(100-reads)/100) {
			t.Errorf("%g %% reads: %.0f of %d were gets", reads, gets, draws)
		}
		if len(sizes) != 11 || !sizes[10] || !sizes[20] {
			t.Errorf("sizes were %v, want all from 10 to 20", sizes)
		}
		if len(keys) != 1000 {
			t.Errorf("%d of 1000 keys were asked for", len(keys))
		}
	}
}

func TestPickerInOrder(t *testing.T) {
	l := Defaults()
	l.Keys, l.Connections, l.Distribution = 10, 2, Sequential
	p := newPicker(&l, nil, 1)
	for i := range 20 {
		if got, want := p.key(), uint64((5+i)%10); got != want {
			t.Fatalf("key %d is %d, want %d", i, got, want)
		}
	}
}

func TestPickerRepeatsItself(t *testing.T) {
	l := Defaults()
	sequence := func(seed uint64, conn int) (ids [8]uint64) {
		l.Seed = seed
		p := newPicker(&l, newZipf(l.Keys), conn)
		for i := range ids {
			ids[i] = p.key()
		}
		return ids
	}
	if first, again := sequence(1, 1), sequence(1, 1); first != again {
		t.Error("the same seed gave two sequences")
	}
	if sequence(1, 1) == sequence(2, 1) || sequence(1, 1) == sequence(1, 2) {
		t.Error("seeds or connections share a sequence")
	}
}
