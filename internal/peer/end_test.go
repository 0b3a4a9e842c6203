package peer

import (
	"net"
	"testing"
	"time"

	"unkai"
)

type serve func(*Request)

func (f serve) Serve(q *Request) { f(q) }

// stranger is a node made by hand: its connection to a Port.
func stranger(t *testing.T, addr string, self unkai.NodeID) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	h := hello{oldest: oldestVersion, newest: newestVersion, self: self, run: uint64(self)}
	if _, err := c.Write(h.append(nil)); err != nil {
		t.Fatal(err)
	}
	if h, err := readHello(c); err != nil || h.verdict != welcome {
		t.Fatalf("%+v, %v", h, err)
	}
	return c
}

// What was answered before Close arrives, however slowly it is read, and the
// connection is not reset while the other side still asks.
func TestAnswersAreSentBeforeTheEnd(t *testing.T) {
	const calls, size = 20, 1 << 20
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, err := Open(Config{Listener: l, Self: 2, Cluster: func() uint64 { return 0 }})
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan struct{}, calls)
	reply := make([]byte, size)
	p.Handle(Replica, serve(func(q *Request) {
		q.Answer(reply)
		answered <- struct{}{}
	}))
	p.Start()
	c := stranger(t, l.Addr().String(), 1)
	for id := range uint64(calls) {
		if _, err := c.Write(appendFrame(nil, frame{what: question, kind: Replica, id: id})); err != nil {
			t.Fatal(err)
		}
		<-answered // though hardly anything of it has been sent
	}
	closed := make(chan error)
	go func() { closed <- p.Close() }()
	<-p.ctx.Done()

	r := frameReader{src: c}
	for got := 0; got < calls; {
		f, err := r.next()
		if err != nil {
			t.Fatalf("after %d answers: %v", got, err)
		}
		if f.what == answer {
			got++
		}
	}
	if _, err := r.next(); err == nil {
		t.Error("more came than was asked for")
	}
	for range 20 {
		if _, err := c.Write(appendFrame(nil, frame{what: question, kind: Replica})); err != nil {
			t.Fatalf("the connection was reset: %v", err)
		}
	}
	_ = c.Close()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if n := len(answered); n != 0 {
		t.Errorf("%d questions were served after the end", n)
	}
}

// A node that goes on asking but never reads holds a Port up for a second only.
func TestCloseDoesNotWaitForEver(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, err := Open(Config{Listener: l, Self: 2, Cluster: func() uint64 { return 0 }})
	if err != nil {
		t.Fatal(err)
	}
	p.Start()
	c := stranger(t, l.Addr().String(), 1)
	defer func() { _ = c.Close() }()
	began := time.Now()
	if err := p.Close(); err != nil || time.Since(began) > 20*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	done := make(chan *Call, 2)
	p.Call(3, &Call{Done: told(done)})
	p.Know(3, "127.0.0.1:1")
	p.Call(3, &Call{Done: told(done)})
	for range 2 {
		if c := <-done; Sent(c.Err) {
			t.Error(c.Err)
		}
	}
}

type told chan *Call

func (d told) CallDone(c *Call) { d <- c }
