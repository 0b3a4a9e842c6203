package memory

import (
	"errors"
	"testing"

	"unkai/internal/store"
)

// hurt is an engine with two keys, and how to flip bits of what the first is
// kept in.
type hurt struct {
	*Engine
	key, other []byte
	places     map[string][]byte
}

func newHurt(t *testing.T, r store.Record) *hurt {
	t.Helper()
	h := &hurt{Engine: open(t, Config{Buckets: 1, Limit: MinLimit}), key: []byte("the key"), other: []byte("another key")}
	putNew(t, h.Engine, 0, h.other, []byte("its value"))
	w := &store.Write{Hash: hashOf(h.key), Key: h.key, Record: r, Done: quiet{}}
	if h.Write(w); w.Err != nil {
		t.Fatal(w.Err)
	}
	p, s, tag := h.locate(0, hashOf(h.key))
	at, f := s.find(p, tag, 0, h.key)
	if f != present {
		t.Fatal("not found")
	}
	h.places = map[string][]byte{"record": at.head.slot, "entry": s.at(at.t.loc)[8*at.i : 8*at.i+8]}
	if at.head.inPieces() {
		h.places["piece"] = s.at(le32(at.head.slot[layout{fields: at.head.fields}.piecesAt()+4:]))[:pieceLen(at.head.length)]
	}
	return h
}

// check compares the counts with a scan, and reports whether that met damage.
func (h *hurt) check(t *testing.T) (damaged bool) {
	t.Helper()
	var c counts
	for en, err := range h.Scan(0) {
		switch {
		case errors.Is(err, store.ErrDamaged):
			damaged = true
		case err != nil:
			t.Fatal(err)
		default:
			c.add(countOf(en.Record.Kind(), len(en.Key)+len(en.Record.Item.Value)))
		}
	}
	st := h.Stats()
	if got := (counts{st.Items, st.Tombstones, st.Promises, st.Bytes}); got != c {
		t.Fatalf("counts are %+v, a scan finds %+v", got, c)
	}
	if f, err := h.Head(0, hashOf(h.other), h.other); err != nil || f.Size != len("its value") {
		t.Fatalf("the other key has %+v, %v", f, err)
	}
	return damaged
}

func (h *hurt) heal(value []byte) error {
	w := write(0, h.key, 0, 9<<16, value)
	w.Heal = true
	h.Write(w)
	return w.Err
}

// TestHeal: whatever bit is flipped, the record can be replaced or removed, and
// nothing else changes.
func TestHeal(t *testing.T) {
	records := map[string]store.Record{
		"item":      write(0, nil, 0, 1<<16, []byte("a value")).Record,
		"long item": write(0, nil, 0, 1<<16, make([]byte, 20_000)).Record,
		"tombstone": {Ballot: 3 << 16, Promise: 5<<16 | 1, Tombstone: true},
		"promise":   {Promise: 7<<16 | 1},
	}
	for name, r := range records {
		for place, mem := range newHurt(t, r).places {
			t.Run(name+", "+place, func(t *testing.T) {
				step := 1 + len(mem)/200*31
				for bit := 0; bit < 8*len(mem); bit += step {
					testHeal(t, r, place, bit)
					if t.Failed() {
						t.Fatalf("at bit %d", bit)
					}
				}
			})
		}
	}
}

func testHeal(t *testing.T, r store.Record, place string, bit int) {
	for _, value := range [][]byte{nil, []byte("short"), make([]byte, 30_000)} {
		h := newHurt(t, r)
		h.places[place][bit/8] ^= 1 << (bit % 8)
		if _, err := get(h.Engine, 0, h.key); err == nil { // it is about access
			if err := h.heal(value); !errors.Is(err, store.ErrConflict) {
				t.Errorf("healing what is well gives %v", err)
			}
		} else if err := h.heal(value); err != nil {
			t.Errorf("healing gives %v", err)
		} else if got, err := get(h.Engine, 0, h.key); err != nil || got.Ballot != 9<<16 || len(got.Item.Value) != len(value) {
			t.Errorf("after healing there is %v, %v", got.Ballot, err)
		} else if err := h.heal(value); !errors.Is(err, store.ErrConflict) {
			t.Errorf("healing again gives %v", err)
		}
		// What an entry of the index was nobody can tell.
		if h.check(t) != (place == "entry") {
			t.Error("damage is left, or is not told of")
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
	h := newHurt(t, r)
	defer func() { _ = h.Close() }()
	h.places[place][bit/8] ^= 1 << (bit % 8)
	_, before := get(h.Engine, 0, h.key)
	if err := h.Purge(0, hashOf(h.key), h.key, 1); err == nil {
		t.Error("purged at another ballot")
	}
	err := h.Purge(0, hashOf(h.key), h.key, 0)
	f, after := h.Head(0, hashOf(h.key), h.key)
	switch {
	case before == nil:
	case place == "entry":
		if !errors.Is(err, store.ErrDamaged) || !errors.Is(after, store.ErrDamaged) {
			t.Errorf("purge gives %v, and then there is %+v, %v", err, f, after)
		}
	case err != nil || after != nil || f.Record.Kind() != store.KindNone:
		t.Errorf("purge gives %v, and then there is %+v, %v", err, f, after)
	}
	h.check(t)
}

// TestDamagedAlone: a bucket in which all that is left is damaged is not empty.
func TestDamagedAlone(t *testing.T) {
	h := newHurt(t, write(0, nil, 0, 1<<16, nil).Record)
	defer func() { _ = h.Close() }()
	h.places["entry"][7] ^= 1
	if err := h.Purge(0, hashOf(h.key), h.key, 0); !errors.Is(err, store.ErrDamaged) {
		t.Fatal(err)
	}
	if err := h.Purge(0, hashOf(h.other), h.other, 1<<16); err != nil {
		t.Fatal(err)
	}
	if _, err := get(h.Engine, 0, h.key); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("unknown became %v", err)
	}
	some := false
	for _, err := range h.Scan(0) {
		some = some || errors.Is(err, store.ErrDamaged)
	}
	if !some {
		t.Error("a scan finds nothing")
	}
	if err := h.Drop(0); err != nil {
		t.Fatal(err)
	}
	if _, err := get(h.Engine, 0, h.key); err != nil {
		t.Errorf("after a drop: %v", err)
	}
}
