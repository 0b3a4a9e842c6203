package memcache

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"unkai"
)

// piped opens a connection without a network, for virtual time.
func piped(t *testing.T, h Handler) (*Server, net.Conn) {
	t.Helper()
	s := New(Config{Handler: h, Now: func() int64 { return testNow }, Log: slog.New(slog.DiscardHandler), Version: "test", MaxConns: 1, MaxValue: 64 << 20})
	client, server := net.Pipe()
	t.Cleanup(func() { _ = client.Close() })
	s.admit(server)
	return s, client
}

// A client cannot hold memory by sending now and then a byte.
func TestASlowRequestEnds(t *testing.T) {
	for _, request := range []string{
		"set k 0 0 1000000\r\n" + strings.Repeat("v", 1_000_000),
		"get " + strings.Repeat("k ", 1000),
		"set k 0 0 100000000\r\n" + strings.Repeat("v", 1_000_000), // too large, thrown away
	} {
		synctest.Test(t, func(t *testing.T) {
			_, c := piped(t, &shelf{items: map[string]unkai.Item{}})
			go func() { _, _ = io.Copy(io.Discard, c) }()
			began := time.Now()
			sent := 0
			for ; sent < len(request); sent++ {
				if _, err := io.WriteString(c, request[sent:sent+1]); err != nil {
					break
				}
				time.Sleep(20 * time.Second)
			}
			most := halfTimeout + time.Minute
			if strings.Contains(request, "100000000") {
				most = halfTimeout + 27*time.Minute
			}
			if took := time.Since(began); took < halfTimeout || took > most {
				t.Errorf("%.20q: it was closed after %v", request, took)
			}
		})
	}
}

// A slow but honest client is served, and what it did before is no burden.
func TestASlowLargeValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &shelf{items: map[string]unkai.Item{}}
		_, c := piped(t, h)
		piece := strings.Repeat("v", 1<<16)
		for range 2 {
			const pieces = 300
			if _, err := fmt.Fprintf(c, "set k 0 0 %d noreply\r\n", pieces<<16); err != nil {
				t.Fatal(err)
			}
			for i := range pieces {
				time.Sleep(time.Second)
				if _, err := io.WriteString(c, piece); err != nil {
					t.Fatalf("closed after %d of %d pieces: %v", i, pieces, err)
				}
			}
			if _, err := io.WriteString(c, "\r\n"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour) // silence is not half a request
		}
		for range 10 { // nor are many halves one
			for _, half := range []string{"ver", "sion\r\nver", "sion\r\n"} {
				if _, err := io.WriteString(c, half); err != nil {
					t.Fatal(err)
				}
				time.Sleep(halfTimeout - time.Second)
				if half != "ver" {
					if _, err := io.ReadFull(c, make([]byte, len("VERSION test\r\n"))); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	})
}

// stuck does not answer before it is let go.
type stuck chan struct{}

func (s stuck) Do(b *unkai.Batch) {
	<-s
	refuseAll(b)
}

func refuseAll(b *unkai.Batch) {
	for range b.Ops {
		b.Results = append(b.Results, unkai.Result{Status: unkai.Failed, Err: io.EOF})
	}
}

func TestShutdownDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := make(stuck)
		s, c := piped(t, h)
		if _, err := io.WriteString(c, "get k\r\n"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		err := s.Shutdown(ctx)
		if err == nil || !strings.Contains(err.Error(), "1 connections did not end") {
			t.Errorf("%v", err)
		}
		if took := time.Since(began); took != 5*time.Second+cutGrace {
			t.Errorf("it took %v", took)
		}
		close(h)
	})
}

// clocked is a connection whose deadlines a test can look at.
type clocked struct {
	pieces
	writeBy time.Time
}

func (c *clocked) SetWriteDeadline(t time.Time) error {
	c.writeBy = t
	return nil
}

func (c *clocked) Write(b []byte) (int, error) {
	if !c.writeBy.IsZero() && !time.Now().Before(c.writeBy) {
		return 0, os.ErrDeadlineExceeded
	}
	return c.pieces.Write(b)
}

// A large reply must not leave a deadline that hits a small one later.
func TestALongLifeAfterALargeReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Handler: &shelf{items: map[string]unkai.Item{}}, Now: func() int64 { return testNow }, Log: slog.New(slog.DiscardHandler), Version: "test"})
		p := &clocked{}
		c := newConn(s, p)
		for _, n := range []int{10, 100_000, 10, 10, 100_000, 10} {
			c.out = append(c.out, make([]byte, n)...)
			if !c.flush() {
				t.Fatalf("%d bytes were not written", n)
			}
			time.Sleep(61 * time.Second)
		}
		if p.out.Len() != 200_040 {
			t.Errorf("%d bytes", p.out.Len())
		}
	})
}

// A large value may take its time, and a client that takes nothing is cut off.
func TestSlowReplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := piped(t, giant{make([]byte, 20<<20)})
		if _, err := io.WriteString(c, "get k\r\n"); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1<<16)
		for range 320 {
			time.Sleep(time.Second)
			if _, err := io.ReadFull(c, buf); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour)
		if n, err := io.Copy(io.Discard, c); n > 200 {
			t.Errorf("%d bytes after an hour (%v)", n, err)
		}
	})
}
