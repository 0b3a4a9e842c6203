package peer_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"unkai"
	"unkai/internal/peer"
)

// end is one node's port, on loopback.
type end struct {
	*peer.Port
	id   unkai.NodeID
	addr string
}

// echo answers with what it was asked, behind the asker's id.
type echo struct{}

func (echo) Serve(q *peer.Request) { q.Answer(fmt.Appendf(nil, "%v %s", q.From, q.Body)) }

func open(t testing.TB, id unkai.NodeID, cluster uint64, change func(*peer.Config)) *end {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := peer.Config{Listener: l, Self: id, Cluster: func() uint64 { return cluster }, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	p, err := peer.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.Handle(peer.Control, echo{})
	var served sync.WaitGroup
	served.Go(p.Serve)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		served.Wait()
	})
	return &end{p, id, l.Addr().String()}
}

type told chan struct{}

func (d told) CallDone(*peer.Call) { d <- struct{}{} }

func (e *end) ask(to unkai.NodeID, kind peer.Kind, body string) (string, error) {
	done := make(told, 1)
	c := &peer.Call{Kind: kind, Body: []byte(body), Timeout: 5 * time.Second, Done: done}
	e.Call(to, c)
	<-done
	return string(c.Reply), c.Err
}

func TestQuestionAndAnswer(t *testing.T) {
	a, b := open(t, 1, 7, nil), open(t, 2, 7, nil)
	if _, err := a.ask(2, peer.Control, "x"); !errors.Is(err, peer.ErrDown) || peer.Sent(err) {
		t.Errorf("a node nobody has heard of: %v", err)
	}
	id, err := a.Introduce(t.Context(), b.addr)
	if err != nil || id != 2 {
		t.Fatalf("%v, %v", id, err)
	}
	got, err := a.ask(2, peer.Control, "hello")
	if err != nil || got != "0000000000000001 hello" {
		t.Fatalf("%q, %v", got, err)
	}
	if !a.Alive(2) || b.Alive(1) {
		t.Error("alive is who answers on one's own connection")
	}
	long := strings.Repeat("v", 3<<20)
	if got, err := a.ask(2, peer.Control, long); err != nil || got != "0000000000000001 "+long {
		t.Errorf("a long question: %d bytes, %v", len(got), err)
	}
	var refusal peer.Refusal
	if _, err := a.ask(2, peer.Topology, "x"); !errors.As(err, &refusal) || peer.Sent(err) {
		t.Errorf("a question nobody answers: %v", err)
	}
}

func TestWhoMayTalk(t *testing.T) {
	a := open(t, 1, 7, nil)
	for name, c := range map[string]struct {
		id      unkai.NodeID
		cluster uint64
		says    string
	}{
		"another cluster":  {2, 8, "belongs to cluster"},
		"the same id":      {1, 7, "own id"},
		"nobody's cluster": {3, 0, ""},
		"the same cluster": {4, 7, ""},
	} {
		b := open(t, c.id, c.cluster, nil)
		_, err := b.Introduce(t.Context(), a.addr)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// An address at which another node is now is not used for the one that was.
	b := open(t, 5, 7, nil)
	a.Know(6, b.addr)
	if _, err := a.ask(6, peer.Control, "x"); !errors.Is(err, peer.ErrDown) {
		t.Errorf("another node answered: %v", err)
	}
}

// silent accepts questions and never answers.
type silent struct{ arrived chan *peer.Request }

func (s silent) Serve(q *peer.Request) { s.arrived <- q }

func TestTimeoutAndLateAnswer(t *testing.T) {
	a, b := open(t, 1, 7, nil), open(t, 2, 7, nil)
	s := silent{make(chan *peer.Request, 1)}
	b.Handle(peer.Replica, s)
	a.Know(2, b.addr)
	done := make(told, 2)
	c := &peer.Call{Kind: peer.Replica, Body: []byte("x"), Timeout: 50 * time.Millisecond, Done: done}
	a.Call(2, c)
	<-done
	if !errors.Is(c.Err, peer.ErrTimeout) || !peer.Sent(c.Err) {
		t.Fatal(c.Err)
	}
	(<-s.arrived).Answer([]byte("late"))
	if got, err := a.ask(2, peer.Control, "next"); err != nil || got != "0000000000000001 next" {
		t.Fatalf("%q, %v", got, err)
	}
	if len(done) != 0 {
		t.Error("a call was told twice")
	}
}

// breaking is a listener whose connections break at random.
type breaking struct {
	net.Listener
	every int64
}

func (b *breaking) Accept() (net.Conn, error) {
	c, err := b.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &brittle{Conn: c, left: 200 + rand.Int64N(b.every)}, nil
}

type brittle struct {
	net.Conn
	left int64
}

func (b *brittle) Write(p []byte) (int, error) {
	if atomic.AddInt64(&b.left, -int64(len(p))) < 0 {
		_ = b.Close()
		return 0, net.ErrClosed
	}
	return b.Conn.Write(p)
}

// Every call ends once, however connections break.
func TestEveryCallEndsOnce(t *testing.T) {
	a := open(t, 1, 7, nil)
	b := open(t, 2, 7, func(c *peer.Config) { c.Listener = &breaking{Listener: c.Listener, every: 50_000} })
	a.Know(2, b.addr)
	var wg sync.WaitGroup
	var good, bad atomic.Int64
	for range 16 {
		wg.Go(func() {
			done := make(told, 2)
			c := &peer.Call{Kind: peer.Control, Timeout: 5 * time.Second, Done: done}
			for i := range 500 {
				c.Body = fmt.Appendf(c.Body[:0], "question %d", i)
				want := "0000000000000001 " + string(c.Body)
				a.Call(2, c)
				<-done
				switch {
				case c.Err == nil && string(c.Reply) == want:
					good.Add(1)
				case c.Err == nil:
					t.Errorf("%q, want %q", c.Reply, want)
				default:
					bad.Add(1)
					time.Sleep(time.Millisecond) // it is down for a while, not waited for
				}
				if len(done) != 0 {
					t.Error("a call was told twice")
				}
			}
		})
	}
	wg.Wait()
	if good.Load() < 500 || bad.Load() == 0 {
		t.Errorf("%d answered, %d not", good.Load(), bad.Load())
	}
}

// A node that has stopped without closing anything is noticed in well under a
// second.
func TestAPausedNodeIsNoticed(t *testing.T) {
	a := open(t, 1, 7, nil)
	p := &pausing{}
	b := open(t, 2, 7, func(c *peer.Config) { p.Listener = c.Listener; c.Listener = p })
	a.Know(2, b.addr)
	if _, err := a.ask(2, peer.Control, "x"); err != nil {
		t.Fatal(err)
	}
	p.paused.Store(true)
	began := time.Now()
	if _, err := a.ask(2, peer.Control, "y"); !errors.Is(err, peer.ErrLost) {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	if a.Alive(2) {
		t.Error("it is alive still")
	}
	if _, err := a.ask(2, peer.Control, "z"); !errors.Is(err, peer.ErrDown) {
		t.Errorf("while it is away: %v", err)
	}
	p.paused.Store(false)
	for !a.Alive(2) {
		_, _ = a.ask(2, peer.Control, "back?")
		time.Sleep(5 * time.Millisecond)
	}
}

// pausing is a listener whose connections swallow what is written.
type pausing struct {
	net.Listener
	paused atomic.Bool
}

func (p *pausing) Accept() (net.Conn, error) {
	c, err := p.Listener.Accept()
	return &swallowing{c, p}, err
}

type swallowing struct {
	net.Conn
	p *pausing
}

func (s *swallowing) Write(b []byte) (int, error) {
	if s.p.paused.Load() {
		return len(b), nil
	}
	return s.Conn.Write(b)
}

func TestGarbageIsCutOff(t *testing.T) {
	a, b := open(t, 1, 7, nil), open(t, 2, 7, nil)
	for _, garbage := range []string{"GET / HTTP/1.0\r\n\r\n" + strings.Repeat("x", 100), "unkai" + strings.Repeat("\xff", 300)} {
		c, err := net.Dial("tcp", b.addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte(garbage)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1024)
		for err == nil {
			_, err = c.Read(buf)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := a.Introduce(context.Background(), b.addr); err != nil {
		t.Error(err)
	}
}

func BenchmarkCall64(b *testing.B) {
	x, y := open(b, 1, 7, nil), open(b, 2, 7, nil)
	y.Handle(peer.Replica, silentEcho{})
	x.Know(2, y.addr)
	body := make([]byte, 200)
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		done := make(told, 1)
		c := &peer.Call{Kind: peer.Replica, Body: body, Timeout: 5 * time.Second, Done: done}
		for pb.Next() {
			x.Call(2, c)
			if <-done; c.Err != nil {
				b.Error(c.Err)
			}
		}
	})
}

type silentEcho struct{}

func (silentEcho) Serve(q *peer.Request) { q.Answer(q.Body) }
