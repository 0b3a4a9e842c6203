package memcache

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"unkai"
)

// What a client sends while the server closes is answered, and its connection is closed
// right after that.
func TestARequestDuringTheClose(t *testing.T) {
	for _, c := range []struct {
		name   string
		before string           // the server closes
		after  []string         // each so much later
		pause  time.Duration    //
		want   string           // that the client reads, until EOF
		took   [2]time.Duration // from the begin of the close to its end
	}{
		{"nothing", "", nil, 0, "", [2]time.Duration{quietFor + lookFor, quietFor + lookFor}},
		{"one", "", []string{"get a\r\n"}, 50 * time.Millisecond, "END\r\n", [2]time.Duration{50 * time.Millisecond, 50 * time.Millisecond}},
		{"the rest of one", "set a 0 0 3\r\nx", []string{"yz\r\n"}, 700 * time.Millisecond, "STORED\r\n", [2]time.Duration{700 * time.Millisecond, 700 * time.Millisecond}},
		{"never the rest", "set a 0 0 3\r\nx", nil, 0, "", [2]time.Duration{quietFor + lingerFor, quietFor + lingerFor}},
		{"several at once, and more", "", []string{"get a\r\nget b\r\n", "get c\r\nget d\r\n"}, 60 * time.Millisecond, "END\r\nEND\r\nEND\r\nEND\r\n", [2]time.Duration{120*time.Millisecond + quietFor + lookFor, 120*time.Millisecond + quietFor + lookFor}},
		{"more than a batch, and more", "", []string{strings.Repeat("get a\r\n", maxOps), "get b\r\n"}, 60 * time.Millisecond, strings.Repeat("END\r\n", maxOps+1), [2]time.Duration{120 * time.Millisecond, 120 * time.Millisecond}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, client := piped(t, &shelf{items: map[string]unkai.Item{}})
				if _, err := io.WriteString(client, c.before); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				began := time.Now()
				var sending sync.WaitGroup
				sending.Go(func() {
					for _, part := range c.after {
						time.Sleep(c.pause)
						if _, err := io.WriteString(client, part); err != nil {
							t.Errorf("%q was not read: %v", part, err)
						}
					}
				})
				defer sending.Wait()
				answers := make(chan string)
				go func() {
					b, _ := io.ReadAll(client) // it ends as it ends
					answers <- string(b)
				}()
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				if err := s.Shutdown(ctx); err != nil {
					t.Error(err)
				}
				if took := time.Since(began); took < c.took[0] || took > c.took[1] {
					t.Errorf("it took %v", took)
				}
				if got := <-answers; got != c.want {
					t.Errorf("the client has read %q", got)
				}
			})
		})
	}
}

// A client that never pauses is left at last.
func TestAClientThatNeverPausesIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, client := piped(t, &shelf{items: map[string]unkai.Item{}})
		go func() { _, _ = io.Copy(io.Discard, client) }()
		var sending sync.WaitGroup
		defer sending.Wait()
		sending.Go(func() {
			for {
				if _, err := io.WriteString(client, "get a\r\nget b\r\n"); err != nil {
					return
				}
				time.Sleep(quietFor / 2)
			}
		})
		synctest.Wait()
		began := time.Now()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took < lingerFor/2 || took > lingerFor+quietFor {
			t.Errorf("it took %v", took)
		}
	})
}

// sleepy is a connection of a process that stood still until it was too late: what has
// come meanwhile is there, and a read is told that its time is up.
type sleepy struct {
	pieces
	woken bool
}

func (s *sleepy) Read(b []byte) (int, error) {
	if !s.woken {
		s.woken = true
		return 0, os.ErrDeadlineExceeded
	}
	return s.pieces.Read(b)
}

// What came while the server stood still is answered.
func TestARequestWhileTheServerStoodStill(t *testing.T) {
	s := New(Config{Handler: &shelf{items: map[string]unkai.Item{}}, Now: func() int64 { return testNow }, Log: slog.New(slog.DiscardHandler), MaxConns: 1})
	p := &sleepy{pieces: pieces{in: [][]byte{[]byte("get a\r\n")}}}
	c := newConn(s, p)
	c.interrupt()
	s.served.Add(1)
	c.serve()
	if got := p.out.String(); got != "END\r\n" {
		t.Errorf("%q", got)
	}
}

// ended looks for a while whether a connection has ended. It looks twice: the while may be
// over because this process stood still, and the end have come meanwhile.
func ended(nc net.Conn, r *bufio.Reader, while time.Duration) bool {
	for _, d := range []time.Duration{while, time.Millisecond} {
		_ = nc.SetReadDeadline(time.Now().Add(d))
		if _, err := r.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
			return true
		}
	}
	_ = nc.SetReadDeadline(time.Time{})
	return false
}

// Clients that look whether their connection has ended before they send lose no answer
// when the server closes.
func TestNoAnswerIsLostInTheClose(t *testing.T) {
	for range 5 {
		h := open(t, nil)
		var clients sync.WaitGroup
		var asked, lost atomic.Int64
		for i := range 32 {
			nc, err := net.Dial("tcp", h.addr)
			if err != nil {
				t.Fatal(err)
			}
			clients.Go(func() {
				defer func() { _ = nc.Close() }()
				r := bufio.NewReader(nc)
				for {
					if _, err := nc.Write(fmt.Appendf(nil, "get k%d\r\n", i)); err != nil {
						lost.Add(1)
						return
					}
					if line, err := r.ReadString('\n'); err != nil || line != "END\r\n" {
						lost.Add(1)
						return
					}
					asked.Add(1)
					if ended(nc, r, time.Duration(20+i)*time.Millisecond) {
						return // it has been told to go
					}
				}
			})
		}
		for asked.Load() < 200 {
			time.Sleep(time.Millisecond)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if err := h.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		clients.Wait()
		if n := lost.Load(); n > 0 {
			t.Errorf("%d of 32 clients lost an answer", n)
		}
	}
}
