package node_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"unkai/internal/node"
)

// spoil flips a bit every so many bytes in the tables of a store, and says in how many.
func spoil(t *testing.T, dir string, every int) (n int) {
	t.Helper()
	tables, err := filepath.Glob(filepath.Join(dir, "store", "*.sst"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range tables {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) < 4*every {
			continue
		}
		for at := every; at < len(b)/2; at += every { // what comes last says where all is
			b[at] ^= 4
			n++
		}
		if err := os.WriteFile(name, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// Bits of one node's tables are flipped: all keys are answered all the while, and it gets
// back what it can no more read.
func TestFlippedBitsAreHealed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	all := cluster(t, 2, plain)
	onDisk := func(c *node.Config) { c.Data, c.Store, c.Cache = dir, node.Disk, 8<<20 }
	hurt := built(t, onDisk, all[0].Peer())
	settled(t, 3, append(all, hurt)...)
	c := dial(t, all[0])
	// Small ones: the pebble looks for the bit that was flipped, which takes it as long as
	// the square of what lies together.
	const keys, size = 1000, 1 << 10
	values := make([]string, keys)
	r := rand.New(rand.NewPCG(1, 2)) // what is alike takes no room in a table
	for i := range values {
		text := make([]byte, size)
		for j := range text {
			text[j] = byte('a' + r.IntN(26))
		}
		values[i] = string(text)
		c.set("long"+strconv.Itoa(i), values[i])
	}
	stop(t, hurt)
	hurt = built(t, onDisk, all[0].Peer()) // which turns its log into tables
	settled(t, 3, append(all, hurt)...)
	stop(t, hurt)
	if spoil(t, dir, 30_000) == 0 {
		t.Fatal("there is no table to spoil")
	}
	hurt = built(t, onDisk, all[0].Peer())
	settled(t, 3, append(all, hurt)...)
	own := dial(t, hurt)
	healed := func() int {
		n := 0
		for line := own.line("stats\r\n"); line != "END"; line = own.line("") {
			if v, ok := strings.CutPrefix(line, "STAT unkai_healed "); ok {
				n, _ = strconv.Atoi(v) // 0 is not enough
			}
		}
		return n
	}
	for until := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		for i, want := range values {
			if got := c.get("long" + strconv.Itoa(i)); got != want {
				t.Fatalf("long%d has %d bytes", i, len(got))
			}
		}
		if healed() > 0 {
			break
		}
		if time.Now().After(until) {
			t.Fatal("nothing was healed")
		}
	}
	t.Logf("%d records were healed", healed())
}
