package node_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"unkai/internal/node"
)

// A whole cluster is put back to where it was when its directories were copied.
func TestAClusterIsPutBackFromCopies(t *testing.T) {
	t.Parallel()
	dirs, copies := [3]string{}, [3]string{}
	peers := [3]string{lasting(), lasting(), lasting()}
	for i := range dirs {
		dirs[i], copies[i] = filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "copy")
	}
	run := func(restored bool, f func(*client)) {
		t.Helper()
		var all []*node.Node
		for i := range dirs {
			var join []string
			if i > 0 {
				join = []string{all[0].Peer()}
			}
			all = append(all, built(t, func(c *node.Config) {
				c.Data, c.Store, c.Peer, c.Restored = dirs[i], node.Disk, peers[i], restored
			}, join...))
			peers[i] = all[i].Peer()
		}
		settled(t, 3, all...)
		f(dial(t, all[2]))
		for _, n := range all {
			stop(t, n)
		}
	}
	run(false, func(c *client) { c.fill(0, 100) })
	for i := range dirs {
		if err := os.CopyFS(copies[i], os.DirFS(dirs[i])); err != nil {
			t.Fatal(err)
		}
	}
	run(false, func(c *client) { c.fill(100, 150) })
	for i := range dirs {
		if err := os.RemoveAll(dirs[i]); err != nil {
			t.Fatal(err)
		}
		dirs[i] = copies[i]
	}
	run(true, func(c *client) {
		c.check(100)
		for i := 100; i < 150; i++ {
			if got := c.line(fmt.Sprintf("get key%d\r\n", i)); got != "END" {
				t.Fatalf("key%d was written after the copies were made: %s", i, got)
			}
		}
		c.fill(100, 120)
	})
	run(false, func(c *client) { c.check(120) })
}

// Who makes a copy should know what there is to be copied.
func TestEveryFileOfTheDirectoryIsInTheManual(t *testing.T) {
	t.Parallel()
	all, dir := three(t)
	dial(t, all[2]).fill(0, 50)
	manual, err := os.ReadFile(filepath.Join("..", "..", "docs", "OPERATING.md"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		name := f.Name()
		if f.IsDir() {
			name += "/"
		}
		if !strings.Contains(string(manual), "\n| `"+name+"` | ") {
			t.Errorf("nothing about %s", name)
		}
	}
	if len(files) < 8 {
		t.Errorf("there are %d files only", len(files))
	}
}
