package node_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"unkai/internal/node"
)

// patience is how long a test waits for what must happen: long, because the machines of CI
// are slow, and it is reached in failures only.
const patience = 2 * time.Minute

// unhurried is how long an operation may take where nothing is said of that: a disk that is
// slow just now is no fault.
const unhurried = 20 * time.Second

func config(t *testing.T, kind string) node.Config {
	t.Helper()
	c := node.DefaultConfig()
	c.Data, c.Store = filepath.Join(t.TempDir(), "data"), kind
	c.Listen, c.Peer, c.HTTP = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	c.Memory, c.Cache, c.RequestTimeout = 64<<20, 16<<20, unhurried
	c.Log = slog.New(slog.DiscardHandler)
	return c
}

func start(t *testing.T, c node.Config) *node.Node {
	t.Helper()
	n, err := node.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, n) })
	return n
}

func stop(t *testing.T, n *node.Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := n.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// ask sends requests and gives the lines that come back until the last begins
// with end.
func ask(t *testing.T, n *node.Node, requests, end string) string {
	t.Helper()
	defer moves(t, requests)()
	c, err := net.Dial("tcp", n.Listen().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, requests); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for r := bufio.NewReader(c); ; {
		line, err := r.ReadString('\n')
		out.WriteString(line)
		if err != nil {
			t.Fatalf("%v after %q", err, out.String())
		}
		if strings.HasPrefix(line, end) {
			return out.String()
		}
	}
}

func TestWhatWasStoredIsThereAgain(t *testing.T) {
	c := config(t, node.Disk)
	n := start(t, c)
	got := ask(t, n, "set a 5 0 1\r\nx\r\nset gone 0 0 1\r\ny\r\ndelete gone\r\nincr n 1\r\nset n 0 0 1\r\n7\r\nincr n 1\r\ngets a\r\n", "END")
	stop(t, n)
	_, before, _ := strings.Cut(got, "8\r\n") // the answers up to the counter's

	n = start(t, c)
	if got := ask(t, n, "gets a\r\n", "END"); got != before {
		t.Errorf("%q was %q before the restart", got, before)
	}
	if got := ask(t, n, "get gone n\r\n", "END"); got != "VALUE n 0 1\r\n8\r\nEND\r\n" {
		t.Errorf("%q", got)
	}
}

func TestFlushSurvivesARestart(t *testing.T) {
	c := config(t, node.Disk)
	n := start(t, c)
	ask(t, n, "set a 0 0 1\r\nx\r\nflush_all\r\nset b 0 0 1\r\ny\r\n", "STORED\r\n")
	ask(t, n, "get b\r\n", "END")
	stop(t, n)
	n = start(t, c)
	if got := ask(t, n, "get a b\r\n", "END"); got != "VALUE b 0 1\r\ny\r\nEND\r\n" {
		t.Errorf("%q", got)
	}
}

// A memory store forgets, and then it must not use again what it gave out.
func TestAMemoryNodeComesBackAsAnother(t *testing.T) {
	c := config(t, node.Memory)
	n := start(t, c)
	first := ask(t, n, "set a 0 0 1\r\nx\r\ngets a\r\n", "END")
	stop(t, n)
	n = start(t, c)
	if got := ask(t, n, "get a\r\n", "END"); got != "END\r\n" {
		t.Errorf("%q", got)
	}
	if second := ask(t, n, "set a 0 0 1\r\nx\r\ngets a\r\n", "END"); second == first {
		t.Errorf("the cas unique in %q was given out twice", second)
	}
}

func TestStatsHaveKaisNames(t *testing.T) {
	n := start(t, config(t, node.Memory))
	got := ask(t, n, "set a 0 0 1\r\nx\r\nstats\r\n", "END")
	for _, want := range []string{
		"curr_items 1", "kai_node ", "kai_quorum 1:1:1", "kai_buckets 1024", "kai_vnodes 128", "kai_store memory",
		"kai_curr_nodes 1", "kai_unreconciled 0", "go_goroutines ", "go_version go", "cmd_set 1", "limit_maxbytes 67108864",
	} {
		if !strings.Contains(got, "STAT "+want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	for _, section := range []string{"settings", "items", "slabs"} {
		if got := ask(t, n, "stats "+section+"\r\n", "END"); !strings.HasPrefix(got, "STAT ") {
			t.Errorf("stats %s: %q", section, got)
		}
	}
}

func TestDirectoriesThatAreRefused(t *testing.T) {
	used := config(t, node.Disk)
	n := start(t, used)
	if _, err := node.Start(t.Context(), used); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("opened twice: %v", err)
	}
	stop(t, n)

	write := func(dir, name, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		spoil func(dir string)
		says  string
	}{
		"foreign":      {func(dir string) { write(dir, "letters.txt", "mine") }, "not a data directory"},
		"newer":        {func(dir string) { rewrite(t, dir, "node", `"format": 1`, `"format": 2`) }, "newer version"},
		"another kind": {func(dir string) { rewrite(t, dir, "node", `"store": "disk"`, `"store": "memory"`) }, "--store memory"},
		"flipped bit":  {func(dir string) { flip(t, filepath.Join(dir, "topology")) }, "damaged"},
		"no topology":  {func(dir string) { remove(t, filepath.Join(dir, "topology")) }, "no file"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t, node.Disk)
			if name != "foreign" {
				n, err := node.Start(t.Context(), cfg)
				if err != nil {
					t.Fatal(err)
				}
				stop(t, n)
			}
			c.spoil(cfg.Data)
			if _, err := node.Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want one that says %q", err, c.says)
			}
		})
	}
}

func TestATakenPortIsSaidAtOnce(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c := config(t, node.Disk)
	c.Listen = l.Addr().String()
	if _, err := node.Start(t.Context(), c); err == nil || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(c.Data); err == nil {
		t.Error("a data directory was made all the same")
	}
}

func TestWrongSettingsAreAllNamed(t *testing.T) {
	c := node.Config{Store: "tape", Sync: "sometimes", N: 3, R: 1, W: 1, Join: []string{"x"}}
	err := c.Validate()
	if err == nil {
		t.Fatal("passes")
	}
	for _, want := range []string{"join", "data", "tape", "sometimes", "buckets", "cache", "memory", "max-value", "max-connections", "request-timeout", "listen", "eventual regime"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("nothing about %s in: %v", want, err)
		}
	}
	good := node.DefaultConfig()
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
}

// rewrite changes a file and makes its checksum fit.
func rewrite(t *testing.T, dir, name, from, to string) {
	t.Helper()
	path := filepath.Join(dir, name)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	body := string(b[:strings.LastIndex(string(b), "crc32c ")])
	if !strings.Contains(body, from) {
		t.Fatalf("no %q in %s", from, body)
	}
	body = strings.Replace(body, from, to, 1)
	sum := crc32.Checksum([]byte(body), crc32.MakeTable(crc32.Castagnoli))
	if err := os.WriteFile(path, fmt.Appendf([]byte(body), "crc32c %08x\n", sum), 0o600); err != nil {
		t.Fatal(err)
	}
}

func flip(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 4
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}
