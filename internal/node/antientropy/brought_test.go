package antientropy

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"unkai"
	"unkai/internal/core/topology"
	"unkai/internal/store"
)

// What is brought arrives as it was, but for its promise; around a key and its value there
// are 20 bytes. A message that was cut or spoilt is refused.
func TestBrought(t *testing.T) {
	top := topology.New(42, 1, 1, 1, 1, topology.Node{ID: 1, Weight: 1})
	space := top.Space()
	at := unkai.MakeBallot(9, 3)
	records := []store.Record{
		{Ballot: at, Promise: at.Heir(), Epoch: 4, Item: unkai.Item{Value: []byte("value"), CAS: uint64(at)}},
		{Ballot: at, Promise: at, Epoch: 4, Tombstone: true},
		{Ballot: at, Promise: at, Epoch: 5, Item: unkai.Item{Value: bytes.Repeat([]byte("v"), 300), CAS: 7, Flags: 8, Expiry: 9}},
	}
	var message []byte
	for i, rec := range records {
		message = appendBrought(message, &store.Entry{Key: fmt.Append(nil, "key", i), Record: rec})
		if i == 0 && len(message) != len("key0")+len("value")+20 {
			t.Errorf("%d bytes", len(message))
		}
	}
	message = slices.Concat(u32(nil, uint32(len(records))), message)
	got, err := (&reader{b: message}).brought(nil, space, 0)
	if err != nil || len(got) != len(records) {
		t.Fatal(len(got), err)
	}
	for i, x := range got {
		want := records[i]
		want.Promise = want.Ballot
		key := fmt.Append(nil, "key", i)
		if string(x.Key) != string(key) || x.Hash != space.Hash(key) || fmt.Sprint(x.Record) != fmt.Sprint(want) {
			t.Errorf("%q %x %+v, and was %+v", x.Key, x.Hash, x.Record, want)
		}
	}
	for n := range message {
		if _, err := (&reader{b: message[:n]}).brought(nil, space, 0); !errors.Is(err, errShort) && !errors.Is(err, store.ErrDamaged) {
			t.Fatalf("%d bytes of it: %v", n, err)
		}
		spoilt := slices.Clone(message)
		spoilt[n] ^= 4
		if _, err := (&reader{b: spoilt}).brought(nil, space, 0); err == nil {
			t.Fatalf("with byte %d spoilt it is believed", n)
		}
	}
	if _, err := (&reader{b: message}).brought(nil, space, 1); !errors.Is(err, errShort) {
		t.Errorf("records of another bucket: %v", err)
	}
}

// Nobody is told the sums of a deeper level than may be asked for at once.
func TestSumsWithTheLastMessageAreBounded(t *testing.T) {
	top := topology.New(42, 1, 1, 1, 1, topology.Node{ID: 1, Weight: 1})
	r := Repairer{Topology: func() *topology.Topology { return &top }}
	for _, level := range []byte{maxLevel + 1, noSums - 1} {
		if _, err := r.serveBring(&reader{b: u32([]byte{level}, 0)}, 0, 1); !errors.Is(err, errShort) {
			t.Errorf("level %d: %v", level, err)
		}
	}
}
