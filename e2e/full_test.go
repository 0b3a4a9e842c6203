package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	// A disk of fullDisk bytes has a reserve of a quarter; with less than half of that
	// free every value is refused.
	fullDisk    = 512 << 20
	fullReserve = fullDisk / 4
	// logs is what the logs of the store take, which are kept and used again.
	logs = 3 * 72 << 20
)

// full waits until a node's store is full, or is not any more, and its status says so.
func (c *cluster) full(m *member, full bool) {
	c.t.Helper()
	eventually(c.t, fmt.Sprintf("the store of %s is full: %v", m.name, full), func() error {
		out, err := c.unkai(m, "status")
		if err == nil && strings.Contains(out, "FULL") != full {
			err = errors.New(out)
		}
		return err
	})
}

// gone deletes what is there. When it is in doubt whether that was done, it is done again.
func (c *cluster) gone(w *wire, key string) {
	c.t.Helper()
	doubt := false
	soon(c.t, key+" is deleted", func() error {
		switch got := w.ask(c.t, "delete "+key+"\r\n"); {
		case got == "DELETED", got == "NOT_FOUND" && doubt:
			return nil
		case strings.HasPrefix(got, "SERVER_ERROR "):
			doubt = doubt || !strings.HasPrefix(got, "SERVER_ERROR not applied")
			return errors.New(got)
		default:
			c.t.Fatalf("delete %s was answered with %q", key, got)
			return nil
		}
	})
	w.served(c.t, "get "+key+"\r\n", "END")
}

// The disk of one node is taken by somebody else: the others go on, for all keys at
// every node, and that one refuses growth, and reads and deletes; when there is room
// it gets what it missed, with no help.
func TestDiskFullAtOne(t *testing.T) {
	unhurried(t)
	t.Parallel()
	disk := diskOf(t, fullDisk)
	others := filepath.Join(disk, "others")
	c := &cluster{t: t}
	c.members = append(c.members, &member{dir: filepath.Join(t.TempDir(), "data")}, &member{dir: filepath.Join(disk, "data")})
	c.run(0, "")
	c.run(1, c.members[0].peer)
	c.grow(3)
	c.fill(100)
	k := newKeeper(c)
	value := strings.Repeat("v", 10_000)
	got := fmt.Sprintf(" 0 %d\n%s\nEND", len(value), value)
	c.troubled(k, func() {
		fillDisk(t, disk, others, fullReserve*5/8)
		c.full(c.members[1], true)
		k.answered(2000)
		for i := range 60 {
			w := connect(t, c.members[i%3].process)
			w.served(t, fmt.Sprintf("set late%d 0 0 %d\r\n%s\r\n", i, len(value), value), "STORED")
		}
		// Its own replica has refused them, and says so; it reads and deletes.
		w := connect(t, c.members[1].process)
		for i := range 60 {
			key := fmt.Sprint("late", i)
			w.served(t, "get "+key+"\r\n", "VALUE "+key+got)
			soon(t, "both others have taken "+key, func() error {
				out := c.ask(c.members[1], "explain", key)
				switch n := strings.Count(out, "an item"); {
				case n > 2:
					t.Fatalf("the full node has taken a value of %d bytes:\n%s", len(value), out)
				case n < 2: // one that did not answer just now
					return errors.New(out)
				}
				return nil
			})
		}
		for i := range 50 {
			c.gone(w, fmt.Sprint("stays", i))
		}
		eventually(t, "unkai nodes shows it", func() error {
			if out := c.ask(c.members[0], "nodes"); strings.Count(out, "FULL") != 1 {
				return errors.New(out)
			}
			return nil
		})
		if err := os.Remove(others); err != nil {
			t.Fatal(err)
		}
		c.full(c.members[1], false)
	})
	for i := range 60 {
		eventually(t, "it was brought to all", func() error {
			if out := c.ask(c.members[0], "explain", fmt.Sprint("late", i)); strings.Count(out, "an item") != 3 || strings.Contains(out, "DIFFERS") {
				return errors.New(out)
			}
			return nil
		})
	}
}

// The disks of all nodes are full: growth is refused with an error that says so,
// nothing that was stored is lost, deletes work, and make room.
func TestDiskFullAtAll(t *testing.T) {
	unhurried(t)
	t.Parallel()
	c := &cluster{t: t}
	for i := range 3 {
		disk := diskOf(t, fullDisk)
		fillDisk(t, disk, filepath.Join(disk, "others"), fullReserve*5/4+logs+20<<20)
		c.members = append(c.members, &member{dir: filepath.Join(disk, "data")})
		c.run(i, c.members[0].peer)
	}
	c.settled(3)
	k := newKeeper(c)
	value := make([]byte, 96_000)
	for i := range value {
		value[i] = 0x80 | byte(rand.Uint32()) // compresses badly, and ends no line
	}
	c.troubled(k, func() {
		w := connect(t, c.members[0].process)
		const full, fuller = "SERVER_ERROR out of memory storing object", "store is full: less than"
		set := func(i int) (reply string) {
			soon(t, "it is stored, or the disks are full", func() error {
				reply = w.ask(t, fmt.Sprintf("set big%d 0 0 %d\r\n%s\r\n", i, len(value), value))
				if reply == "STORED" || reply == full || strings.Contains(reply, fuller) {
					return nil
				}
				return errors.New(reply)
			})
			return reply
		}
		stored := 0
		for ; stored < 2000; stored++ {
			reply := set(stored)
			if reply == "STORED" {
				continue
			}
			t.Logf("after %d values: %s", stored, reply)
			break
		}
		for i := range stored {
			w.served(t, fmt.Sprintf("get big%d\r\n", i), fmt.Sprintf("VALUE big%d 0 %d\n%s\nEND", i, len(value), value))
		}
		for i := 0; i < stored; i++ {
			c.gone(w, fmt.Sprint("big", i))
		}
		eventually(t, "the disks have room again", func() error {
			for i := range 3 {
				if reply := set(i); reply != "STORED" {
					return errors.New(reply)
				}
			}
			return nil
		})
		for _, m := range c.members {
			c.full(m, false)
		}
	})
}
