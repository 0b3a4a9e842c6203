//go:build !race

package memcache

import (
	"strings"
	"testing"

	"unkai"
)

// quiet answers every operation in the same way.
type quietHandler struct{}

func (quietHandler) Do(b *unkai.Batch) {
	for len(b.Results) < len(b.Ops) {
		b.Results = append(b.Results, unkai.Result{Status: unkai.OK, Item: unkai.Item{Value: b.Ops[0].Key, CAS: 1}})
	}
}

func TestParsingDoesNotAllocate(t *testing.T) {
	s := New(Config{Handler: quietHandler{}, Now: func() int64 { return testNow }, MaxValue: 1 << 20})
	for _, in := range []string{"get key\r\n", "set key 0 0 5\r\nhello\r\n", "incr key 1\r\n", "mg key v t c q\r\n", "delete key\r\n"} {
		c := newConn(s, nil)
		c.buf = []byte(strings.Repeat(in, 16))
		run := func() {
			c.r, c.w, c.out = 0, len(c.buf), c.out[:0]
			c.step()
		}
		if n := testing.AllocsPerRun(50, run); n != 0 {
			t.Errorf("%q: %v allocations for 16", in, n)
		}
	}
}
