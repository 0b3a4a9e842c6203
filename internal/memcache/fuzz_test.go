package memcache

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"unkai"
)

// pieces is a connection that delivers input in pieces and keeps the output.
type pieces struct {
	in     [][]byte
	out    bytes.Buffer
	writes int
}

func (p *pieces) Read(b []byte) (int, error) {
	for len(p.in) > 0 && len(p.in[0]) == 0 {
		p.in = p.in[1:]
	}
	if len(p.in) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.in[0])
	p.in[0] = p.in[0][n:]
	return n, nil
}

func (p *pieces) Write(b []byte) (int, error) {
	p.writes++
	return p.out.Write(b)
}

func (p *pieces) Close() error                     { return nil }
func (p *pieces) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (p *pieces) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (p *pieces) SetDeadline(time.Time) error      { return nil }
func (p *pieces) SetReadDeadline(time.Time) error  { return nil }
func (p *pieces) SetWriteDeadline(time.Time) error { return nil }

// converse gives what a fresh server says to the pieces.
func converse(t *testing.T, in ...[]byte) string {
	s := New(Config{
		Handler: &shelf{items: map[string]unkai.Item{}}, Now: func() int64 { return testNow }, Log: slog.New(slog.DiscardHandler),
		Version: "test", MaxConns: 1, MaxValue: 1 << 16, FlushAll: func(int64) error { return nil },
		Stats: func(string) ([]Stat, bool) { return nil, false },
	})
	p := &pieces{in: in}
	c := newConn(s, p)
	s.served.Add(1)
	text := fmt.Sprintf("%q", in)
	endless := time.AfterFunc(10*time.Second, func() { panic("no end to the answer to " + text) })
	c.serve()
	endless.Stop()
	if n := s.total.panics.Load(); n != 0 {
		t.Fatal("the connection panicked")
	}
	if left := s.budget.left.Load(); left != s.cfg.Buffers {
		t.Fatalf("%d bytes of buffers were kept", s.cfg.Buffers-left)
	}
	return p.out.String()
}

// checkSplits compares the answers to the same bytes, in one piece and in many.
func checkSplits(t *testing.T, in []byte, at uint) {
	if bytes.Contains(in, []byte("stats")) {
		return // its figures depend on how often was read
	}
	whole := converse(t, bytes.Clone(in))
	if whole != "" && whole[len(whole)-1] != '\n' {
		t.Fatalf("the answer ends within a line: %q", whole)
	}
	cutAt := int(at % uint(len(in)+1))
	if got := converse(t, bytes.Clone(in[:cutAt]), bytes.Clone(in[cutAt:])); got != whole {
		t.Fatalf("cut at %d:\n%q\nwhole:\n%q", cutAt, got, whole)
	}
	if len(in) > 200 {
		return
	}
	var single [][]byte
	for i := range in {
		single = append(single, []byte{in[i]})
	}
	if got := converse(t, single...); got != whole {
		t.Fatalf("byte by byte:\n%q\nwhole:\n%q", got, whole)
	}
}

func FuzzText(f *testing.F) {
	for _, s := range []string{
		"set k 1 0 5\r\nhello\r\nget k\r\ngets k a b\r\n", "set k 0 0 2\r\nabcdef\r\n", "cas k 0 0 1 7 noreply\r\nx\r\ndelete k 0\r\n",
		"gat 10 k\r\ntouch k -1\r\nincr k 1\r\ndecr k 99999999999999999999\r\n", "append k 0 0 0\r\n\r\nprepend k 0 0 1\r\nz\r\n",
		"flush_all 10 noreply\r\nverbosity 1\r\nversion\r\nquit\r\nget k\r\n", "set k 0 0 99999999\r\nx", "get  k \r\n\r\n  \r\n", "\x80\x01\x00",
		"set k 0 0 70000\r\n", "add a 4294967296 2592001 1\nx\n",
	} {
		f.Add([]byte(s), uint(7))
	}
	f.Fuzz(checkSplits)
}

func FuzzMeta(f *testing.F) {
	for _, s := range []string{
		"ms k 2 T0 F5 c\r\nhi\r\nmg k v t f s c k O1 q\r\nmn\r\n", "md k I T30 C1\r\nmg k v N30 R10 T5 t h l\r\n", "ma n N0 J7 D3 v t c\r\nma n MD\r\n",
		"ms Zm9v 1 b k\r\nx\r\nmg Zm9v b k v\r\nme foo\r\n", "ms k 1 MX\r\nx\r\nms k S\r\nmg\r\nmg k Tx v v\r\n", "ms k 1 MA N10 E5 I\r\nx\r\nmd k x q\r\n",
		"ms !!! 1 b\r\nx\r\nmg k O12345678901234567890123456789012345\r\n",
	} {
		f.Add([]byte(s), uint(3))
	}
	f.Fuzz(checkSplits)
}
