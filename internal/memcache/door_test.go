package memcache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"unkai"
	"unkai/internal/core/command"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testNow = 1_700_000_000_000

// patience is how long a test waits for what must happen: long, because the machines of CI
// are slow, and it is reached in failures only.
const patience = time.Minute

// shelf is a Handler over a map, with the true law of commands.
type shelf struct {
	mu    sync.Mutex
	items map[string]unkai.Item
	cas   uint64
	fail  *unkai.Result // what everything ends with
	panic bool
}

func (s *shelf) Do(b *unkai.Batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.panic {
		panic("the handler is broken")
	}
	for len(b.Results) < len(b.Ops) {
		op := &b.Ops[len(b.Results)]
		if s.fail != nil {
			b.Results = append(b.Results, *s.fail)
			continue
		}
		s.cas++
		out, _ := command.Law{Now: testNow, CAS: s.cas, MaxValue: 1 << 20}.Apply(s.items[string(op.Key)], op, nil)
		if out.Changed {
			it := out.Item
			it.Value = bytes.Clone(it.Value)
			if s.items[string(op.Key)] = it; !it.Exists() {
				delete(s.items, string(op.Key))
			}
		}
		start := len(b.Values)
		if op.Kind == unkai.Get && !op.NoValue {
			b.Values = append(b.Values, out.Result.Item.Value...)
		}
		out.Result.Item.Value = b.Values[start:len(b.Values):len(b.Values)]
		b.Results = append(b.Results, out.Result)
		if b.Room > 0 && len(b.Values) >= b.Room {
			return
		}
	}
}

type house struct {
	*Server
	shelf *shelf
	addr  string
}

func open(t testing.TB, change func(*Config)) *house {
	t.Helper()
	h := &house{shelf: &shelf{items: map[string]unkai.Item{}}}
	c := Config{
		Handler: h.shelf, Now: func() int64 { return testNow }, Log: slog.New(slog.DiscardHandler),
		Version: "test", MaxConns: 100, MaxValue: 1 << 20,
		FlushAll: func(int64) error {
			h.shelf.mu.Lock()
			clear(h.shelf.items)
			h.shelf.mu.Unlock()
			return nil
		},
		Stats: func(section string) ([]Stat, bool) { return []Stat{{"section", section}}, section != "none" },
	}
	if change != nil {
		change(&c)
	}
	h.Server = New(c)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.addr = ln.Addr().String()
	served := make(chan error, 1)
	go func() { served <- h.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := errors.Join(h.Shutdown(ctx), <-served); err != nil {
			t.Error(err)
		}
		if n := h.budget.left.Load(); n != h.cfg.Buffers {
			t.Errorf("%d bytes of buffers were not given back", h.cfg.Buffers-n)
		}
	})
	return h
}

type client struct {
	net.Conn
	t testing.TB
}

func (h *house) dial(t testing.TB) *client {
	t.Helper()
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &client{c, t}
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		c.t.Fatal(err)
	}
}

// want reads exactly what is expected.
func (c *client) want(s string) {
	c.t.Helper()
	got := make([]byte, len(s))
	n, err := io.ReadFull(c, got)
	if string(got[:n]) != s {
		c.t.Fatalf("got %q (%v), want %q", cut(string(got[:n])), err, cut(s))
	}
}

func cut(s string) string { return s[:min(len(s), 300)] }

// wantEnd reads what is left until the server closes.
func (c *client) wantEnd(s string) {
	c.t.Helper()
	got, err := io.ReadAll(c)
	if string(got) != s && (s != "" || err == nil) {
		c.t.Fatalf("got %q (%v), want %q and the end", cut(string(got)), err, cut(s))
	}
}

func TestRepliesKeepTheirOrder(t *testing.T) {
	c := open(t, nil).dial(t)
	c.send("set a 0 0 1\r\nx\r\nversion\r\nget a\r\nset n 0 0 1 noreply\r\n5\r\nincr n 1\r\nflush_all\r\nget a\r\nmn\r\nbogus\r\nmg b\r\nstats none\r\ndelete a\r\n")
	c.want("STORED\r\nVERSION test\r\nVALUE a 0 1\r\nx\r\nEND\r\n6\r\nOK\r\nEND\r\nMN\r\nERROR\r\nEN\r\nERROR\r\nNOT_FOUND\r\n")
}

func TestByteByByte(t *testing.T) {
	c := open(t, nil).dial(t)
	for _, b := range []byte("set k 7 0 5\r\nhello\r\nget k\r\n") {
		c.send(string(b))
	}
	c.want("STORED\r\nVALUE k 7 5\r\nhello\r\nEND\r\n")
}

func TestManyKeysInOneGet(t *testing.T) {
	c := open(t, nil).dial(t)
	var ask, want strings.Builder
	ask.WriteString("gets")
	for i := range 3000 {
		c.send(fmt.Sprintf("set k%d 0 0 1 noreply\r\nx\r\n", i))
		fmt.Fprintf(&ask, " k%d", i)
		fmt.Fprintf(&want, "VALUE k%d 0 1 %d\r\nx\r\n", i, i+1)
	}
	c.send(ask.String() + "\r\nversion\r\n")
	c.want(want.String() + "END\r\nVERSION test\r\n")
}

// What goes wrong with one request is over with that request.
func TestRefusedValues(t *testing.T) {
	h := open(t, func(c *Config) { c.MaxValue = 1000 })
	c := h.dial(t)
	big := strings.Repeat("x", 5000)
	c.send("set k 0 0 1\r\na\r\n")
	c.want("STORED\r\n")
	c.send("set k 0 0 5000\r\n" + big + "\r\nset k 0 0 5000 noreply\r\n" + big + "\r\nms k 5000 q\r\n" + big + "\r\nget k\r\n")
	c.want(tooLarge + "\r\n" + tooLarge + "\r\nVALUE k 0 1\r\na\r\nEND\r\n")
	c.send("set k 0 0 1\r\nabc\r\nget k\r\n")
	c.want(badChunk + "\r\nERROR\r\nVALUE k 0 1\r\na\r\nEND\r\n")
}

func TestLargeValues(t *testing.T) {
	h := open(t, func(c *Config) { c.MaxValue = 4 << 20 })
	c := h.dial(t)
	for _, n := range []int{smallBuffer - 20, smallBuffer, smallBuffer + 1, 1 << 20, 3<<20 + 7} {
		value := strings.Repeat("v", n)
		c.send(fmt.Sprintf("set k 0 0 %d\r\n%s\r\nget k\r\n", n, value))
		c.want(fmt.Sprintf("STORED\r\nVALUE k 0 %d\r\n%s\r\nEND\r\n", n, value))
	}
}

func TestBigAnswersComeInPieces(t *testing.T) {
	h := open(t, nil)
	c := h.dial(t)
	value := func(i int) string { return strings.Repeat(string(rune('a'+i)), 200_000) }
	for i := range 10 {
		c.send(fmt.Sprintf("set k%d 0 0 200000 noreply\r\n%s\r\n", i, value(i)))
	}
	c.send("get k0 k1 k2 k3 k4 k5 k6 k7 k8 k9\r\n")
	for i := range 10 {
		c.want(fmt.Sprintf("VALUE k%d 0 200000\r\n%s\r\n", i, value(i)))
	}
	c.want("END\r\n")
}

// A store of buffers that is used up refuses a value and not the connection.
func TestBuffersAreBounded(t *testing.T) {
	h := open(t, func(c *Config) { c.Buffers = 100_000 })
	c := h.dial(t)
	value := strings.Repeat("v", 200_000)
	c.send(fmt.Sprintf("set k 0 0 %d\r\n%s\r\nset k 0 0 1\r\nx\r\n", len(value), value))
	c.want("SERVER_ERROR out of memory storing object\r\nSTORED\r\n")
	// A client that only announces a value holds no more than a small buffer.
	for range 20 {
		h.dial(t).send("set k 0 0 1000000\r\nx")
	}
	c.send("set k 0 0 30000\r\n" + value[:30000] + "\r\n")
	c.want("STORED\r\n")
}

func TestALineWithoutEnd(t *testing.T) {
	h := open(t, nil)
	for _, s := range []string{strings.Repeat("x", 5000), "set " + strings.Repeat("x", 5000), "get " + strings.Repeat("x ", 200_000), "\x80\x00"} {
		c := h.dial(t)
		go func() { _, _ = io.WriteString(c, s) }() // it may be cut off in the middle
		c.wantEnd("")
	}
	c := h.dial(t)
	c.send("version\r\n")
	c.want("VERSION test\r\n")
}

func TestTooManyConnections(t *testing.T) {
	h := open(t, func(c *Config) { c.MaxConns = 2 })
	a, b := h.dial(t), h.dial(t)
	for _, c := range []*client{a, b} {
		c.send("version\r\n")
		c.want("VERSION test\r\n")
	}
	h.dial(t).wantEnd("ERROR Too many open connections\r\n")
	a.send("quit\r\n")
	a.wantEnd("")
	for { // its place is free once the server has noticed
		c := h.dial(t)
		c.send("version\r\n")
		got := make([]byte, 7)
		if _, err := io.ReadFull(c, got); err == nil && string(got) == "VERSION" {
			break
		}
	}
	if h.Stats().Rejected == 0 {
		t.Error("no rejection was counted")
	}
}

// pipes is a listener without a network, for virtual time.
type pipes struct {
	in   chan net.Conn
	once sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	if c, ok := <-p.in; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.in) })
	return nil
}

func (*pipes) Addr() net.Addr { return &net.UnixAddr{} }

func TestIdleConnectionsAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const idle = time.Minute
		s := New(Config{
			Handler: &shelf{items: map[string]unkai.Item{}}, Now: func() int64 { return testNow }, Log: slog.New(slog.DiscardHandler),
			Version: "test", MaxConns: 2, IdleTimeout: idle,
		})
		in := &pipes{in: make(chan net.Conn)}
		served := make(chan error, 1)
		go func() { served <- s.Serve(in) }()
		nc, theirs := net.Pipe()
		in.in <- theirs
		c := &client{nc, t}
		for range 3 { // who says something now and then stays
			time.Sleep(idle / 2)
			c.send("version\r\n")
			c.want("VERSION test\r\n")
		}
		began := time.Now()
		c.wantEnd("")
		if took := time.Since(began); took < idle || took > 2*idle {
			t.Errorf("closed after %v", took)
		}
		if n := s.Stats().IdleKicks; n != 1 {
			t.Errorf("%d kicks", n)
		}
		if err := errors.Join(s.Shutdown(t.Context()), <-served, nc.Close()); err != nil {
			t.Error(err)
		}
	})
}

func TestShutdownAnswersWhatWasRead(t *testing.T) {
	h := open(t, nil)
	c := h.dial(t)
	c.send("set k 0 0 1\r\nx\r\n")
	c.want("STORED\r\n")
	half := h.dial(t)
	half.send("set k 0 0 5\r\nab")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := h.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	c.wantEnd("")
	half.wantEnd("")
}

type saying string

func (s saying) Error() string        { return "no" }
func (s saying) MemcacheText() string { return string(s) }

func TestFailuresHaveTheirWord(t *testing.T) {
	h := open(t, nil)
	c := h.dial(t)
	for _, f := range []struct {
		res  unkai.Result
		want string
	}{
		{unkai.Result{Status: unkai.Failed, Err: errors.New("a\r\nb")}, "SERVER_ERROR not applied: a  b\r\n"},
		{unkai.Result{Status: unkai.InDoubt, Err: errors.New("c")}, "SERVER_ERROR in doubt: c\r\n"},
		{unkai.Result{Status: unkai.Failed, Err: fmt.Errorf("x: %w", saying("out of memory"))}, "SERVER_ERROR out of memory\r\n"},
		{unkai.Result{Status: unkai.InDoubt, Err: fmt.Errorf("x: %w", saying("out of memory"))}, "SERVER_ERROR in doubt: x: no\r\n"},
	} {
		h.shelf.mu.Lock()
		h.shelf.fail = &f.res
		h.shelf.mu.Unlock()
		c.send("set k 0 0 1\r\nx\r\nmd k q\r\nincr k 1\r\n")
		c.want(f.want + f.want + f.want)
		c.send("get k\r\n")
		c.want(f.want) // in the place of END
		c.send("set k 0 0 1 noreply\r\nx\r\nversion\r\n")
		c.want("VERSION test\r\n")
	}
	c.send("version\r\n")
	c.want("VERSION test\r\n")
	if s := h.Stats(); s.Failures != 20 || s.Doubts != 10 {
		t.Errorf("%d failures, %d of them in doubt", s.Failures, s.Doubts)
	}
	n := h.Stats().Commands
	if n["cmd_get"] != 4 || n["get_misses"]+n["delete_misses"]+n["incr_misses"] != 0 {
		t.Errorf("a failure counts as a miss: %v", n)
	}
}

func TestCountsAndReset(t *testing.T) {
	h := open(t, nil)
	c := h.dial(t)
	c.send("set k 0 0 1\r\nx\r\nget k\r\nget no\r\ncas k 0 0 1 99\r\ny\r\nversion\r\n")
	c.want("STORED\r\nVALUE k 0 1\r\nx\r\nEND\r\nEND\r\nEXISTS\r\nVERSION test\r\n")
	c.send("version\r\n") // what was counted is visible once the next request is answered
	c.want("VERSION test\r\n")
	n := h.Stats().Commands
	if n["cmd_set"] != 2 || n["get_hits"] != 1 || n["get_misses"] != 1 || n["cas_badval"] != 1 || n["bytes_read"] == 0 {
		t.Errorf("%v", n)
	}
	c.send("set k 0 -1 1\r\nx\r\ntouch k 1\r\nset k 0 -1 1\r\nx\r\nmg k N30 t\r\nset k 0 -1 1\r\nx\r\nincr k 1\r\n")
	c.want("STORED\r\nNOT_FOUND\r\nSTORED\r\nHD t30 W\r\nSTORED\r\nNOT_FOUND\r\n")
	c.send("set k 0 -1 1\r\nx\r\nget k k k\r\nset k 0 -1 1\r\nx\r\nmg k t N30\r\nget k\r\nversion\r\n")
	c.want("STORED\r\nEND\r\nSTORED\r\nHD t-1 W\r\nVALUE k 0 0\r\n\r\nEND\r\nVERSION test\r\n")
	c.send("version\r\n")
	c.want("VERSION test\r\n")
	if n := h.Stats().Commands["get_expired"]; n != 4 {
		t.Errorf("%d were found expired", n)
	}
	c.send("stats reset\r\n")
	c.want("RESET\r\n")
	if n := h.Stats().Commands; n["cmd_set"] != 0 {
		t.Errorf("%v after a reset", n)
	}
}

// All that comes by the meta protocol counts as that, and nothing else does.
func TestMetaCommandsAreCounted(t *testing.T) {
	h := open(t, nil)
	c := h.dial(t)
	c.send("set k 0 0 1\r\n1\r\nget k\r\nincr k 1\r\ndelete k\r\n")
	c.want("STORED\r\nVALUE k 0 1\r\n1\r\nEND\r\n2\r\nDELETED\r\n")
	c.send("ms k 1\r\n1\r\nms k 1 q\r\n2\r\nma k\r\nmg k\r\nmg no q\r\nmd k\r\nmg k !\r\nmn\r\n")
	c.want("HD\r\nHD\r\nHD\r\nHD\r\nCLIENT_ERROR invalid flag\r\nMN\r\n")
	c.send("version\r\n")
	c.want("VERSION test\r\n")
	if n := h.Stats().Commands["cmd_meta"]; n != 6 {
		t.Errorf("%d commands by the meta protocol", n)
	}
}
