package node

import (
	"encoding/json"
	"testing"

	"unkai"
)

func TestAWordIsOfOneRun(t *testing.T) {
	var s sight
	expect := func(run uint64, known unkai.Epoch, want bool) {
		t.Helper()
		if got := s.serves(2, run, known); got != want {
			t.Errorf("run %d, with epoch %d known: %v", run, known, got)
		}
	}
	expect(1, 9, false) // it has said nothing
	s.said(2, word{run: 1, epoch: 5})
	expect(1, 9, false) // it does not serve yet
	s.said(2, word{run: 1, serves: true, epoch: 5})
	expect(1, 4, false) // it may be a new incarnation at 5
	expect(1, 5, true)
	s.said(2, word{run: 1, serves: true, epoch: 7})
	expect(1, 5, true) // it was whole at 5, and runs still
	expect(2, 9, false)
	expect(0, 9, false)
	s.said(2, word{run: 1, epoch: 7})
	expect(1, 9, false) // it is stopping
}

// Who is of an earlier build says nothing of that, and counts as there while it is connected.
func TestWhoSaysNothingCountsByItsConnection(t *testing.T) {
	for text, want := range map[string]word{
		`{"epoch":5,"book":null}`:                             {run: 7, serves: true, epoch: 5},
		`{"epoch":5,"book":null,"run":6,"serves":false}`:      {run: 6, epoch: 5},
		`{"epoch":5,"book":null,"run":6,"serves":true}`:       {run: 6, serves: true, epoch: 5},
		`{"epoch":5,"book":null,"serves":false}`:              {epoch: 5}, // it waits to be vouched for
		string(encoded(t, &hello{Run: 6, Serves: new(bool)})): {run: 6},
	} {
		var h hello
		if err := json.Unmarshal([]byte(text), &h); err != nil {
			t.Fatal(err)
		}
		if got := h.word(7); got != want {
			t.Errorf("%s: %+v, want %+v", text, got, want)
		}
	}
}

func encoded(t *testing.T, h *hello) []byte {
	t.Helper()
	b, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
