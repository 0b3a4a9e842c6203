package coordinator_test

import (
	"strconv"
	"testing"
	"time"

	"unkai"
)

// The price of the rooms: the store below is a plain map.
func BenchmarkDo(b *testing.B) {
	for _, c := range []struct {
		name string
		op   func(key string) unkai.Op
	}{
		{"get", get},
		{"set", func(key string) unkai.Op { return set(key, "value") }},
		{"incr", incr},
	} {
		for _, depth := range []int{1, 16} {
			b.Run(c.name+"/"+strconv.Itoa(depth), func(b *testing.B) {
				h := open(time.Minute)
				batch := unkai.Batch{}
				for i := range depth {
					*batch.Add() = c.op("key" + strconv.Itoa(i))
				}
				b.ReportAllocs()
				for i := 0; i < b.N; i += depth {
					batch.Results, batch.Values = batch.Results[:0], batch.Values[:0]
					h.Do(&batch)
				}
			})
		}
	}
}
