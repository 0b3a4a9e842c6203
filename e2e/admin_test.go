package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// fetch gets a page of the HTTP port.
func (p *process) fetch(t *testing.T, path string) (int, string) {
	t.Helper()
	resp, err := http.Get("http://" + p.http + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestHTTP(t *testing.T) {
	onEveryStore(t, func(t *testing.T, store string) {
		p := newServe(t, store).start(t)
		connect(t, p).want(t, "set k 0 0 1\r\nx\r\nget k\r\n", "STORED\nVALUE k 0 1\nx\nEND")
		for _, path := range []string{"/healthz", "/readyz"} {
			if code, body := p.fetch(t, path); code != http.StatusOK {
				t.Errorf("%s: %d %s", path, code, body)
			}
		}
		code, body := p.fetch(t, "/v1/status")
		var status map[string]any
		if err := json.Unmarshal([]byte(body), &status); code != http.StatusOK || err != nil || len(status) == 0 {
			t.Errorf("/v1/status: %d %v\n%s", code, err, body)
		}
		code, body = p.fetch(t, "/metrics")
		if code != http.StatusOK || !strings.Contains(body, "# TYPE unkai_") || !strings.Contains(body, "go_goroutines") {
			t.Errorf("/metrics: %d\n%.2000s", code, body)
		}
		if code, _ := p.fetch(t, "/nonsense"); code != http.StatusNotFound {
			t.Errorf("/nonsense: %d", code)
		}
	})
}

// The figures that monitoring asks memcached for are there, and count.
func TestStats(t *testing.T) {
	onEveryServer(t, func(t *testing.T, p *process) {
		w := connect(t, p)
		w.ask(t, "set a 0 0 1\r\n1\r\nset b 0 0 1\r\nx\r\nget a\r\nget none\r\nincr a 1\r\nincr none 1\r\ndecr a 1\r\ndelete b\r\ndelete none\r\ntouch a 0\r\ncas a 0 0 1 1\r\nx\r\n")
		for name, want := range map[string]string{
			"pid": fmt.Sprint(p.command.Process.Pid), "pointer_size": "64", "curr_items": "1",
			"cmd_set": "3", "get_hits": "1", "incr_hits": "1", "incr_misses": "1", "decr_hits": "1", "decr_misses": "0",
			"delete_hits": "1", "delete_misses": "1", "touch_hits": "1", "touch_misses": "0", "cas_badval": "1", "cas_hits": "0",
			"evictions": "0",
		} {
			if got := w.stat(t, name); got != want {
				t.Errorf("%s is %s, want %s", name, got, want)
			}
		}
		for _, name := range []string{
			"uptime", "time", "version", "rusage_user", "rusage_system", "max_connections", "curr_connections", "total_connections",
			"cmd_get", "cmd_flush", "cmd_touch", "get_misses", "cas_misses", "bytes_read", "bytes_written", "limit_maxbytes", "threads",
			"total_items", "bytes",
		} {
			if w.stat(t, name) == "" {
				t.Errorf("%s is empty", name)
			}
		}
		if p.http == "" {
			return // the rest is not memcached's
		}
		for _, name := range []string{
			"kai_node", "kai_quorum", "kai_buckets", "kai_vnodes", "kai_store", "kai_curr_nodes", "kai_unreconciled",
		} {
			if w.stat(t, name) == "" {
				t.Errorf("%s is empty", name)
			}
		}
		w.want(t, "stats reset\r\n", "RESET")
		if got := w.stat(t, "incr_hits"); got != "0" {
			t.Errorf("incr_hits is %s after a reset", got)
		}
		for _, request := range []string{"stats settings\r\n", "stats items\r\n", "stats slabs\r\n"} {
			for line := range strings.Lines(w.ask(t, request)) {
				if line = strings.TrimSpace(line); line != "END" && len(strings.Fields(line)) < 3 || line != "END" && !strings.HasPrefix(line, "STAT ") {
					t.Errorf("%q is answered with the line %q", request, line)
				}
			}
		}
	})
}

// The limit for values can be moved.
func TestMaxValue(t *testing.T) {
	onEveryStore(t, func(t *testing.T, store string) {
		for _, limit := range []int{100_000, 4 << 20} {
			p := newServe(t, store, "--max-value", fmt.Sprint(limit)).start(t)
			w := connect(t, p)
			fits := strings.Repeat("f", limit)
			w.want(t, fmt.Sprintf("set k 3 0 %d\r\n%s\r\n", limit, fits), "STORED")
			w.want(t, "get k\r\n", fmt.Sprintf("VALUE k 3 %d\n%s\nEND", limit, fits))
			w.want(t, fmt.Sprintf("set l 0 0 %d\r\n%sx\r\n", limit+1, fits), "SERVER_ERROR object too large for cache")
			w.want(t, fmt.Sprintf("ms l %d\r\n%sx\r\n", limit+1, fits), "SERVER_ERROR object too large for cache")
			w.want(t, "get l\r\n", "END")
		}
	})
}
