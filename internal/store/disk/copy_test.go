package disk

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"unkai"
	"unkai/internal/store"
)

// BenchmarkCopy brings buckets to an empty store as a node that joins takes them: many at
// once, of each a message after the other, the next when the last is durable. Small groups
// go through the log and a memtable; what that costs is compared with tables.
func BenchmarkCopy(b *testing.B) {
	for _, of := range []struct{ size, buckets, records int }{{100, 512, 800}, {4000, 512, 40}, {100, 32, 8000}} {
		for _, way := range []string{"batches", "tables", "dropped"} {
			b.Run(fmt.Sprintf("%dx%dx%dB/%s", of.buckets, of.records, of.size, way), func(b *testing.B) {
				many := manyTables
				if way == "batches" {
					many = math.MaxInt
				}
				benchCopy(b, of.size, of.buckets, of.records, many, way == "dropped")
			})
		}
	}
}

// message is how many bytes a node that joins takes at a time.
const message = 256 << 10

// benchCopy has the store forget first what it does not hold, as a newcomer does, if dropped.
func benchCopy(b *testing.B, size, buckets, records, many int, dropped bool) {
	value := noise(size + 1<<16)
	var used time.Duration
	var written, ingested, lowest, files, groups int64
	for b.Loop() {
		b.StopTimer()
		cfg := small(nil)
		cfg.Dir, cfg.Cache, cfg.Buckets = b.TempDir(), 64<<20, 1024
		e := mustOpen(b, cfg)
		e.tables.many = many
		if dropped {
			for k := range cfg.Buckets {
				mustDrop(b, e, unkai.Bucket(k))
			}
		}
		began := spent()
		b.StartTimer()
		var next atomic.Int64
		var all sync.WaitGroup
		for range 48 {
			all.Go(func() {
				for {
					k := next.Add(1) - 1
					if k >= int64(buckets) {
						return
					}
					copyBucket(b, e, unkai.Bucket(k), records, size, value)
				}
			})
		}
		all.Wait()
		b.StopTimer()
		if err := e.db.Flush(); err != nil { // who reads pays for it otherwise
			b.Fatal(err)
		}
		m := e.db.Metrics()
		mustClose(b, e) // with what goes on in the background
		used += spent() - began
		written += int64(m.WAL.BytesWritten)
		groups += int64(m.Ingest.Count)
		for i := range m.Levels {
			l := &m.Levels[i]
			written += int64(l.TableBytesFlushed + l.TableBytesCompacted + l.TableBytesIngested)
			ingested += int64(l.TableBytesIngested)
			files += l.TablesCount
		}
		lowest += int64(m.Levels[len(m.Levels)-1].TableBytesIngested)
		b.StartTimer()
	}
	n := float64(b.N) * float64(buckets) * float64(records)
	rec := benchRecord(1<<16, value[:size])
	bytes := n * float64(recordKeyFixed+len(copyKey(0, 0))+store.EncodedLen(&rec))
	b.ReportMetric(float64(used)/n, "cpu-ns/record")
	b.ReportMetric(float64(written)/bytes, "written-of-brought")
	b.ReportMetric(float64(ingested)/bytes, "in-tables")
	b.ReportMetric(float64(lowest)/bytes, "in-lowest")
	b.ReportMetric(float64(files)/float64(b.N), "tables")
	b.ReportMetric(float64(groups)/float64(b.N), "ingests")
	b.ReportMetric(n/b.Elapsed().Seconds(), "records/s")
}

func copyKey(k unkai.Bucket, i uint64) []byte { return fmt.Appendf(nil, "key-%05d-%07d", k, i) }

func copyBucket(b *testing.B, e *Engine, k unkai.Bucket, records, size int, value []byte) {
	var all []store.Entry
	for i := range uint64(records) {
		var en store.Entry
		en.Key = copyKey(k, i)
		en.Hash = testHash(string(en.Key))
		en.Record = benchRecord(1<<16, value[en.Hash%(1<<16):][:size])
		all = append(all, en)
	}
	slices.SortFunc(all, func(x, y store.Entry) int {
		if inOrder(&x, &y) {
			return -1
		}
		return 1
	})
	done := make(toldTo, 1)
	for len(all) > 0 {
		n := min(len(all), message/(size+60))
		_ = e.WriteNew(k, all[:n], nil, &store.Write{Done: done}) // a few are to be written one by one
		if w := <-done; w.Err != nil {
			b.Error(w.Err)
		}
		all = all[n:]
	}
}

// spent is how much processor time the process has taken.
func spent() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
