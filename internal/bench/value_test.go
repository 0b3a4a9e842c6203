package bench

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

func TestValuesMatchTheirKeyOnly(t *testing.T) {
	v, other := newValues(1), newValues(2)
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.Uint64Range(0, MaxKeys).Draw(t, "id")
		size := rapid.IntRange(1, 5000).Draw(t, "size")
		b := v.append([]byte("x"), id, size)[1:]
		if len(b) != size {
			t.Fatalf("%d bytes, want %d", len(b), size)
		}
		from := rapid.IntRange(0, size-1).Draw(t, "from")
		to := rapid.IntRange(from, size).Draw(t, "to")
		if !v.matches(id, from, b[from:to]) {
			t.Fatalf("bytes %d to %d of a value do not match it", from, to)
		}
		if size >= 8 && (v.matches(id+1, 0, b) || other.matches(id, 0, b) || v.matches(id, 1, b)) {
			t.Fatal("a value matches another key, seed or place")
		}
		if !bytes.Equal(b, v.append(nil, id, size+9)[:size]) {
			t.Fatal("a shorter value is not the beginning of a longer one")
		}
		b[from] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if v.matches(id, 0, b) {
			t.Fatal("a flipped bit was not noticed")
		}
	})
}
