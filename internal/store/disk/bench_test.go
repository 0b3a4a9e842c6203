package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"unkai"
	"unkai/internal/store"
)

// benchKey is the i-th key, its bucket and its hash.
func benchKey(dst []byte, i uint64) ([]byte, unkai.Bucket, uint64) {
	h := (i + 1) * 0x9e3779b97f4a7c15
	h ^= h >> 29
	h *= 0xbf58476d1ce4e5b9
	dst = append(dst[:0], "key:"...)
	for s := 60; s >= 16; s -= 4 {
		dst = append(dst, "0123456789abcdef"[h>>s&15])
	}
	return dst, unkai.Bucket(h >> 54), h
}

func benchRecord(b unkai.Ballot, value []byte) store.Record {
	r := store.Record{Ballot: b, Promise: b, Epoch: 1}
	r.Item.Value, r.Item.CAS = value, uint64(b)
	return r
}

// noise is a value that does not compress.
func noise(n int) []byte {
	b := make([]byte, n+8)
	x := uint64(88172645463325252)
	for i := 0; i < n; i += 8 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		binary.LittleEndian.PutUint64(b[i:], x)
	}
	return b[:n]
}

// loaded is a store of n records of 100 bytes.
func loaded(b *testing.B, n int, cache int64, policy Sync) *Engine {
	e := mustOpen(b, Config{Dir: b.TempDir(), Cache: cache, Reserve: 1, Log: silent, Sync: policy})
	b.Cleanup(func() { mustClose(b, e) })
	all := noise(1 << 16)
	var key []byte
	writes := make([]store.Write, 4096)
	for i := range writes {
		writes[i].Done = make(signal, 1)
	}
	for i := range n + len(writes) {
		w := &writes[i%len(writes)]
		if i >= len(writes) && i-len(writes) < n {
			<-w.Done.(signal)
			if w.Err != nil {
				b.Fatal(w.Err)
			}
		}
		if i < n {
			key, w.Bucket, w.Hash = benchKey(key, uint64(i))
			w.Key, w.Record = key, benchRecord(1<<16, all[i%(1<<15):][:100])
			e.Write(w)
		}
	}
	return e
}

// signal is a Done that only says that one more is done.
type signal chan struct{}

func (d signal) WriteDone(*store.Write) { d <- struct{}{} }

// cpu reports what an operation costs in processor time, all threads together.
func cpu(b *testing.B) func() {
	b.Helper()
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	b.ResetTimer()
	return func() {
		b.StopTimer()
		b.ReportMetric(float64(used()-before)/float64(b.N)/1e3, "cpu-µs/op")
	}
}

func BenchmarkGetCached(b *testing.B) {
	const n = 100_000
	e := loaded(b, n, 256<<20, Off)
	defer cpu(b)()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var key []byte
		dst := make([]byte, 0, 512)
		for i := uint64(0); pb.Next(); i++ {
			var bucket unkai.Bucket
			var hash uint64
			key, bucket, hash = benchKey(key, i*7919%n)
			f, _, err := e.Get(bucket, hash, key, dst, 1)
			if err != nil || f.Record.Ballot == 0 {
				b.Fatal(f, err)
			}
		}
	})
}

func BenchmarkGetUncached(b *testing.B) {
	const n = 1_000_000
	e := loaded(b, n, 64<<20, Off)
	if err := errors.Join(e.db.Flush(), e.db.Compact(b.Context(), []byte{0}, []byte{255}, false)); err != nil {
		b.Fatal(err)
	}
	defer cpu(b)()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var key []byte
		dst := make([]byte, 0, 512)
		for i := uint64(0); pb.Next(); i++ {
			var bucket unkai.Bucket
			var hash uint64
			key, bucket, hash = benchKey(key, i*7919%n)
			f, _, err := e.Get(bucket, hash, key, dst, 1)
			if err != nil || f.Record.Ballot == 0 {
				b.Fatal(f, err)
			}
		}
	})
}

// BenchmarkGetAbsent asks for keys that are not there, as a first write does.
func BenchmarkGetAbsent(b *testing.B) {
	const n = 1_000_000
	e := loaded(b, n, 64<<20, Off)
	if err := errors.Join(e.db.Flush(), e.db.Compact(b.Context(), []byte{0}, []byte{255}, false)); err != nil {
		b.Fatal(err)
	}
	defer cpu(b)()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var key []byte
		for i := uint64(n); pb.Next(); i++ {
			var bucket unkai.Bucket
			var hash uint64
			key, bucket, hash = benchKey(key, i)
			f, _, err := e.Get(bucket, hash, key, nil, 1)
			if err != nil || f.Record.Ballot != 0 {
				b.Fatal(f, err)
			}
		}
	})
}

func BenchmarkSyncedWriters(b *testing.B) {
	for _, writers := range []int{1, 64, 256} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) { benchWriters(b, writers, 100_000) })
	}
}

// benchWriters lets each of the writers wait for its own write, as connections do.
func benchWriters(b *testing.B, writers, keys int) {
	e := loaded(b, keys, 256<<20, Always)
	v := noise(100)
	ballots := make([]atomic.Uint64, keys)
	for i := range ballots {
		ballots[i].Store(1 << 16)
	}
	syncs := e.Stats().Syncs
	defer cpu(b)()
	b.ReportAllocs()
	parallel(writers, b.N, func(worker, n int) {
		done := make(signal, 1)
		w := &store.Write{Done: done}
		var key []byte
		x := uint64(worker)
		for range n {
			x = x*6364136223846793005 + 1442695040888963407
			// Each worker has keys of its own.
			i := (x>>33)%uint64(keys/writers)*uint64(writers) + uint64(worker)
			key, w.Bucket, w.Hash = benchKey(key, i)
			old := ballots[i].Load()
			w.Key, w.Expect, w.Promised, w.Record = key, unkai.Ballot(old), unkai.Ballot(old), benchRecord(unkai.Ballot(old+1<<16), v)
			ballots[i].Store(old + 1<<16)
			e.Write(w)
			<-done
			if w.Err != nil {
				b.Error(w.Err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/float64(e.Stats().Syncs-syncs), "writes/sync")
}

// BenchmarkPebbleWriters is the same without our group commit: every writer has
// a batch of its own, and the pebble groups them.
func BenchmarkPebbleWriters(b *testing.B) {
	for _, writers := range []int{1, 64, 256} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) {
			const keys = 100_000
			e := loaded(b, keys, 256<<20, Always)
			v := noise(100)
			defer cpu(b)()
			b.ReportAllocs()
			parallel(writers, b.N, func(worker, n int) {
				var key, pkey, rec []byte
				x := uint64(worker)
				for i := range n {
					x = x*6364136223846793005 + 1442695040888963407
					var bucket unkai.Bucket
					var hash uint64
					key, bucket, hash = benchKey(key, (x>>33)%keys)
					r := benchRecord(unkai.Ballot(i+2)<<16, v)
					pkey = appendRecordKey(pkey[:0], bucket, hash, key)
					rec = store.AppendRecord(rec[:0], key, &r)
					if err := e.db.Set(pkey, rec, pebble.Sync); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// parallel shares n operations between workers.
func parallel(workers, n int, f func(worker, n int)) {
	done := make(chan struct{})
	for i := range workers {
		share := n / workers
		if i < n%workers {
			share++
		}
		go func() {
			f(i, share)
			done <- struct{}{}
		}()
	}
	for range workers {
		<-done
	}
}
