package peer_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"unkai"
	"unkai/internal/peer"
)

// serve is a Handler made of a function.
type serve func(*peer.Request)

func (f serve) Serve(q *peer.Request) { f(q) }

// echo answers with the question.
var echo = serve(func(q *peer.Request) { q.Answer(q.Body) })

// told is a Done that passes the Call on.
type told chan *peer.Call

func (d told) CallDone(c *peer.Call) { d <- c }

// ask makes one call and waits for its end.
func ask(n peer.Network, to unkai.NodeID, k peer.Kind, body string, timeout time.Duration) (string, error) {
	d := make(told, 1)
	n.Call(to, &peer.Call{Kind: k, Body: []byte(body), Timeout: timeout, Done: d})
	c := <-d
	return string(c.Reply), c.Err
}

// logbook keeps what was logged.
type logbook struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logbook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logbook) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.b.String(), text)
}

func (l *logbook) lines() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), "\n")
}

func cluster(id uint64) func() uint64 { return func() uint64 { return id } }

// open starts a Port on a free port of this machine, which echoes.
func open(t testing.TB, self unkai.NodeID, change func(*peer.Config, *peer.Port)) (*peer.Port, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return start(t, peer.Config{Listener: l, Self: self, Cluster: cluster(7)}, change), l.Addr().String()
}

func start(t testing.TB, cfg peer.Config, change func(*peer.Config, *peer.Port)) *peer.Port {
	t.Helper()
	if change != nil {
		change(&cfg, nil)
	}
	p, err := peer.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.Handle(peer.Replica, echo)
	p.Handle(peer.Copy, echo)
	if change != nil {
		change(&cfg, p)
	}
	p.Start()
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func TestQuestionsAreAnswered(t *testing.T) {
	a, _ := open(t, 1, nil)
	b, addr := open(t, 2, func(_ *peer.Config, p *peer.Port) {
		if p != nil {
			p.Handle(peer.Operations, serve(func(q *peer.Request) { q.Refuse(fmt.Sprintf("not for %v", q.From)) }))
		}
	})
	id, err := a.Introduce(context.Background(), addr)
	if err != nil || id != 2 {
		t.Fatalf("introduced to %v: %v", id, err)
	}
	// The first call waits for the connection.
	if got, err := ask(a, 2, peer.Replica, "hello", time.Minute); got != "hello" || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
	if !a.Alive(2) || !a.Alive(1) || a.Alive(3) || b.Alive(1) {
		t.Error("wrong about who is alive")
	}
	var refused *peer.RemoteError
	if _, err := ask(a, 2, peer.Operations, "x", time.Minute); !errors.As(err, &refused) || refused.Text != "not for 0000000000000001" {
		t.Errorf("a refusal came as %v", err)
	}
	if _, err := ask(a, 2, peer.Topology, "x", time.Minute); !errors.As(err, &refused) || peer.Sent(err) {
		t.Errorf("a question for nobody ended as %v", err)
	}
	for _, size := range []int{0, 1, 60 << 10, peer.LargeBody, peer.LargeBody + 1, 5 << 20} {
		big := strings.Repeat("x", size)
		if got, err := ask(a, 2, peer.Replica, big, time.Minute); got != big || err != nil {
			t.Errorf("%d bytes: %d came back, %v", size, len(got), err)
		}
	}
	if _, err := ask(a, 2, peer.Replica, strings.Repeat("x", peer.MaxBody+1), time.Minute); !errors.Is(err, peer.ErrTooLarge) || peer.Sent(err) {
		t.Errorf("a body too large ended as %v", err)
	}
	if _, err := ask(a, 3, peer.Replica, "x", time.Minute); !errors.Is(err, peer.ErrDown) {
		t.Errorf("a call to nobody ended as %v", err)
	}
	s := a.Stats()
	if s.Calls != 9 || s.Answers != 9 || s.Down != 1 || s.Outgoing != 2 || s.Connects != 2 || b.Stats().Served != 9 {
		t.Errorf("counted %+v and %+v", s, b.Stats())
	}
	a.Know(2, "")
	if _, err := ask(a, 2, peer.Replica, "x", time.Minute); !errors.Is(err, peer.ErrDown) || a.Alive(2) {
		t.Errorf("a call to a forgotten node ended as %v", err)
	}
}

func TestTheLongestBody(t *testing.T) {
	a, _ := open(t, 1, nil)
	_, addr := open(t, 2, nil)
	a.Know(2, addr)
	body := strings.Repeat("x", peer.MaxBody)
	if got, err := ask(a, 2, peer.Copy, body, time.Minute); got != body || err != nil {
		t.Errorf("%d came back, %v", len(got), err)
	}
}
