package admin

import (
	"errors"
	"net"
	"testing"
)

// pipes is a listener that has a connection for everybody who asks.
type pipes struct{ net.Listener }

func (pipes) Accept() (net.Conn, error) {
	a, _ := net.Pipe()
	return a, nil
}

func (pipes) Close() error { return nil }

func TestBounded(t *testing.T) {
	b := newBounded(pipes{}, 2)
	accept := func() <-chan net.Conn {
		got := make(chan net.Conn, 1)
		go func() {
			c, err := b.Accept()
			if err != nil && !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
			got <- c
		}()
		return got
	}
	first, second := <-accept(), <-accept()
	third := accept()
	// Closing one connection twice makes one place, not two.
	for range 2 {
		_ = first.Close()
	}
	if c := <-third; c == nil {
		t.Fatal("no connection although one was closed")
	}
	if len(b.free) != 2 {
		t.Fatalf("%d of 2 places are taken", len(b.free))
	}
	fourth := accept()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if c := <-fourth; c != nil {
		t.Error("a connection beyond the limit")
	}
	_ = second.Close()
}

type failing struct{ pipes }

func (failing) Accept() (net.Conn, error) { return nil, errors.New("too many open files") }

func TestBoundedGivesBackAfterAnError(t *testing.T) {
	b := newBounded(failing{}, 1)
	for range 3 {
		if _, err := b.Accept(); err == nil || errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
	}
	if len(b.free) != 0 {
		t.Error("a place was lost")
	}
}
