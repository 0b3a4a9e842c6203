package disk

import (
	"testing"

	"unkai/internal/store"
)

// copied is how many records a copy of a bucket has.
const copied = 20_000

// BenchmarkCopy puts a bucket of records of 100 bytes into an empty store: with
// writes, as many under way as the store takes, and by an ingest, which is the
// most that writing them in batches could gain.
func BenchmarkCopy(b *testing.B) {
	value := noise(100)
	start := func(b *testing.B) *Engine {
		cfg := small(nil)
		cfg.Dir = b.TempDir()
		cfg.Cache = 64 << 20
		return mustOpen(b, cfg)
	}
	b.Run("writes", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			e := start(b)
			const window = 8000
			done := make(refill, window)
			for range window {
				done <- &store.Write{Done: done}
			}
			b.StartTimer()
			for i := range uint64(copied) {
				w := <-done
				if w.Err != nil {
					b.Fatal(w.Err)
				}
				w.Key, _, w.Hash = benchKey(w.Key, i)
				w.Bucket, w.Record = 3, benchRecord(1<<16, value)
				e.Write(w)
			}
			for range window {
				<-done
			}
			b.StopTimer()
			mustClose(b, e)
			b.StartTimer()
		}
		b.ReportMetric(copied*float64(b.N)/b.Elapsed().Seconds(), "records/s")
	})
	b.Run("ingest", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			e := start(b)
			b.StartTimer()
			err := e.Ingest(3, func(yield func(store.Entry, error) bool) {
				var key []byte
				for i := range uint64(copied) {
					var en store.Entry
					key, _, en.Hash = benchKey(key, i)
					en.Key, en.Record = key, benchRecord(1<<16, value)
					if !yield(en, nil) {
						return
					}
				}
			})
			b.StopTimer()
			if err != nil {
				b.Fatal(err)
			}
			mustClose(b, e)
			b.StartTimer()
		}
		b.ReportMetric(copied*float64(b.N)/b.Elapsed().Seconds(), "records/s")
	})
}

// refill gives writes that have ended back to who writes.
type refill chan *store.Write

// WriteDone implements store.Done.
func (r refill) WriteDone(w *store.Write) { r <- w }
