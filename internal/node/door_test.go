package node_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"unkai/internal/node"
)

// free is an address at which nobody listens, and nobody else will.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", lasting())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// late is a node that cannot join yet, and a client of it.
type late struct {
	*client
	join    string // where it asks
	started chan *node.Node
	failed  chan error
}

func startLate(ctx context.Context, t *testing.T, timeout time.Duration) *late {
	t.Helper()
	cfg := config(t, node.Memory)
	l := &late{join: free(t), started: make(chan *node.Node, 1), failed: make(chan error, 1)}
	cfg.Listen, cfg.Join, cfg.RequestTimeout = free(t), []string{l.join}, timeout
	go func() {
		n, err := node.Start(ctx, cfg)
		if err != nil {
			l.failed <- err
			return
		}
		l.started <- n
	}()
	for until := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", cfg.Listen)
		if err == nil {
			t.Cleanup(func() { _ = c.Close() })
			l.client = &client{t, c, bufio.NewReader(c)}
			return l
		}
		if time.Now().After(until) {
			t.Fatal(err)
		}
	}
}

// serves starts the node that is asked, and waits until the late one serves.
func (l *late) serves() {
	l.t.Helper()
	start(l.t, func() node.Config {
		cfg := config(l.t, node.Memory)
		cfg.Peer = l.join
		return cfg
	}())
	select {
	case n := <-l.started:
		l.t.Cleanup(func() { stop(l.t, n) })
	case err := <-l.failed:
		l.t.Fatal(err)
	case <-time.After(patience):
		l.t.Fatal("it does not serve")
	}
}

func TestWhoDoesNotServeYetSaysSo(t *testing.T) {
	t.Parallel()
	l := startLate(t.Context(), t, 100*time.Millisecond)
	const refusal = "SERVER_ERROR not applied: this node does not serve yet ("
	for _, c := range []struct{ ask, answer string }{
		{"get a\r\n", refusal}, {"set a 0 0 1\r\nx\r\n", refusal}, {"mg a v\r\n", refusal}, {"ms a 1\r\nx\r\n", refusal}, {"incr a 1\r\n", refusal},
		{"flush_all\r\n", refusal}, {"stats settings\r\n", "END"}, {"version\r\n", "VERSION "}, {"mn\r\n", "MN"},
	} {
		if got := l.line(c.ask); !strings.HasPrefix(got, c.answer) {
			t.Errorf("%q is answered with %q", c.ask, got)
		}
	}
	l.serves()
	for until := time.Now().Add(patience); ; {
		got := l.line("set a 0 0 1\r\nx\r\n")
		if got == "STORED" {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("the same connection, now that it serves: %q", got)
		}
	}
}

// Who asks a node that starts fast enough is not refused.
func TestAFastStartRefusesNobody(t *testing.T) {
	t.Parallel()
	l := startLate(t.Context(), t, time.Minute)
	if _, err := io.WriteString(l.c, "get a\r\n"); err != nil {
		t.Fatal(err)
	}
	l.serves()
	if got := l.line(""); got != "END" {
		t.Errorf("%q", got)
	}
}

// Who gives up its start leaves no client waiting, and ends as it was told.
func TestAStartThatIsGivenUpLetsItsClientsGo(t *testing.T) {
	t.Parallel()
	for name, timeout := range map[string]time.Duration{"they were answered": 100 * time.Millisecond, "they waited": time.Minute} {
		t.Run(name, func(t *testing.T) {
			ctx, giveUp := context.WithCancel(t.Context())
			defer giveUp()
			l := startLate(ctx, t, timeout)
			if timeout < time.Minute {
				l.line("get a\r\n")
			}
			giveUp()
			select {
			case err := <-l.failed:
				if !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "cut off") {
					t.Error(err)
				}
			case <-time.After(patience):
				t.Fatal("it does not end")
			}
			if err := l.c.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			var ne net.Error
			if _, err := l.r.ReadByte(); err == nil || errors.As(err, &ne) && ne.Timeout() {
				t.Errorf("the connection is still there: %v", err)
			}
		})
	}
}
