package memory

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"unkai"
	"unkai/internal/store"
)

// The 10 million items of the promise take a while to write: ask for them with
// UNKAI_BENCH_ITEMS=10000000.
func benchItems(b *testing.B) int {
	s := os.Getenv("UNKAI_BENCH_ITEMS")
	if s == "" {
		return 1_000_000
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		b.Fatalf("UNKAI_BENCH_ITEMS: %v", err)
	}
	return n
}

const benchBuckets = unkai.DefaultBuckets

// benchKey writes the i-th key of 16 bytes, and returns its hash and bucket.
func benchKey(key []byte, i int) (uint64, unkai.Bucket) {
	binary.BigEndian.PutUint64(key, 0x6b65793a6b65793a)
	binary.BigEndian.PutUint64(key[8:], uint64(i))
	h := mix(uint64(i)*0x9e3779b97f4a7c15 + 1)
	return h, unkai.Bucket(h >> 54)
}

// quiet is a store.Done that does not care.
type quiet struct{}

func (quiet) WriteDone(*store.Write) {}

// loadPromise is what most records have in a cluster: the next ballot of the
// coordinator that wrote them.
const loadPromise = 2 << 16

// load writes n items with values of size bytes.
func load(tb testing.TB, e *Engine, n, size int) {
	key := make([]byte, 16)
	w := store.Write{Key: key, Done: quiet{}}
	w.Record = store.Record{Ballot: 1 << 16, Promise: loadPromise, Epoch: 1}
	w.Record.Item = unkai.Item{Value: make([]byte, size), CAS: 1 << 16}
	for i := range n {
		w.Hash, w.Bucket = benchKey(key, i)
		if e.Write(&w); w.Err != nil {
			tb.Fatal(w.Err)
		}
	}
}

// resident is the resident memory of the process, in bytes.
func resident(tb testing.TB) int64 {
	debug.FreeOSMemory()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		tb.Skip(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	if err != nil {
		tb.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// BenchmarkOverhead reports what an item costs beyond its key and value, in
// resident memory of the whole process.
func BenchmarkOverhead(b *testing.B) {
	n := benchItems(b)
	const size = 100
	b.Run("engine", func(b *testing.B) {
		for b.Loop() {
			before := resident(b)
			e := open(b, Config{Buckets: benchBuckets})
			load(b, e, n, size)
			b.ReportMetric(float64(resident(b)-before)/float64(n)-size-16, "overheadB/item")
			b.ReportMetric(float64(e.Stats().Used)/float64(n)-size-16, "countedB/item")
			if err := e.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("map", func(b *testing.B) {
		for b.Loop() {
			before := resident(b)
			m := map[string][]byte{}
			key, value := make([]byte, 16), make([]byte, size)
			for i := range n {
				benchKey(key, i)
				m[string(key)] = bytes.Clone(value)
			}
			b.ReportMetric(float64(resident(b)-before)/float64(n)-size-16, "overheadB/item")
			runtime.KeepAlive(m)
		}
	})
}

// BenchmarkCollect is what a full collection costs with the items in memory.
func BenchmarkCollect(b *testing.B) {
	n := benchItems(b)
	b.Run("engine", func(b *testing.B) {
		e := open(b, Config{Buckets: benchBuckets})
		defer func() { _ = e.Close() }()
		load(b, e, n, 100)
		for b.Loop() {
			runtime.GC()
		}
	})
	b.Run("map", func(b *testing.B) {
		m := map[string][]byte{}
		key, value := make([]byte, 16), make([]byte, 100)
		for i := range n {
			benchKey(key, i)
			m[string(key)] = bytes.Clone(value)
		}
		for b.Loop() {
			runtime.GC()
		}
		runtime.KeepAlive(m)
	})
}

func BenchmarkGet(b *testing.B) {
	for _, size := range []int{100, 1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			n := max(100, benchItems(b)*100/size/10)
			if size == 100 {
				n = benchItems(b)
			}
			e := open(b, Config{Buckets: benchBuckets})
			defer func() { _ = e.Close() }()
			load(b, e, n, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			var seed atomic.Uint64
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				key, dst := make([]byte, 16), make([]byte, 0, size)
				for i := seed.Add(1 << 40); pb.Next(); i++ {
					h, bucket := benchKey(key, int(mix(i)%uint64(n)))
					f, _, err := e.Get(bucket, h, key, dst, 1)
					if err != nil || f.Record.Ballot == 0 {
						b.Errorf("get: %v, %v", f.Record.Ballot, err)
						return
					}
				}
			})
		})
	}
}

func BenchmarkWrite(b *testing.B) {
	for _, size := range []int{100, 1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			n := max(100, benchItems(b)*100/size/10)
			if size == 100 {
				n = benchItems(b)
			}
			e := open(b, Config{Buckets: benchBuckets})
			defer func() { _ = e.Close() }()
			load(b, e, n, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			var seed atomic.Uint64
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				key := make([]byte, 16)
				w := &store.Write{Key: key, Done: quiet{}, Expect: 1 << 16, Promised: loadPromise}
				w.Record = store.Record{Ballot: 1 << 16, Promise: loadPromise, Epoch: 1}
				w.Record.Item = unkai.Item{Value: make([]byte, size), CAS: 1 << 16}
				for i := seed.Add(1 << 40); pb.Next(); i++ {
					w.Hash, w.Bucket = benchKey(key, int(mix(i)%uint64(n)))
					if e.Write(w); w.Err != nil {
						b.Error(w.Err)
						return
					}
				}
			})
		})
	}
}

// BenchmarkCopy puts a bucket of records of 100 bytes into an empty store, with
// writes.
func BenchmarkCopy(b *testing.B) {
	const n = 20_000
	for b.Loop() {
		b.StopTimer()
		e := open(b, Config{Buckets: benchBuckets})
		key := make([]byte, 16)
		w := store.Write{Key: key, Done: quiet{}, Record: store.Record{Ballot: 1 << 16, Promise: loadPromise, Epoch: 1}}
		w.Record.Item = unkai.Item{Value: make([]byte, 100), CAS: 1 << 16}
		b.StartTimer()
		for i := range n {
			w.Hash, _ = benchKey(key, i)
			if e.Write(&w); w.Err != nil {
				b.Fatal(w.Err)
			}
		}
		b.StopTimer()
		if err := e.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
