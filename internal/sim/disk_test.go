package sim_test

import (
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"unkai"
	"unkai/internal/sim"
	"unkai/internal/store"
	"unkai/internal/store/storetest"
)

// The simulated disk keeps the contract that the real engines keep.
func TestEngine(t *testing.T) {
	storetest.Run(t, func(t *testing.T, opts storetest.Options) store.Engine {
		if opts.Limit != 0 {
			t.Skip("the simulated disk is never full")
		}
		return sim.Open(&sim.Disk{}, 1, nil)
	})
}

// engine is an engine with one record, and what reads and writes it.
type engine struct {
	*sim.Engine
	last unkai.Ballot
}

func (e *engine) write(value string, heal bool) error {
	done := make(ended, 1)
	b := e.last + 1<<20
	r := store.Record{Ballot: b, Promise: b, Epoch: 1, Tombstone: true}
	if value != "" {
		r.Tombstone, r.Item = false, unkai.Item{Value: []byte(value), CAS: uint64(b)}
	}
	e.Write(&store.Write{Key: []byte("k"), Expect: e.last, Promised: e.last, Heal: heal, Record: r, Done: done})
	err := <-done
	if err == nil {
		e.last = b
	}
	return err
}

func (e *engine) read() (string, error) {
	_, v, err := e.Get(0, 0, []byte("k"), nil, store.NoAccess)
	return string(v), err
}

func (e *engine) crash(t *testing.T) {
	e.Crash()
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

type ended chan error

// WriteDone implements store.Done.
func (d ended) WriteDone(w *store.Write) { d <- w.Err }

// A record whose bits were flipped is damaged to whoever comes across it, until it is
// healed; one whose damage is latent, when the disk is opened again.
func TestSpoiltRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, rng := &sim.Disk{}, rand.New(rand.NewPCG(1, 2))
		e := &engine{Engine: sim.Open(disk, 1, nil)}
		if err := e.write("v", false); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			if e.Spoil(rng, 0, false, false) != "k" {
				t.Fatal("it was not spoilt")
			}
			if v, err := e.read(); !errors.Is(err, store.ErrDamaged) {
				t.Fatalf("it reads %q, %v", v, err)
			}
		}
		for entry, err := range e.Scan(0) {
			if string(entry.Key) != "k" || !errors.Is(err, store.ErrDamaged) {
				t.Errorf("a scan gives %q, %v", entry.Key, err)
			}
		}
		if err := e.write("w", false); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("it can be overwritten: %v", err)
		}
		if err := e.write("w", true); err != nil {
			t.Fatal(err)
		}
		if err := e.write("x", true); !errors.Is(err, store.ErrConflict) {
			t.Errorf("what is whole can be healed: %v", err)
		}
		e.Spoil(rng, 0, false, true)
		if _, err := e.read(); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("a value that is damaged reads %v", err)
		}
		if f, err := e.Head(0, 0, []byte("k")); f.Record.Ballot != e.last || err != nil {
			t.Errorf("the head of it is %v, %v", f.Record, err)
		}
		if err := e.write("w", false); err != nil {
			t.Errorf("it cannot be replaced: %v", err)
		}
		e.Spoil(rng, 0, true, false)
		if v, err := e.read(); v != "w" || err != nil {
			t.Errorf("it reads %q, %v", v, err)
		}
		e.crash(t)
		e.Engine = sim.Open(disk, 2, nil)
		if v, err := e.read(); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("it reads %q, %v", v, err)
		}
		e.crash(t)
	})
}

// A full disk refuses growth, and nothing else, while it is full.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{Engine: sim.Open(&sim.Disk{}, 1, nil)}
		defer e.crash(t)
		for _, step := range []struct {
			full  bool
			value string
			want  error
		}{
			{true, "v", store.ErrFull}, {false, "v", nil}, {true, "w", nil}, {true, "longer", store.ErrFull}, {true, "", nil},
			{true, "v", store.ErrFull}, {false, "longer", nil},
		} {
			e.Fill(step.full)
			if err := e.write(step.value, false); !errors.Is(err, step.want) {
				t.Errorf("%+v: %v", step, err)
			}
		}
	})
}
