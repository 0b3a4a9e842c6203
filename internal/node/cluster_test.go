package node_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"unkai/internal/admin"
	"unkai/internal/node"
)

// member starts a node of a cluster on ports that are free.
func member(t *testing.T, kind, dir string, join ...string) *node.Node {
	t.Helper()
	cfg := node.DefaultConfig()
	cfg.Data, cfg.Store, cfg.Join = dir, kind, join
	cfg.Listen, cfg.Peer, cfg.HTTP = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	cfg.Memory, cfg.Cache, cfg.Buckets, cfg.RequestTimeout = 64<<20, 8<<20, 64, unhurried
	cfg.Log = slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	n, err := node.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, n) })
	return n
}

func nodes(t testing.TB, n *node.Node) admin.Nodes {
	t.Helper()
	resp, err := http.Get("http://" + n.HTTP().String() + "/v1/nodes")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var out admin.Nodes
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return out
}

// settled waits until so many nodes are attached and nothing moves any more.
func settled(t *testing.T, want int, all ...*node.Node) admin.Nodes {
	t.Helper()
	until := time.Now().Add(patience)
	for {
		ready := true
		var seen admin.Nodes
		for _, n := range all {
			seen = nodes(t, n)
			attached := 0
			for _, m := range seen.Nodes {
				if m.State == "attached" && m.Replicas > 0 {
					attached++
				}
			}
			ready = ready && attached == want && seen.Moving == 0 && seen.Job == nil && seen.Survives >= (min(want, 3)-1)/2 && seen.Epoch == nodes(t, all[0]).Epoch
		}
		if ready {
			return seen
		}
		if time.Now().After(until) {
			t.Fatalf("%d nodes are not attached: %+v", want, seen)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// client speaks memcached's text protocol.
type client struct {
	t *testing.T
	c net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, n *node.Node) *client {
	t.Helper()
	c, err := net.Dial("tcp", n.Listen().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &client{t, c, bufio.NewReader(c)}
}

func (c *client) line(send string) string {
	c.t.Helper()
	defer moves(c.t, send)()
	if err := c.c.SetDeadline(time.Now().Add(patience)); err != nil {
		c.t.Fatal(err)
	}
	if _, err := io.WriteString(c.c, send); err != nil {
		c.t.Fatal(err)
	}
	line, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatal(err)
	}
	return strings.TrimRight(line, "\r\n")
}

func (c *client) set(key, value string) {
	c.t.Helper()
	if got := c.line(fmt.Sprintf("set %s 0 0 %d\r\n%s\r\n", key, len(value), value)); got != "STORED" {
		c.t.Fatalf("set %s: %s", key, got)
	}
}

func (c *client) get(key string) string {
	c.t.Helper()
	head := c.line("get " + key + "\r\n")
	if head == "END" {
		return ""
	}
	if !strings.HasPrefix(head, "VALUE ") {
		c.t.Fatalf("get %s: %s", key, head)
	}
	value := c.line("")
	if end := c.line(""); end != "END" {
		c.t.Fatalf("get %s: %s", key, end)
	}
	return value
}

func (c *client) fill(from, to int) {
	c.t.Helper()
	for i := from; i < to; i++ {
		c.set(fmt.Sprint("key", i), fmt.Sprint("value", i))
	}
}

func (c *client) check(to int) {
	c.t.Helper()
	for i := range to {
		if got, want := c.get(fmt.Sprint("key", i)), fmt.Sprint("value", i); got != want {
			c.t.Fatalf("key%d is %q, want %q", i, got, want)
		}
	}
}

// Nodes join one that holds data already; nothing is lost by it, and any node
// answers for any key.
func TestNodesJoin(t *testing.T) {
	for _, kind := range []string{node.Memory, node.Disk} {
		t.Run(kind, func(t *testing.T) {
			all := []*node.Node{member(t, kind, t.TempDir())}
			dial(t, all[0]).fill(0, 300)
			for i := 1; i < 4; i++ {
				all = append(all, member(t, kind, t.TempDir(), all[0].Peer()))
				dial(t, all[i]).fill(300*i, 300*i+300) // while it joins
				seen := settled(t, i+1, all...)
				if want := []int{0, 0, 1, 1}[i]; seen.Survives != want {
					t.Errorf("%d nodes survive %d failures, want %d", i+1, seen.Survives, want)
				}
				for _, n := range all {
					dial(t, n).check(300*i + 300)
				}
			}
			a, b := dial(t, all[0]), dial(t, all[3])
			a.set("n", "0")
			for range 50 {
				a.line("incr n 1\r\n")
				b.line("incr n 1\r\n")
			}
			if got := b.get("n"); got != "100" {
				t.Errorf("100 times incr by two nodes: %s", got)
			}
			if got := b.line("delete key7\r\n"); got != "DELETED" {
				t.Error(got)
			}
			if got := a.get("key7"); got != "" {
				t.Errorf("deleted by another node: %q", got)
			}
			if got := a.line("flush_all\r\n"); got != "OK" {
				t.Error(got)
			}
			if got := b.get("key9"); got != "" {
				t.Errorf("flushed by another node: %q", got)
			}
		})
	}
}

// All nodes stop, and start again at other addresses: one of the new ones is
// enough for them to find each other.
func TestAllAddressesChange(t *testing.T) {
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	all := []*node.Node{member(t, node.Disk, dirs[0])}
	for _, dir := range dirs[1:] {
		all = append(all, member(t, node.Disk, dir, all[0].Peer()))
	}
	settled(t, 3, all...)
	dial(t, all[0]).fill(0, 100)
	for _, n := range all {
		stop(t, n)
	}
	first := member(t, node.Disk, dirs[2])
	again := []*node.Node{first, member(t, node.Disk, dirs[0], first.Peer()), member(t, node.Disk, dirs[1], first.Peer())}
	settled(t, 3, again...)
	for _, n := range again {
		c := dial(t, n)
		c.check(100)
		c.set("after", "it")
	}
}

// A node whose memory was lost comes back as a new incarnation, gets its share
// again, and then counts for its keys: another one may fail.
func TestAMemoryNodeComesBackEmpty(t *testing.T) {
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	all := []*node.Node{member(t, node.Memory, dirs[0])}
	for _, dir := range dirs[1:] {
		all = append(all, member(t, node.Memory, dir, all[0].Peer()))
	}
	settled(t, 3, all...)
	dial(t, all[0]).fill(0, 200)
	stop(t, all[1])
	dial(t, all[2]).fill(200, 300)
	back := member(t, node.Memory, dirs[1], all[0].Peer())
	seen := settled(t, 3, all[0], back, all[2])
	reborn := 0
	for _, m := range seen.Nodes {
		if m.Incarnation == 2 {
			reborn++
		}
	}
	if reborn != 1 {
		t.Errorf("%+v", seen.Nodes)
	}
	stop(t, all[2])
	dial(t, back).check(300)
	dial(t, all[0]).check(300)
}

// A node alone that lost its memory keeps its seat, and makes no cas unique again
// that it made before.
func TestUniquesGoOnAfterARestart(t *testing.T) {
	dir := t.TempDir()
	unique := func() string {
		n := member(t, node.Memory, dir)
		line := dial(t, n).line("ms k 1 c\r\nv\r\n")
		if top := nodes(t, n); top.Nodes[0].Incarnation != 1 {
			t.Errorf("incarnation %d", top.Nodes[0].Incarnation)
		}
		stop(t, n)
		return line
	}
	seen := map[string]bool{}
	for range 3 {
		u := unique()
		if seen[u] {
			t.Errorf("%s was given twice", u)
		}
		seen[u] = true
	}
}
