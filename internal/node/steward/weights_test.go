package steward

import "testing"

// What somebody has counted is known, the most of it, whoever has not.
func TestWeights(t *testing.T) {
	w := weights{}
	w.note(1, -1)
	w.note(1, 5)
	w.note(1, 7)
	w.note(1, -1)
	w.note(1, 6)
	w.note(2, -1)
	w.note(3, 0)
	if w.of(1) != 7 || w.of(2) >= 0 || w.of(3) != 0 || w.of(4) >= 0 {
		t.Errorf("%v", w)
	}
}
