package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"unkai/internal/admin"
	"unkai/internal/core/topology"
	"unkai/internal/node"
)

var update = flag.Bool("update", false, "rewrite testdata/help-*.txt")

// stage is the world as a test wants it.
type stage struct {
	in       string
	out, err buffer
	env      map[string]string
	terminal bool
	signals  chan os.Signal
	start    func(context.Context, node.Config) (running, error)
}

// buffer can be read while somebody writes.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func newStage() *stage { return &stage{signals: make(chan os.Signal, 2)} }

func (s *stage) run(args ...string) int {
	o := &outside{
		in: strings.NewReader(s.in), out: &s.out, err: &s.err, env: environment(s.env), terminal: s.terminal,
		signals: func() (<-chan os.Signal, func()) { return s.signals, func() {} },
		start:   s.start,
	}
	return o.run(args)
}

// play is a node that only does as it is told.
type play struct {
	cfg     node.Config
	done    chan struct{}
	err     error
	stop    func(context.Context) error
	stopped int
}

func address(a string) net.Addr {
	if a == "" {
		return nil
	}
	addr, err := net.ResolveTCPAddr("tcp", a)
	if err != nil {
		panic(err)
	}
	return addr
}

func (p *play) Listen() net.Addr      { return address(p.cfg.Listen) }
func (p *play) HTTP() net.Addr        { return address(p.cfg.HTTP) }
func (p *play) Done() <-chan struct{} { return p.done }
func (p *play) Err() error            { return p.err }

func (p *play) Stop(ctx context.Context) error {
	p.stopped++
	if p.stop == nil {
		return nil
	}
	return p.stop(ctx)
}

// plays makes the stage start p, and then calls then.
func (s *stage) plays(p *play, then func()) {
	p.done = make(chan struct{})
	s.start = func(_ context.Context, cfg node.Config) (running, error) {
		p.cfg = cfg
		if then != nil {
			then()
		}
		return p, nil
	}
}

func has(t *testing.T, what, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("%s does not say %q:\n%s", what, w, text)
		}
	}
}

func TestHelp(t *testing.T) {
	for _, command := range []string{"serve", "status", "version", "completion"} {
		s := newStage()
		if code := s.run(command, "--help"); code != 0 || s.err.String() != "" {
			t.Errorf("%s --help: %d %s", command, code, s.err.String())
		}
		golden := filepath.Join("testdata", "help-"+command+".txt")
		if *update {
			if err := os.WriteFile(golden, []byte(s.out.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.out.String(); got != string(want) {
			t.Errorf("the help of %s is not that of %s (go test -update, and look at the difference):\n%s", command, golden, got)
		}
	}
}

// Each command says what it does and shows how.
func TestEveryCommandTeaches(t *testing.T) {
	o := &outside{}
	root := o.rootCommand()
	for _, cmd := range append(root.Commands(), root) {
		if cmd.Short == "" || !strings.Contains(cmd.Example, "unkai "+strings.TrimPrefix(cmd.Name(), "unkai")) {
			t.Errorf("%s: %q\n%s", cmd.CommandPath(), cmd.Short, cmd.Example)
		}
	}
	s := newStage()
	if code := s.run(); code != 0 {
		t.Errorf("unkai alone: %d %s", code, s.err.String())
	}
	for _, cmd := range root.Commands() {
		has(t, "the help of unkai", s.out.String(), "  "+cmd.Name())
	}
}

func TestWrongUsage(t *testing.T) {
	file := write(t, "max-value = 12\n")
	for _, test := range []struct {
		args []string
		env  map[string]string
		want []string
	}{
		{[]string{"serv"}, nil, []string{`unkai: unknown command "serv"; did you mean "serve"?`, "See 'unkai --help'."}},
		{[]string{"serve", "here"}, nil, []string{`unknown command "here"`, "See 'unkai serve --help'."}},
		{[]string{"serve", "--max-conns", "3"}, nil, []string{"unknown flag: --max-conns; did you mean --max-connections?"}},
		{[]string{"serve", "--sync", "often"}, nil, []string{"--sync", "want always, interval or off"}},
		{[]string{"serve", "--cache", "12q"}, nil, []string{"--cache", "want a number of bytes"}},
		{[]string{"serve"}, map[string]string{"UNKAI_STORE": "tape"}, []string{`unkai serve: UNKAI_STORE: store: "tape": want disk or memory`}},
		{[]string{"serve", "--config", file}, nil, []string{"max-value: 12 ", "(from " + file + ":1)"}},
		{[]string{"serve", "--config", "/nowhere/unkai.toml"}, nil, []string{"/nowhere/unkai.toml"}},
		{[]string{"serve", "--join", "10.0.0.1"}, nil, []string{"join: ", "is not HOST:PORT", "(from --join)"}},
		{[]string{"serve"}, map[string]string{"UNKAI_JOIN": "a"}, []string{"is not HOST:PORT", "(from UNKAI_JOIN)"}},
		{[]string{"serve", "--r", "1"}, nil, []string{"R+W must be more than N", "the eventual regime", "not part of this version (from --r)"}},
		{[]string{"serve", "--r", "3", "--w", "1"}, nil, []string{"W must be more than half of N", "the eventual regime", "(from --r, --w)"}},
		{[]string{"serve", "--peer", "here"}, nil, []string{"peer: ", "(from --peer)"}},
		{[]string{"serve", "--data", "", "--listen", "x"}, nil, []string{"unkai serve: data: ", "\nunkai serve: listen: "}},
		{[]string{"status", "--http", "off"}, nil, []string{"http: "}},
		{[]string{"completion"}, nil, []string{"unkai completion: "}},
		{[]string{"completion", "tcsh"}, nil, []string{"tcsh"}},
		{[]string{"version", "x"}, nil, []string{"unknown command"}},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			s := newStage()
			s.env = test.env
			s.start = func(context.Context, node.Config) (running, error) {
				return nil, errors.New("it was started all the same")
			}
			code := s.run(test.args...)
			if code != exitUsage || s.out.String() != "" {
				t.Errorf("exit code %d, stdout %q", code, s.out.String())
			}
			has(t, "stderr", s.err.String(), test.want...)
		})
	}
}

func TestVersion(t *testing.T) {
	s := newStage()
	if code := s.run("version"); code != 0 {
		t.Fatal(code, s.err.String())
	}
	has(t, "version", s.out.String(), "unkai "+version, "go1.")
	s = newStage()
	if code := s.run("version", "--json"); code != 0 {
		t.Fatal(code, s.err.String())
	}
	var b build
	if err := json.Unmarshal([]byte(s.out.String()), &b); err != nil || b != thisBuild() {
		t.Errorf("%v: %s", err, s.out.String())
	}
	b = build{Version: "1.2.3", Commit: "0123456789abcdef", Modified: true, Go: "go1", OS: "linux", Arch: "arm64"}
	if got, want := b.String(), "unkai 1.2.3, commit 0123456789ab with changes, go1 linux/arm64"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestCompletion(t *testing.T) {
	for shell, want := range map[string]string{"bash": "__start_unkai", "zsh": "#compdef unkai", "fish": "complete -c unkai"} {
		s := newStage()
		if code := s.run("completion", shell); code != 0 {
			t.Fatal(code, s.err.String())
		}
		has(t, shell, s.out.String(), want)
	}
	// What the scripts ask.
	s := newStage()
	if code := s.run("__complete", "serve", "--sync", ""); code != 0 {
		t.Fatal(code, s.err.String())
	}
	has(t, "completion of --sync", s.out.String(), "always\ninterval\noff\n")
}

// site is an HTTP server that gives one answer.
func site(t *testing.T, code int, body string) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/status" {
			t.Errorf("asked for %s", r.URL)
		}
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

const (
	surviving = `{"ready":true,"state":"serving","survival":{"writes":{"nodes":1},"reads":{"nodes":1},"buckets":64,"restart_safe":true,
"managers":{"nodes":["a","b","c"],"alive":3,"spare":1}},"deciding":{"lead":true,"lead_since":1700000000000},
"job":{"id":4,"kind":"attach","nodes":["a"],"state":"running","progress":0.5,"bytes_per_second":2048},
"repair":{"oldest_seconds":1.5,"oldest_bucket":17,"adopted":3,"brought":4,"settled":5}}`
	unverified = `{"ready":true,"state":"serving","repair":{"oldest_seconds":100,"oldest_bucket":17,"unreconciled":6}}`
	followers  = `{"ready":true,"state":"serving","repair":{"oldest_seconds":0,"oldest_bucket":null}}`
	caring     = `{"ready":true,"state":"serving","auto_replace_seconds":1800,"prospects":[{"node":"ab","do":"replace","seconds":61},{"node":"cd","do":"attach","why":"no room"}]}`
	broken     = `{"ready":true,"state":"serving","survival":{"writes":{"nodes":-1,"without_quorum":5,"buckets":[1,2,3,4,5]},"buckets":64,"unavailable":5}}`
)

func TestStatus(t *testing.T) {
	full := admin.Status{
		Ready: true, State: "serving", Version: "1.2.3", Uptime: 61.5, Node: "00000000000000ab", Epoch: 3, Incarnation: 2, Buckets: 1024,
		Quorum:    &admin.Quorum{N: 1, R: 1, W: 1},
		Addresses: admin.Addresses{Listen: "127.0.0.1:4", Peer: "127.0.0.1:5"}, Zone: "rack9",
		AutoReplace: new(float64),
		Store:       &admin.StoreStatus{Kind: "disk", Sync: "always", Items: 10, Bytes: 1536, Used: 5 << 20, Limit: 10 << 30, Full: true, Damaged: 2},
		Clients:     &admin.ClientsStatus{Connections: 4, MaxConnections: 9, Counts: map[string]int64{"cmd_get": 4, "get_hits": 3, "get_misses": 1}},
	}
	body, err := json.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	closed := httptest.NewServer(nil)
	closed.Close()
	for _, test := range []struct {
		name, http string
		code       int
		out, err   []string
	}{
		{"serving", site(t, 200, string(body)), 0, []string{
			"serving, for 1m2s", "00000000000000ab, unkai 1.2.3", "127.0.0.1:4", "127.0.0.1:5", "rack9", "epoch 3, incarnation 2", "disk, sync always",
			"never replaced by themselves", "10, 1.5 KiB of keys", "5.0 MiB of 10.0 GiB", "growth is refused", "2 times a record was found damaged", "4 of 9", "75.0 % hits",
		}, nil},
		{"starting", site(t, 200, `{"ready":false,"state":"starting","version":"1"}`), 1, []string{"starting"}, []string{"does not serve: starting"}},
		{"stray", site(t, 200, `{"ready":true,"state":"serving","version":"1","problem":"of another cluster"}`), 0, []string{"PROBLEM", "of another cluster"}, nil},
		{"survives", site(t, 200, surviving), 0, []string{"any one node", "safe, one node at a time", "3 of 3 answer; 1 may fail", "since 2023-11-14T22:13:20Z", "job 4", "2.0 KiB a second",
			"has waited longer than 2s", "3 records taken over here and 4 by others, 5 keys"}, nil},
		{"unverified", site(t, 200, unverified), 0, []string{"NOT VERIFIED: bucket 17", "for 1m40s; 6 keys differed"}, nil},
		{"compares nothing", site(t, 200, followers), 0, []string{"compares no buckets"}, nil},
		{"no quorum", site(t, 200, broken), 4, []string{"NO QUORUM", "5 of 64 buckets cannot be written", "(1 2 3 4 5)", "not safe"}, []string{"5 of 64 buckets cannot be read and written now"}},
		{"foresees", site(t, 200, caring), 0, []string{"replaced by themselves after 30m0s", "node ab is to be replaced by itself in 1m1s", "node cd is not attached by itself: no room"}, nil},
		{"error", site(t, 500, "oops"), 1, nil, []string{"500"}},
		{"somebody else", site(t, 200, "<html>"), 1, nil, []string{"not the status of a node"}},
		{"somebody else's JSON", site(t, 200, `{"ok":true}`), 1, nil, []string{"not the status of a node"}},
		{"nobody", strings.TrimPrefix(closed.URL, "http://"), 1, nil, []string{"ask the node at ", "refused"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStage()
			s.env = map[string]string{"UNKAI_HTTP": test.http}
			if code := s.run("status"); code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			has(t, "stdout", s.out.String(), test.out...)
			has(t, "stderr", s.err.String(), test.err...)
		})
	}
	s := newStage()
	if code := s.run("status", "--json", "--http", site(t, 200, string(body))); code != 0 || s.out.String() != string(body) {
		t.Errorf("--json: %d %s %s", code, s.out.String(), s.err.String())
	}
}

func TestAmount(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1 << 20: "1.0 MiB", 5 << 29: "2.5 GiB", 1<<63 - 1: "8.0 EiB"} {
		if got := amount(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestServeStops(t *testing.T) {
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		s, p := newStage(), new(play)
		s.plays(p, func() { s.signals <- sig })
		if code := s.run("serve", "--log-format", "json"); code != 0 || p.stopped > 1 {
			t.Errorf("%v: exit code %d, stopped %d times\n%s", sig, code, p.stopped, s.err.String())
		}
		has(t, "the log", s.err.String(), "everything is written down")
	}
}

// A signal that comes with the start under way ends it.
func TestServeGivesUpStarting(t *testing.T) {
	s := newStage()
	s.start = func(ctx context.Context, _ node.Config) (running, error) {
		s.signals <- syscall.SIGTERM
		<-ctx.Done()
		return nil, fmt.Errorf("open the store: %w", ctx.Err())
	}
	if code := s.run("serve"); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.err.String())
	}
	// It started all the same: it is stopped.
	s, p := newStage(), &play{done: make(chan struct{})}
	s.start = func(ctx context.Context, _ node.Config) (running, error) {
		s.signals <- syscall.SIGTERM
		<-ctx.Done()
		return p, nil
	}
	if code := s.run("serve"); code != 0 || p.stopped != 1 {
		t.Errorf("exit code %d, stopped %d times\n%s", code, p.stopped, s.err.String())
	}
	// It does not end: the second signal does not wait.
	s = newStage()
	forever := make(chan struct{})
	defer close(forever)
	s.start = func(context.Context, node.Config) (running, error) {
		s.signals <- syscall.SIGINT
		s.signals <- syscall.SIGINT
		<-forever
		return nil, errors.New("too late")
	}
	if code := s.run("serve"); code != 130 {
		t.Errorf("exit code %d\n%s", code, s.err.String())
	}
}

func TestSecondSignal(t *testing.T) {
	s := newStage()
	forever := make(chan struct{})
	defer close(forever)
	p := &play{stop: func(context.Context) error {
		s.signals <- syscall.SIGTERM
		<-forever
		return nil
	}}
	s.plays(p, func() { s.signals <- syscall.SIGINT })
	if code := s.run("serve"); code != 143 {
		t.Errorf("exit code %d\n%s", code, s.err.String())
	}
	has(t, "stderr", s.err.String(), "second signal")
}

// A supervisor need not start again what was removed from the cluster.
func TestServeIsRemoved(t *testing.T) {
	drained := fmt.Errorf("node 7: %w: %w", node.ErrDrained, topology.ErrRemoved)
	removed := fmt.Errorf("node 7: %w", topology.ErrRemoved)
	ends := func(err error) func(*stage) {
		return func(s *stage) {
			p := &play{err: err}
			s.plays(p, func() { close(p.done) })
		}
	}
	for _, test := range []struct {
		name  string
		stage func(*stage)
		code  int
		want  string
	}{
		{"drained", ends(drained), exitOK, "its data directory can be deleted"},
		{"drained while stopping", func(s *stage) {
			p := new(play)
			p.stop = func(context.Context) error { p.err = drained; return nil }
			s.plays(p, func() { s.signals <- syscall.SIGTERM })
		}, exitOK, "stopped"},
		{"removed", ends(removed), exitRemoved, "removed from the cluster"},
		{"removed before the start", func(s *stage) {
			s.start = func(context.Context, node.Config) (running, error) { return nil, removed }
		}, exitRemoved, "removed from the cluster"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStage()
			test.stage(s)
			if code := s.run("serve"); code != test.code {
				t.Errorf("exit code %d", code)
			}
			has(t, "stderr", s.err.String(), test.want)
		})
	}
}

func TestServeFails(t *testing.T) {
	broken := errors.New("store is broken: sync: input/output error")
	for _, test := range []struct {
		name  string
		stage func(*stage)
		want  string
	}{
		{"at the start", func(s *stage) {
			s.start = func(context.Context, node.Config) (running, error) {
				return nil, errors.New("/data is in use by another process")
			}
		}, "unkai serve: /data is in use by another process\n"},
		{"later", func(s *stage) {
			p := &play{err: broken}
			s.plays(p, func() { close(p.done) })
		}, "unkai serve: the node stopped by itself: store is broken: sync: input/output error\n"},
		{"later, without a reason", func(s *stage) {
			p := new(play)
			s.plays(p, func() { close(p.done) })
		}, "unkai serve: the node stopped by itself\n"},
		{"while stopping", func(s *stage) {
			p := &play{stop: func(context.Context) error { return broken }}
			s.plays(p, func() { s.signals <- syscall.SIGTERM })
		}, "unkai serve: stop the node: store is broken"},
		{"during an orderly stop", func(s *stage) {
			p := new(play)
			p.stop = func(context.Context) error { p.err = broken; return nil }
			s.plays(p, func() { s.signals <- syscall.SIGTERM })
		}, "unkai serve: stop the node: store is broken"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStage()
			test.stage(s)
			if code := s.run("serve"); code != exitFailed {
				t.Errorf("exit code %d", code)
			}
			has(t, "stderr", s.err.String(), test.want)
			if strings.Contains(s.err.String(), "--help") {
				t.Errorf("the store breaks, and the answer is to read the help:\n%s", s.err.String())
			}
		})
	}
}

// The flags of serve reach the node.
func TestServeConfig(t *testing.T) {
	s, p := newStage(), new(play)
	s.plays(p, func() { s.signals <- syscall.SIGTERM })
	s.env = map[string]string{"UNKAI_REQUEST_TIMEOUT": "5s", "UNKAI_BUCKETS": "2048"}
	file := write(t, "idle-timeout = '1m'\nmax-connections = 77\nw = 3\n")
	code := s.run("serve", "--config", file, "--data", "d", "--listen", "127.0.0.1:1", "--peer", "127.0.0.1:2", "--http", "off",
		"--store", "memory", "--sync", "off", "--n", "4", "--r", "3", "--cache", "64MiB", "--memory", "2g", "--max-value", "4MiB", "--log-level", "error")
	if code != 0 || s.err.String() != "" {
		t.Fatalf("exit code %d\n%s", code, s.err.String())
	}
	c := p.cfg
	if c.Log == nil || c.Now == nil || c.Version != version {
		t.Errorf("%+v", c)
	}
	got := fmt.Sprintln(c.Data, c.Listen, c.Peer, c.HTTP, c.Join, c.Store, c.Sync, c.N, c.R, c.W, c.Buckets, c.Cache, c.Memory, c.MaxValue, c.MaxConns, c.IdleTimeout, c.RequestTimeout)
	want := fmt.Sprintln("d", "127.0.0.1:1", "127.0.0.1:2", "", []string(nil), "memory", "off", 4, 3, 3, 2048, 64<<20, 2<<30, 4<<20, 77, "1m0s", "5s")
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestServeSays(t *testing.T) {
	const try = `printf 'set k 0 0 5\r\nhello\r\nget k\r\nquit\r\n' | curl -s telnet://127.0.0.1:4711`
	for _, test := range []struct {
		name      string
		terminal  bool
		args      []string
		want, not []string
	}{
		{"quiet", false, nil, []string{`"level":"INFO"`, "starting"}, []string{"WARN", "authentication"}},
		{"on a terminal", true, []string{"--listen", "127.0.0.1:4711"}, []string{"level=INFO", try, "unkai status --http 127.0.0.1:11080"}, []string{"WARN"}},
		{"on a terminal, without a side door", true, []string{"--http", "off"}, []string{"level=INFO"}, []string{"unkai status"}},
		{"on every address", true, []string{"--listen", "0.0.0.0:4711"}, []string{"no authentication", "change everything", "0.0.0.0:4711", try}, nil},
		{"on every address, side door", true, []string{"--http", "0.0.0.0:11080"}, []string{"no authentication", "profiles", "unkai status --http 127.0.0.1:11080"}, []string{"change everything"}},
		{"on localhost", true, []string{"--listen", "localhost:4711", "--http", "[::1]:5"}, nil, []string{"authentication"}},
		{"memory", false, []string{"--store", "memory", "--sync", "off"}, []string{"WARN", "everything is lost"}, []string{"power cut"}},
		{"interval", false, []string{"--sync", "interval"}, []string{"WARN", "the last second"}, nil},
		{"sync off", false, []string{"--sync", "off"}, []string{"WARN", "minutes of writes"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, p := newStage(), new(play)
			s.terminal = test.terminal
			// Wait for the greeting, which comes after the start.
			p.done = make(chan struct{})
			s.start = func(_ context.Context, cfg node.Config) (running, error) {
				p.cfg = cfg
				return greeted{p, func() { s.signals <- syscall.SIGTERM }}, nil
			}
			if code := s.run(append([]string{"serve"}, test.args...)...); code != 0 {
				t.Fatalf("exit code %d\n%s", code, s.err.String())
			}
			said := s.err.String()
			has(t, "the log", said, test.want...)
			for _, not := range test.not {
				if strings.Contains(said, not) {
					t.Errorf("the log says %q:\n%s", not, said)
				}
			}
			if s.out.String() != "" {
				t.Errorf("stdout: %s", s.out.String())
			}
			if test.terminal {
				return
			}
			for line := range strings.Lines(said) {
				if !json.Valid([]byte(line)) {
					t.Errorf("not JSON: %s", line)
				}
			}
		})
	}
}

// greeted is a play that does something once serve waits for it to end.
type greeted struct {
	*play
	then func()
}

func (g greeted) Done() <-chan struct{} {
	g.then()
	return g.play.Done()
}

// A real node, from its start to its end, and asked for its status meanwhile.
func TestRealNode(t *testing.T) {
	s := newStage()
	asked := newStage()
	asking := -1
	s.start = func(ctx context.Context, cfg node.Config) (running, error) {
		n, err := node.Start(ctx, cfg)
		if err != nil {
			return nil, err
		}
		return realNode{n, func() {
			asking = asked.run("status", "--http", n.HTTP().String())
			s.signals <- syscall.SIGTERM
		}}, nil
	}
	code := s.run("serve", "--data", filepath.Join(t.TempDir(), "data"), "--store", "memory", "--memory", "16MiB",
		"--listen", "127.0.0.1:0", "--peer", "127.0.0.1:0", "--http", "127.0.0.1:0", "--max-connections", "10", "--log-format", "text")
	if code != 0 || asking != 0 {
		t.Errorf("exit codes %d and %d\n%s%s", code, asking, s.err.String(), asked.err.String())
	}
	has(t, "the log", s.err.String(), "starting", "serving", "telnet://127.0.0.1:", "everything is written down")
	has(t, "status", asked.out.String(), "serving", "memory", "of 16.0 MiB", "0 of 10", "epoch 1")
}

type realNode struct {
	*node.Node
	then func()
}

func (r realNode) Done() <-chan struct{} {
	r.then()
	return r.Node.Done()
}
