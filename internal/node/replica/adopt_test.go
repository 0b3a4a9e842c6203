package replica_test

import (
	"testing"

	"unkai"
	"unkai/internal/node/replica"
)

func (h *house) adopt(t *testing.T, key, value string, b unkai.Ballot, under unkai.Epoch) *replica.Call {
	t.Helper()
	c := h.call(key)
	c.Ballot, c.Under = b, under
	if value != "" {
		c.Item = unkai.Item{Value: []byte(value), CAS: uint64(b)}
	}
	if !h.Adopt(c) {
		t.Fatal("a memory store answers at once")
	}
	return c
}

// An adopted record is an accept that comes late, and no more than that.
func TestAdopt(t *testing.T) {
	h := open(t)
	flush := h.top.Load().Flush() // epoch 2
	if err := flush.Seal(); err != nil {
		t.Fatal(err)
	}
	h.top.Store(&flush)
	want := func(key, value string, at unkai.Ballot, under unkai.Epoch) {
		t.Helper()
		c := h.read(t, key)
		if string(c.Buf) != value || c.Found.Record.Ballot != at || c.Found.Record.Epoch != under {
			t.Errorf("%s: %q at %v of epoch %d, want %q at %v of epoch %d", key, c.Buf, c.Found.Record.Ballot, c.Found.Record.Epoch, value, at, under)
		}
	}
	if c := h.adopt(t, "k", "a", ballot(5), 2); c.Status != replica.OK || !c.Adopted {
		t.Fatalf("%+v", c)
	}
	want("k", "a", ballot(5), 2)
	for _, b := range []uint64{4, 5} {
		if c := h.adopt(t, "k", "old", ballot(b), 2); c.Status != replica.OK || c.Adopted {
			t.Errorf("ballot %d again: %+v", b, c)
		}
	}
	if c := h.adopt(t, "k", "b", ballot(9), 1); c.Status != replica.OK || c.Adopted {
		t.Errorf("a record of a flushed epoch: %+v", c)
	}
	p := h.call("k")
	p.Ballot = ballot(20)
	if h.Prepare(p); p.Status != replica.OK {
		t.Fatalf("%+v", p)
	}
	if c := h.adopt(t, "k", "b", ballot(19), 2); c.Status != replica.Refused || c.Seen != ballot(20) {
		t.Errorf("below a promise: %+v", c)
	}
	want("k", "a", ballot(5), 2)
	if c := h.adopt(t, "k", "c", ballot(20), 2); c.Status != replica.OK || !c.Adopted {
		t.Errorf("at the promise: %+v", c)
	}
	if c := h.adopt(t, "k", "", ballot(21), 2); !c.Adopted {
		t.Errorf("a tombstone: %+v", c)
	}
	old := h.call("k")
	old.Epoch, old.Ballot, old.Under = 1, ballot(30), 1
	if h.Adopt(old); old.Status != replica.Fenced {
		t.Errorf("under the bucket's old epoch: %+v", old)
	}
}

// What an epoch that has passed has left is adopted, but never instead of something
// later, whatever the ballots are.
func TestAdoptOfAnEarlierEpoch(t *testing.T) {
	h := open(t)
	top := *h.top.Load()
	top.Epoch = 3
	top.Sets = append(top.Sets[:0:0], top.Sets...)
	for b := range top.Sets {
		top.Sets[b].Epoch = 3
	}
	if err := top.Seal(); err != nil {
		t.Fatal(err)
	}
	h.top.Store(&top)
	if c := h.adopt(t, "k", "a", ballot(50), 2); !c.Adopted {
		t.Errorf("of an earlier epoch: %+v", c)
	}
	if c := h.adopt(t, "k", "b", ballot(60), 3); !c.Adopted {
		t.Errorf("of this epoch: %+v", c)
	}
	if c := h.adopt(t, "k", "c", ballot(70), 2); c.Status != replica.OK || c.Adopted {
		t.Errorf("of an earlier epoch, with a higher ballot: %+v", c)
	}
	h.adopt(t, "l", "a", ballot(90), 2)
	if c := h.adopt(t, "l", "b", ballot(80), 3); c.Status != replica.Refused {
		t.Errorf("of a later epoch, below what was promised: %+v", c)
	}
}
