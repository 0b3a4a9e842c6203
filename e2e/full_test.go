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
			w.want(t, fmt.Sprintf("set late%d 0 0 %d\r\n%s\r\n", i, len(value), value), "STORED")
		}
		// Its own replica has refused them, and says so; it reads and deletes.
		w := connect(t, c.members[1].process)
		for i := range 60 {
			key := fmt.Sprint("late", i)
			w.want(t, "get "+key+"\r\n", "VALUE "+key+got)
			if out := c.ask(c.members[1], "explain", key); strings.Count(out, "an item") != 2 {
				t.Fatalf("the full node has taken a value of %d bytes:\n%s", len(value), out)
			}
		}
		for i := range 50 {
			w.want(t, fmt.Sprintf("delete stays%d\r\nget stays%d\r\n", i, i), "DELETED\nEND")
		}
		if out := c.ask(c.members[0], "nodes"); strings.Count(out, "FULL") != 1 {
			t.Errorf("unkai nodes does not show it:\n%s", out)
		}
		if err := os.Remove(others); err != nil {
			t.Fatal(err)
		}
		c.full(c.members[1], false)
	})
	for i := range 60 {
		if out := c.ask(c.members[0], "explain", fmt.Sprint("late", i)); strings.Count(out, "an item") != 3 || strings.Contains(out, "DIFFERS") {
			t.Errorf("it was not brought to all:\n%s", out)
		}
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
		set := func(i int) string {
			return w.ask(t, fmt.Sprintf("set big%d 0 0 %d\r\n%s\r\n", i, len(value), value))
		}
		stored := 0
		for ; stored < 2000; stored++ {
			reply := set(stored)
			if reply == "STORED" {
				continue
			}
			if reply != "SERVER_ERROR out of memory storing object" && !strings.Contains(reply, "store is full: less than") {
				t.Errorf("full disks were answered with %q", reply)
			}
			t.Logf("after %d values: %s", stored, reply)
			break
		}
		for i := range stored {
			w.want(t, fmt.Sprintf("get big%d\r\n", i), fmt.Sprintf("VALUE big%d 0 %d\n%s\nEND", i, len(value), value))
		}
		for i := 0; i < stored; i++ {
			w.want(t, fmt.Sprintf("delete big%d\r\n", i), "DELETED")
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
