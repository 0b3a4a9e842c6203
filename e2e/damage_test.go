package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const (
	damagedKeys  = 600
	damagedBytes = 600 // of each value
)

// stopped stops a node in good order.
func (m *member) stopped(t *testing.T) {
	t.Helper()
	m.signal(t, syscall.SIGTERM)
	if code := m.awaitExit(t); code != 0 {
		t.Fatalf("%s stopped with %d", m.name, code)
	}
}

// hurt changes bytes in the middle of the largest table of a node that is stopped.
func (m *member) hurt(t *testing.T) {
	t.Helper()
	var table string
	var size int64
	err := filepath.WalkDir(filepath.Join(m.dir, "store"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".sst" {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() > size {
			table, size = path, info.Size()
		}
		return err
	})
	if err != nil || size < damagedKeys*damagedBytes/2 {
		t.Fatalf("the largest table %q has %d bytes: %v", table, size, err)
	}
	f, err := os.OpenFile(table, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}()
	var b [1]byte
	for _, at := range []int64{size / 4, size / 2} {
		if _, err := f.ReadAt(b[:], at); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 0x10
		if _, err := f.WriteAt(b[:], at); err != nil {
			t.Fatal(err)
		}
	}
}

// Bytes of a table have changed while a node was stopped. What was in them is never
// answered wrongly, or as absent; who reads it has it healed from the other replicas.
// A table that cannot be read through stays a trouble, and the node says what to do:
// with its store emptied it begins anew, and is whole.
func TestDiskDamaged(t *testing.T) {
	unhurried(t)
	t.Parallel()
	c := &cluster{t: t}
	c.grow(3)
	value := func(i int) string {
		r := random(1, i)
		b := make([]byte, damagedBytes)
		for j := range b {
			b[j] = 0x80 | byte(r.Uint32()) // compresses badly, and ends no line
		}
		return string(b)
	}
	w := connect(t, c.members[0].process)
	for i := range damagedKeys {
		w.want(t, fmt.Sprintf("set whole%d 0 0 %d\r\n%s\r\n", i, damagedBytes, value(i)), "STORED")
	}
	// reads asks a node for all keys, until each was answered, and rightly.
	reads := func(m *member) {
		t.Helper()
		w := connect(t, m.process)
		for i := range damagedKeys {
			want := fmt.Sprintf("VALUE whole%d 0 %d\n%s\nEND", i, damagedBytes, value(i))
			eventually(t, fmt.Sprintf("whole%d is answered", i), func() error {
				switch got := w.ask(t, fmt.Sprintf("get whole%d\r\n", i)); {
				case strings.HasPrefix(got, "SERVER_ERROR "):
					return errors.New(got)
				case got != want:
					t.Fatalf("whole%d was answered with %.100q", i, got)
				}
				return nil
			})
		}
	}
	k := newKeeper(c)
	victim := c.members[1]
	c.troubled(k, func() {
		victim.stopped(t)
		c.run(1, "") // brings what it holds to a table
		victim.stopped(t)
		victim.hurt(t)
		c.run(1, "")
		for _, m := range c.members {
			reads(m)
		}
		eventually(t, "the node has healed what was noticed, and says so", func() error {
			s, err := c.status(victim)
			if err != nil {
				return err
			}
			if s.Store.Damaged == 0 || s.Repair.Healed == 0 || s.Repair.Damaged > 0 {
				return fmt.Errorf("damaged %d, healed %d, not yet %d", s.Store.Damaged, s.Repair.Healed, s.Repair.Damaged)
			}
			return nil
		})
		if out := c.ask(victim, "status"); !strings.Contains(out, "DAMAGED") || !strings.Contains(out, "0 keys not yet") {
			t.Errorf("the status does not say it:\n%s", out)
		}
		victim.says(t, "a block of the store is damaged")
		victim.says(t, "empty its store")
		victim.stopped(t)
		if err := os.RemoveAll(filepath.Join(victim.dir, "store")); err != nil {
			t.Fatal(err)
		}
		c.run(1, "")
		victim.says(t, "this node begins anew, with what the other nodes hold")
		c.settled(3)
	})
	for _, m := range c.members {
		reads(m)
	}
}
