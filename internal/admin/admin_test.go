package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"unkai/internal/memcache"
	"unkai/internal/store"
)

// serving is a snapshot in which every figure differs.
func serving() Snapshot {
	return Snapshot{
		Version: "1.2.3", Uptime: 90500 * time.Millisecond, Node: 0xabc,
		Listen: "127.0.0.1:1", Peer: "127.0.0.1:2", HTTP: "127.0.0.1:3",
		Kind: "disk", Sync: "always",
		Zone: "z1", Incarnation: 4, Epoch: 5, Buckets: 1024, N: 3, R: 2, W: 2,
		Store: store.Stats{
			Items: 10, Tombstones: 11, Bytes: 12, Used: 13, Limit: 14, Damaged: 15,
			Syncs: 16, Writes: 17, CacheHits: 18, CacheMiss: 19, CacheBytes: 20,
		},
		Clients: memcache.Stats{
			Connections: 21, Opened: 23, Rejected: 24, IdleKicks: 34, Panics: 35, NoMemory: 36, Failures: 37, Doubts: 39, Buffers: 38,
			Commands: map[string]int64{"bytes_read": 25, "bytes_written": 26, "cmd_get": 55, "get_hits": 27, "get_misses": 28, "cas_badval": 29},
		},
		MaxConns: 22,
		Rounds:   Rounds{Shared: 30, Expired: 31, Retried: 32, Timeouts: 33},
		Survival: &Survival{
			Writes: Endurance{Nodes: 40, Without: 41}, Reads: Endurance{Nodes: 42, Without: 43}, Buckets: 44, Moving: 45,
			Away: []string{"a", "b"}, Needed: []string{}, Managers: Managers{Nodes: []string{"a", "b", "c"}, Alive: 46}, Restart: true,
		},
		Links: []Link{{
			Node: "0000000000000def", Up: true, RoundTrip: 0.5, Open: 50, Waiting: 51, Calls: 52, Refused: 53,
			Timeouts: 54, Lost: 55, Connects: 56, BytesIn: 57, BytesOut: 58,
		}},
		Deciding:   Deciding{Manager: true, Lead: true, Leads: 60500, Rounds: 61, Learned: 62, Since: 63500},
		Copying:    Copying{Speed: 110, Limit: 111, Strain: 1.5},
		Operations: Operations{Running: 70, Refused: 71, Sent: 72, Rerouted: 73, Prepared: 74, Hedged: 75, Moved: 76},
		Repair: Repair{
			Unreconciled: 90, Oldest: 91 * time.Second, Bucket: new(int), Compared: 92, Differed: 93, Adopted: 94, Brought: 95, Settled: 96, Failed: 97, Bytes: 98, Purged: 99, Wounds: 100, Healed: 101, Scrubbed: 102, Scrubs: 103, ScrubDamaged: 104,
			Waits: []Waits{{Why: "away", Node: "a", Items: 105, Bytes: 106}},
		},
		AutoReplace: 86.5, Prospects: []Prospect{{Node: "a", Do: "replace", By: "b", Seconds: 87.5, Why: "c"}},
		Job: &Job{Planned: Amount{Replicas: 80, Bytes: 81}, Moved: Amount{Replicas: 82, Bytes: 83}, Left: 84.5, Rate: 85.5},
	}
}

func newServer(s func() Snapshot) *Server {
	return New(Config{Snapshot: s, Cluster: lonely{}, Operator: lonely{}, Log: slog.New(slog.DiscardHandler)})
}

func always(s Snapshot) func() Snapshot { return func() Snapshot { return s } }

func ask(s *Server, method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.http.Handler.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w
}

func TestHealth(t *testing.T) {
	full := serving()
	full.Store.Full = true
	for _, test := range []struct {
		name     string
		snapshot Snapshot
		path     string
		code     int
		says     string
	}{
		{"serving", serving(), "/healthz", 200, "ok"},
		{"serving", serving(), "/readyz", 200, "ready\n"},
		{"starting", Snapshot{State: "starting"}, "/healthz", 200, "ok"},
		{"starting", Snapshot{State: "starting"}, "/readyz", 503, "not ready: starting"},
		{"full", full, "/readyz", 200, "growth is refused"},
	} {
		w := ask(newServer(always(test.snapshot)), "GET", test.path)
		if w.Code != test.code || !strings.Contains(w.Body.String(), test.says) {
			t.Errorf("%s %s: %d %q, want %d and %q", test.name, test.path, w.Code, w.Body, test.code, test.says)
		}
	}
}

func TestPages(t *testing.T) {
	s := newServer(always(serving()))
	for _, test := range []struct {
		method, path string
		code         int
	}{
		{"GET", "/", 200},
		{"HEAD", "/", 200},
		{"GET", "/nonsense", 404},
		{"POST", "/v1/status", 405},
		{"DELETE", "/metrics", 405},
		{"GET", "/debug/pprof/", 200},
		{"GET", "/debug/pprof/goroutine?debug=1", 200},
		{"GET", "/debug/pprof/cmdline", 200},
	} {
		if w := ask(s, test.method, test.path); w.Code != test.code {
			t.Errorf("%s %s: %d, want %d", test.method, test.path, w.Code, test.code)
		}
	}
	// The index names every page, and every page that it names exists.
	for line := range strings.Lines(ask(s, "GET", "/").Body.String()) {
		if strings.HasPrefix(line, "/") {
			method, code := "GET", 200
			if strings.Contains(line, "POST: ") {
				method, code = "POST", 400 // it wants JSON
			}
			if path := strings.Fields(line)[0]; ask(s, method, path+"?key=x").Code != code {
				t.Errorf("the index names %s, which is not there", path)
			}
		}
	}
}

func TestStatus(t *testing.T) {
	w := ask(newServer(always(serving())), "GET", "/v1/status")
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %q", got)
	}
	var got Status
	d := json.NewDecoder(bytes.NewReader(w.Body.Bytes()))
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil {
		t.Fatalf("%v\n%s", err, w.Body)
	}
	after := serving().AutoReplace
	want := Status{
		AutoReplace: &after, Prospects: serving().Prospects,
		Ready: true, State: "serving", Version: "1.2.3", Uptime: 90.5, Node: "0000000000000abc",
		Addresses: Addresses{Listen: "127.0.0.1:1", Peer: "127.0.0.1:2", HTTP: "127.0.0.1:3"},
		Zone:      "z1", Incarnation: 4, Epoch: 5, Buckets: 1024, Quorum: &Quorum{3, 2, 2},
		Store: &StoreStatus{
			Kind: "disk", Sync: "always", Items: 10, Tombstones: 11, Bytes: 12, Used: 13, Limit: 14, Damaged: 15,
			Syncs: 16, Writes: 17, CacheHits: 18, CacheMisses: 19, CacheBytes: 20,
		},
		Clients: &ClientsStatus{
			Connections: 21, MaxConnections: 22, Accepted: 23, Rejected: 24,
			IdleClosed: 34, Panics: 35, NoMemory: 36, Failures: 37, Doubts: 39, BufferBytes: 38,
			Counts: serving().Clients.Commands,
		},
		Rounds: &RoundsStatus{30, 31, 32, 33},
		Job:    serving().Job, Operations: &Operations{70, 71, 72, 73, 74, 75, 76}, Survival: serving().Survival,
		Links: serving().Links, Deciding: &Deciding{true, true, 60500, 61, 62, 63500},
		Repair: &RepairStatus{91, new(int), 90, 92, 93, 94, 95, 96, 97, 98, 100, 101, 99, serving().Repair.Waits},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v\n%s", got, want, w.Body)
	}
}

func TestStatusWhileStarting(t *testing.T) {
	s := serving()
	s.State = "starting"
	w := ask(newServer(always(s)), "GET", "/v1/status")
	var got map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got["ready"] != false || got["state"] != "starting" || got["version"] != "1.2.3" {
		t.Errorf("%s", w.Body)
	}
	for _, part := range []string{"epoch", "store", "clients", "rounds", "quorum", "survival", "links", "deciding", "operations", "repair", "auto_replace_seconds"} {
		if _, ok := got[part]; ok {
			t.Errorf("a node that starts tells of its %s:\n%s", part, w.Body)
		}
	}
}

// listen serves s on loopback and returns the address, and what Serve returned.
func listen(t *testing.T, s *Server) (string, <-chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	return l.Addr().String(), served
}

func TestServeAndShutdown(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	var calls atomic.Int64
	s := newServer(func() Snapshot {
		if calls.Add(1) == 1 {
			close(asked)
			<-answer
		}
		return serving()
	})
	addr, served := listen(t, s)
	got := make(chan error, 1)
	go func() {
		resp, err := http.Get("http://" + addr + "/v1/status")
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
		got <- err
	}()
	<-asked
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(context.Background()) }()
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	select {
	case err := <-down:
		t.Fatalf("Shutdown did not wait for a request: %v", err)
	default:
	}
	close(answer)
	if err := <-got; err != nil {
		t.Errorf("the request under way failed: %v", err)
	}
	if err := <-down; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("somebody still listens after Shutdown")
	}
}

func TestShutdownBeforeServe(t *testing.T) {
	s := newServer(always(serving()))
	if err := s.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	addr, served := listen(t, s)
	if err := <-served; err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("somebody still listens")
	}
}

func TestShutdownCutsOff(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	s := newServer(func() Snapshot { close(asked); <-answer; return serving() })
	addr, served := listen(t, s)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-asked
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Shutdown(ctx); err == nil {
		t.Error("a request was cut off and nobody says so")
	}
	if b, err := io.ReadAll(c); len(b) > 0 {
		t.Errorf("got %q, %v", b, err)
	}
	close(answer)
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestHeadersAreLimited(t *testing.T) {
	s := newServer(always(serving()))
	addr, _ := listen(t, s)
	defer func() { _ = s.Shutdown(context.Background()) }()
	r, err := http.NewRequest("GET", "http://"+addr+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Long", strings.Repeat("x", 4*maxHeader))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a header of %d bytes is answered with %s", 4*maxHeader, resp.Status)
	}
}

// lonely is a cluster of one node.
type lonely struct{}

func (lonely) Nodes(context.Context) (Nodes, error) {
	return Nodes{Cluster: "c", Nodes: []Node{{ID: "n1", State: "attached"}}}, nil
}

func (lonely) Locate(key []byte) (Location, error) {
	if len(key) > 250 {
		return Location{}, fmt.Errorf("%w: too long", ErrBadRequest)
	}
	return Location{Key: string(key), Replicas: []string{"n1"}}, nil
}

func (l lonely) Explain(_ context.Context, key []byte) (Explanation, error) {
	if string(key) == "k" {
		return Explanation{}, errors.New("not a member yet")
	}
	where, err := l.Locate(key)
	return Explanation{Location: where, Held: []Held{{Node: "n1", Exists: true}}}, err
}

func TestClusterPages(t *testing.T) {
	s := newServer(always(serving()))
	for page, want := range map[string]struct {
		code int
		says string
	}{
		"/v1/nodes":               {200, `"id": "n1"`},
		"/v1/locate?key=cart%207": {200, `"key": "cart 7"`},
		"/v1/locate":              {400, "name a key"},
		"/v1/locate?key=" + strings.Repeat("k", 251): {400, "too long"},
		"/v1/explain?key=x":                          {200, `"exists": true`},
		"/v1/explain?key=k":                          {503, "not a member yet"},
	} {
		if w := ask(s, "GET", page); w.Code != want.code || !strings.Contains(w.Body.String(), want.says) {
			t.Errorf("%s: %d, %s", page, w.Code, w.Body)
		}
	}
}
