package verify_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"unkai/internal/node"
	"unkai/internal/verify"
)

// patience is how long a test waits for what must happen: long, because the machines of CI
// are slow, and it is reached in failures only.
const patience = time.Minute

func serve(t *testing.T) string {
	t.Helper()
	cfg := node.DefaultConfig()
	cfg.Data, cfg.Store, cfg.Memory = t.TempDir(), node.Memory, 64<<20
	cfg.Listen, cfg.Peer, cfg.HTTP = "127.0.0.1:0", "127.0.0.1:0", ""
	cfg.RequestTimeout, cfg.Log = patience, slog.New(slog.DiscardHandler)
	n, err := node.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Stop(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	return n.Listen().String()
}

// run asks an endpoint for at least a second, until it is enough.
func run(t *testing.T, endpoint string, enough func(verify.Counts) bool) verify.Report {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	r, err := verify.Run(ctx, verify.Config{
		Endpoints: []string{endpoint}, Duration: patience, Clients: 8, Prefix: "v-", Seed: 1, Timeout: patience,
		Progress: func(c verify.Counts) {
			if enough(c) {
				stop()
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestANodeIsLinearizable(t *testing.T) {
	r := run(t, serve(t), func(c verify.Counts) bool { return c.Answered >= 100 })
	if !r.Verdict.OK || r.Answered < 100 || r.NotApplied+r.InDoubt > 0 {
		t.Errorf("%+v: %v", r.Counts, r.Failure)
	}
}

// A proxy that now and then answers a read with what was true before is found
// out.
func TestAStaleReadIsFound(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &stale{to: serve(t), old: map[string]string{}}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { p.pass(c) })
		}
	})
	r := run(t, l.Addr().String(), func(verify.Counts) bool { return p.lies.Load() >= 3 })
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	conns.Wait()
	if r.Verdict.OK || r.Verdict.Undecided {
		t.Errorf("%d operations with %d stale reads were called linearizable", r.Answered, p.lies.Load())
	}
	var page strings.Builder
	if err := r.Verdict.Draw(&page); err != nil || !strings.Contains(page.String(), "<html") {
		t.Errorf("the page: %d bytes, %v", page.Len(), err)
	}
}

// stale is a proxy that keeps the first answer about each key.
type stale struct {
	to   string
	mu   sync.Mutex
	old  map[string]string
	n    int
	lies atomic.Int64
}

func (p *stale) pass(c net.Conn) {
	defer func() { _ = c.Close() }()
	up, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer func() { _ = up.Close() }()
	from, back := bufio.NewReader(c), bufio.NewReader(up)
	for {
		line, err := from.ReadString('\n')
		if err != nil {
			return
		}
		request := line
		if strings.HasPrefix(line, "ms ") {
			body, err := from.ReadString('\n')
			if err != nil {
				return
			}
			request += body
		}
		if _, err := io.WriteString(up, request); err != nil {
			return
		}
		reply, err := back.ReadString('\n')
		if err == nil && strings.HasPrefix(reply, "VA ") {
			var body string
			body, err = back.ReadString('\n')
			reply += body
		}
		if err != nil {
			return
		}
		if strings.HasPrefix(line, "mg ") && strings.Contains(line, " v") && strings.HasPrefix(reply, "VA ") {
			reply = p.twist(line, reply)
		}
		if _, err := io.WriteString(c, reply); err != nil {
			return
		}
	}
}

func (p *stale) twist(line, reply string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n++
	old, ok := p.old[line]
	if !ok {
		p.old[line] = reply
	}
	if ok && p.n%100 == 0 && old != reply {
		p.lies.Add(1)
		return old
	}
	return reply
}
