package memcache

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"unkai"
)

// giant answers every operation with the same value, as far as there is room.
type giant struct{ value []byte }

func (g giant) Do(b *unkai.Batch) {
	for len(b.Results) < len(b.Ops) {
		start := len(b.Values)
		b.Values = append(b.Values, g.value...)
		b.Results = append(b.Results, unkai.Result{Status: unkai.OK, Item: unkai.Item{Value: b.Values[start:len(b.Values):len(b.Values)], CAS: 1}})
		if b.Room > 0 && len(b.Values) >= b.Room {
			return
		}
	}
}

// watched looks at its connection whenever that writes.
type watched struct {
	pieces
	look, read func()
}

func (w *watched) Read(b []byte) (int, error) {
	if w.read != nil {
		w.read()
	}
	return w.pieces.Read(b)
}

func (w *watched) Write(b []byte) (int, error) {
	w.look()
	return w.pieces.Write(b)
}

// However much a client asks for at once, the connection holds little of it at
// a time, and the budget knows.
func TestRepliesAreBounded(t *testing.T) {
	for _, n := range []int{100, 5_000, smallBuffer - 1, smallBuffer, 1 << 20} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			value := bytes.Repeat([]byte("v"), n)
			s := New(Config{Handler: giant{value}, Now: func() int64 { return testNow }, Log: slog.New(slog.DiscardHandler), MaxConns: 1, MaxValue: 1 << 20})
			w := &watched{pieces: pieces{in: [][]byte{[]byte(strings.Repeat("get k\r\n", maxOps))}}}
			c := newConn(s, w)
			w.look = func() {
				if len(c.out) > flushAt+2*smallBuffer {
					t.Fatalf("%d bytes of replies wait", len(c.out))
				}
				if held := cap(c.batch.Values); held > 2*room+2*n {
					t.Fatalf("%d bytes of values are held", held)
				}
				beyond := cap(c.out) + cap(c.batch.Values) - 2*smallBuffer - flushAt
				if charged := s.cfg.Buffers - s.budget.left.Load(); charged < int64(beyond) {
					t.Fatalf("%d bytes are charged, for at least %d", charged, beyond)
				}
			}
			s.served.Add(1)
			c.serve()
			want := strings.Repeat(fmt.Sprintf("VALUE k 0 %d\r\n%s\r\nEND\r\n", n, value), maxOps)
			if got := w.out.String(); got != want {
				t.Fatalf("%d bytes, want %d", len(got), len(want))
			}
			if left := s.budget.left.Load(); left != s.cfg.Buffers {
				t.Errorf("%d bytes were not given back", s.cfg.Buffers-left)
			}
		})
	}
}

func TestSmallRepliesAreOneWrite(t *testing.T) {
	s := New(Config{Handler: giant{[]byte("value")}, Now: func() int64 { return testNow }, Log: slog.New(slog.DiscardHandler), MaxConns: 1})
	p := &pieces{in: [][]byte{[]byte(strings.Repeat("get k\r\nmg k v\r\n", maxOps))}}
	c := newConn(s, p)
	s.served.Add(1)
	c.serve()
	if p.writes != 1 {
		t.Errorf("%d writes", p.writes)
	}
}

// What is refused for want of memory is answered as the client wants answers.
func TestRefusedForWantOfMemory(t *testing.T) {
	h := open(t, func(c *Config) { c.Buffers = 100_000 })
	c := h.dial(t)
	value := strings.Repeat("v", 200_000)
	c.send("set k 0 0 200000 noreply\r\n" + value + "\r\nversion\r\n")
	c.want("VERSION test\r\n")
	c.send("cas k 0 0 200000 1 noreply\r\n" + value + "\r\nversion\r\n")
	c.want("VERSION test\r\n")
	// As memcached, which answers every error of an ms.
	c.send("ms k 200000 q\r\n" + value + "\r\nmn\r\n")
	c.want(noMemory + "\r\nMN\r\n")
	if n := h.Stats().NoMemory; n != 3 {
		t.Errorf("%d refusals were counted", n)
	}
}

// A value for which there is no memory is refused, and the next is not.
func TestAValueWithoutRoom(t *testing.T) {
	h := open(t, func(c *Config) { c.Buffers = 100_000 })
	h.shelf.items["big"] = unkai.Item{Value: make([]byte, 200_000), CAS: 1}
	h.shelf.items["small"] = unkai.Item{Value: []byte("s"), CAS: 1}
	c := h.dial(t)
	c.send("get big\r\nget small\r\nmg big v\r\nmg big s\r\nincr small 1\r\n")
	refused := "SERVER_ERROR " + noReadMemory + "\r\n"
	c.want(refused + "VALUE small 0 1\r\ns\r\nEND\r\n" + refused + "HD s200000\r\n" + notNumber + "\r\n")
}

// Where memory is short, many connections can use it one after the other.
func TestIdleConnectionsKeepLittle(t *testing.T) {
	h := open(t, func(c *Config) { c.Buffers = 1 << 20 })
	h.shelf.items["k"] = unkai.Item{Value: make([]byte, 200_000), CAS: 1}
	answer := fmt.Sprintf("VALUE k 0 200000\r\n%s\r\nEND\r\n", make([]byte, 200_000))
	for range 20 {
		c := h.dial(t)
		c.send("get k\r\n")
		c.want(answer)
	}
}

// A connection that waits for a next request has given up its desk and all that
// is large, and the desk remembers nothing of it.
func TestWaitingConnectionsHoldNothing(t *testing.T) {
	value := strings.Repeat("v", 100_000)
	s := New(Config{Handler: giant{make([]byte, 600_000)}, Now: func() int64 { return testNow }, Log: slog.New(slog.DiscardHandler), MaxConns: 1, MaxValue: 1 << 20})
	w := &watched{pieces: pieces{in: [][]byte{[]byte("set k 0 0 100000\r\n" + value), []byte("\r\n"), []byte("get k\r\nget k\r\n"), []byte("mg k v\r\n")}}}
	c := newConn(s, w)
	waited := 0
	used := c.desk
	w.look = func() { used = c.desk }
	w.read = func() {
		if c.desk != nil {
			t.Error("it waits at a desk")
		}
		if c.w > 0 || c.skip > 0 {
			return // for the rest of a request
		}
		waited++
		if c.taken != 0 || s.budget.left.Load() != s.cfg.Buffers {
			t.Errorf("it holds %d bytes", c.taken)
		}
		for _, op := range used.batch.Ops[:cap(used.batch.Ops)] {
			if len(op.Value) > smallBuffer {
				t.Error("the desk remembers a value")
			}
		}
		for _, res := range used.batch.Results[:cap(used.batch.Results)] {
			if len(res.Item.Value) > smallBuffer {
				t.Error("the desk remembers a result")
			}
		}
	}
	s.served.Add(1)
	c.serve()
	if waited != 4 {
		t.Errorf("it waited %d times", waited)
	}
}
