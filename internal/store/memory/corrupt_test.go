package memory

import (
	"errors"
	"fmt"
	"testing"

	"unkai"
	"unkai/internal/store"
)

// putNew writes a record that is not there yet.
func putNew(t testing.TB, e *Engine, b unkai.Bucket, key []byte, value []byte) {
	t.Helper()
	w := write(b, key, 0, 1<<16, value)
	if e.Write(w); w.Err != nil {
		t.Fatalf("write of %q: %v", key, w.Err)
	}
}

// write is a write of an ordinary record.
func write(b unkai.Bucket, key []byte, expect, ballot unkai.Ballot, value []byte) *store.Write {
	return &store.Write{
		Bucket: b, Hash: hashOf(key), Key: key, Expect: expect, Promised: expect, Done: quiet{},
		Record: store.Record{
			Ballot: ballot, Promise: ballot, Epoch: 1,
			Item: unkai.Item{Value: value, CAS: uint64(ballot)},
		},
	}
}

// hashOf stands for the hash of the ring.
func hashOf(key []byte) uint64 {
	h := uint64(len(key))
	for _, c := range key {
		h = mix(h ^ uint64(c)<<7)
	}
	return h
}

func get(e *Engine, b unkai.Bucket, key []byte) (store.Record, error) {
	f, _, err := e.Get(b, hashOf(key), key, nil, store.NoAccess)
	return f.Record, err
}

// TestFlippedBits flips every bit of a record, of its pieces and of its table,
// one after the other: the key is damaged, or all is as it was, but never
// absent and never wrong.
func TestFlippedBits(t *testing.T) {
	for _, size := range []int{0, 5, 100, 20_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			e := open(t, Config{Buckets: 1, Limit: MinLimit})
			defer func() { _ = e.Close() }()
			key := []byte("the key")
			value := make([]byte, size)
			for i := range value {
				value[i] = byte(i * 7)
			}
			putNew(t, e, 0, []byte("another key"), value)
			putNew(t, e, 0, key, value)
			p, s, tag := e.locate(0, hashOf(key))
			at, f := s.find(p, tag, 0, key)
			if f != present {
				t.Fatal("not found")
			}
			check := func(what string, mem []byte, step int, must func(i int) bool) {
				t.Helper()
				for i := 0; i < len(mem)*8; i += step {
					tables := *at.t
					mem[i/8] ^= 1 << (i % 8)
					before := e.Stats().Damaged
					r, err := get(e, 0, key)
					after := e.Stats().Damaged
					// Head may miss damage of a long value, and nothing else.
					f, headErr := e.Head(0, hashOf(key), key)
					if (headErr == nil) != (err == nil) && (headErr != nil || what != "a piece") ||
						headErr == nil && (f.Record.Ballot != 1<<16 || f.Size != size) {
						t.Errorf("bit %d of %s: get gives %v, head %+v, %v", i, what, err, f, headErr)
					}
					scanned := 0
					for en, err := range e.Scan(0) {
						if err == nil && string(en.Key) == string(key) && string(en.Record.Item.Value) != string(value) {
							t.Errorf("bit %d of %s: the scan has another value", i, what)
						}
						if err != nil && !errors.Is(err, store.ErrDamaged) {
							t.Errorf("bit %d of %s: the scan fails with %v", i, what, err)
						}
						scanned++
					}
					if scanned < 2 {
						t.Errorf("bit %d of %s: only %d scanned", i, what, scanned)
					}
					mem[i/8] ^= 1 << (i % 8)
					*at.t = tables // it remembers damage
					switch {
					case errors.Is(err, store.ErrDamaged):
						if after == before {
							t.Fatalf("bit %d of %s: damage is not counted", i, what)
						}
					case err != nil || r.Ballot != 1<<16 || string(r.Item.Value) != string(value):
						t.Fatalf("bit %d of %s: got ballot %v, %d bytes, error %v", i, what, r.Ballot, len(r.Item.Value), err)
					case must(i):
						t.Fatalf("bit %d of %s: not noticed", i, what)
					}
				}
			}
			check("the record", at.head.slot, 1+size/200, func(i int) bool {
				return i/8 < atAccessed || i/8 >= atCovered
			})
			if at.head.inPieces() {
				mem := s.at(le32(at.head.slot[layout{fields: at.head.fields}.piecesAt()+4:]))
				check("a piece", mem[:maxSlot], 997, func(int) bool { return true })
			}
			// Of the table, only entries that the search passes matter.
			check("the table", s.at(at.t.loc)[:at.t.size*8], 1, func(i int) bool { return i/64 == at.i })
			if r, err := get(e, 0, key); err != nil || len(r.Item.Value) != size {
				t.Errorf("after all: %v, %d bytes", err, len(r.Item.Value))
			}
		})
	}
}

func le32(b []byte) uint32 {
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}

// TestDamagedStaysUnknown: a record whose entry in the index was damaged is
// still unknown, and not absent, after its table has grown and was cut up.
func TestDamagedStaysUnknown(t *testing.T) {
	e := open(t, Config{Buckets: 1, Limit: MinLimit})
	defer func() { _ = e.Close() }()
	key := []byte("the key")
	putNew(t, e, 0, key, nil)
	p, s, tag := e.locate(0, hashOf(key))
	at, _ := s.find(p, tag, 0, key)
	s.entries(at.t)[at.i] ^= 1 << 60 // of the tag
	for i := range 10_000 {
		k := fmt.Append(nil, i)
		w := write(0, k, 0, 1<<16, nil)
		// Near the damage a write is refused; elsewhere it works.
		if e.Write(w); w.Err != nil && !errors.Is(w.Err, store.ErrDamaged) {
			t.Fatal(w.Err)
		}
		if i%1000 == 0 {
			if r, err := get(e, 0, key); !errors.Is(err, store.ErrDamaged) {
				t.Fatalf("after %d writes: ballot %v, error %v", i, r.Ballot, err)
			}
		}
	}
	w := write(0, key, 0, 1<<16, nil)
	if e.Write(w); !errors.Is(w.Err, store.ErrDamaged) {
		t.Errorf("a write over it: %v", w.Err)
	}
	if err := e.Purge(0, hashOf(key), key, 1<<16); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("a purge of it: %v", err)
	}
	told := false
	for _, err := range e.Scan(0) {
		told = told || errors.Is(err, store.ErrDamaged)
	}
	if !told {
		t.Error("a scan does not tell of it")
	}
	if err := e.Checkpoint(t.TempDir() + "/c"); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("a checkpoint of it: %v", err)
	}
	if err := e.Drop(0); err != nil {
		t.Fatal(err)
	}
	if r, err := get(e, 0, key); err != nil || r.Ballot != 0 {
		t.Errorf("after a drop: %v, %v", r.Ballot, err)
	}
	if st := e.Stats(); st.Items != 0 || st.Bytes != 0 {
		t.Errorf("after a drop: %+v", st)
	}
}
