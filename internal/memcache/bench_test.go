package memcache

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"unkai"
)

// hits answers gets with one value and stores nothing.
type hits struct{ value []byte }

func (h hits) Do(b *unkai.Batch) {
	for i := len(b.Results); i < len(b.Ops); i++ {
		res := unkai.Result{Status: unkai.OK, Item: unkai.Item{CAS: 1}}
		if b.Ops[i].Kind == unkai.Get {
			start := len(b.Values)
			b.Values = append(b.Values, h.value...)
			res.Item.Value = b.Values[start:len(b.Values):len(b.Values)]
		}
		b.Results = append(b.Results, res)
	}
}

// sixteen is what a client that pipelines has in one write.
func sixteen(request string) []byte {
	var in bytes.Buffer
	for i := range 16 {
		fmt.Fprintf(&in, request, fmt.Sprintf("bench:%010d", i))
	}
	return in.Bytes()
}

var benchRequests = []struct{ name, text string }{
	{"get", "get %s\r\n"},
	{"set", "set %s 0 0 100\r\n" + string(bytes.Repeat([]byte("v"), 100)) + "\r\n"},
	{"mg", "mg %s v t c\r\n"},
	{"incr", "incr %s 1\r\n"},
}

// BenchmarkStep is the work of a connection without its system calls, for each
// operation.
func BenchmarkStep(b *testing.B) {
	s := New(Config{Handler: hits{make([]byte, 100)}, Now: func() int64 { return testNow }, MaxValue: 1 << 20})
	for _, r := range benchRequests {
		b.Run(r.name, func(b *testing.B) {
			c := newConn(s, &pieces{})
			c.buf = sixteen(r.text)
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				if n%16 == 0 {
					c.r, c.w, c.out = 0, len(c.buf), c.out[:0]
					c.step()
				}
			}
		})
	}
}

// BenchmarkPipelined is a conversation of 16 requests in a write, for each
// operation.
func BenchmarkPipelined(b *testing.B) {
	for _, r := range benchRequests {
		b.Run(r.name, func(b *testing.B) {
			h := open(b, func(c *Config) { c.Handler = hits{make([]byte, 100)} })
			in := sixteen(r.text)
			c := h.dial(b)
			c.send(string(in))
			answer := make([]byte, len(answerTo(b, h, in)))
			if _, err := io.ReadFull(c, answer); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				if n%16 != 0 {
					continue
				}
				if _, err := c.Write(in); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(c, answer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// answerTo is the whole answer to some requests.
func answerTo(b *testing.B, h *house, in []byte) []byte {
	c := h.dial(b)
	c.send(string(in) + "quit\r\n")
	out, err := io.ReadAll(c)
	if err != nil {
		b.Fatal(err)
	}
	return out
}
