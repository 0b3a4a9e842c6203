package replica

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"unkai"
	"unkai/internal/core/merkle"
	"unkai/internal/core/topology"
	"unkai/internal/store"
	"unkai/internal/store/disk"
	"unkai/internal/store/memory"
)

const benchBuckets = 1024

// BenchmarkTreeWrites accepts values at two replicas in turns, one of which knows its
// trees and keeps them, and reports how much processor's time a write takes without and
// with that, and what the rate with it is by the one without: of the median round in
// time that has passed, and of all rounds in the processor's.
func BenchmarkTreeWrites(b *testing.B) {
	for name, engine := range map[string]func() (store.Engine, error){
		"memory": func() (store.Engine, error) { return memory.Open(memory.Config{Buckets: benchBuckets}) },
		"disk": func() (store.Engine, error) {
			return disk.Open(disk.Config{Dir: b.TempDir() + "/store", Buckets: benchBuckets, Sync: disk.Always, Cache: 64 << 20, Log: slog.New(slog.DiscardHandler)})
		},
	} {
		b.Run(name, func(b *testing.B) {
			without, with := benchReplica(b, engine), benchReplica(b, engine)
			const part = 40_000
			counter := uint64(1)
			write := func(r *Local) spent {
				began := spend()
				acceptMany(b, r, part, &counter)
				return spend().since(began)
			}
			write(without)
			write(with)
			for k := range unkai.Bucket(benchBuckets) {
				if err := with.Count(b.Context(), k); err != nil {
					b.Fatal(err)
				}
			}
			var ratios []float64
			var lone, kept time.Duration
			for b.Loop() {
				// Each comes first as often as second.
				x, y := write(without), write(with)
				y2, x2 := write(with), write(without)
				ratios = append(ratios, float64(x.passed+x2.passed)/float64(y.passed+y2.passed))
				lone, kept = lone+x.used+x2.used, kept+y.used+y2.used
			}
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "of-without")
			b.ReportMetric(float64(lone)/float64(kept), "of-without-cpu")
			b.ReportMetric(float64(lone.Nanoseconds())/float64(2*part*b.N), "without-cpu-ns/write")
			b.ReportMetric(float64(kept.Nanoseconds())/float64(2*part*b.N), "with-cpu-ns/write")
		})
	}
}

// spent is time that has passed, and what this process has used of the processors'.
type spent struct{ passed, used time.Duration }

var origin = time.Now()

func spend() spent {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return spent{time.Since(origin), time.Duration(u.Utime.Nano() + u.Stime.Nano())}
}

func (s spent) since(o spent) spent { return spent{s.passed - o.passed, s.used - o.used} }

func benchReplica(b *testing.B, open func() (store.Engine, error)) *Local {
	b.Helper()
	e, err := open()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = e.Close() })
	top := topology.New(7, benchBuckets, 3, 2, 2, topology.Node{ID: 1, Weight: 1})
	if err := top.Seal(); err != nil {
		b.Fatal(err)
	}
	return New(e, 1, func() *topology.Topology { return &top })
}

// window is how many writes are under way at once, in each of two goroutines.
const window = 256

// given gives back calls that have been answered.
type given chan *Call

func (g given) CallAnswered(c *Call) { g <- c }

// acceptMany accepts so many values of 100 bytes for keys that come again.
func acceptMany(b *testing.B, r *Local, n int, counter *uint64) {
	b.Helper()
	space := r.topology().Space()
	from := *counter
	*counter += uint64(n)
	var both sync.WaitGroup
	var failed atomic.Pointer[Call]
	for half := range 2 {
		both.Go(func() {
			free := make(given, window)
			for range window {
				free <- &Call{Key: make([]byte, 12), Answered: free}
			}
			value := make([]byte, 100)
			for i := half; i < n; i += 2 {
				c := <-free
				if c.Status != Pending && c.Status != OK {
					failed.Store(c)
				}
				copy(c.Key, "key:")
				binary.BigEndian.PutUint64(c.Key[4:], uint64(i))
				c.Hash = space.Hash(c.Key)
				c.Bucket = space.Bucket(c.Hash)
				c.Epoch = r.topology().Route(c.Bucket).Epoch
				c.Ballot = unkai.MakeBallot((from+uint64(i))*unkai.Stride, 1)
				c.Item = unkai.Item{Value: value, CAS: uint64(c.Ballot)}
				if r.Accept(c) {
					free <- c
				}
			}
			for range window {
				<-free
			}
		})
	}
	both.Wait()
	if c := failed.Load(); c != nil {
		b.Fatalf("%v %v", c.Status, c.Err)
	}
}

// A tree takes whole lines of the processor's cache, and what a write touches is one.
func TestTreeIsLaidOutForWrites(t *testing.T) {
	const line = 64
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("addresses are shorter here")
	}
	if got := unsafe.Sizeof(tree{}); got%line != 0 {
		t.Errorf("a tree has %d bytes", got)
	}
	if got := unsafe.Offsetof(tree{}.sums) + unsafe.Sizeof(merkle.Tree{}); got > line {
		t.Errorf("what a write touches ends at %d", got)
	}
}

// BenchmarkTreeChange is what a write pays for a tree that is kept, alone.
func BenchmarkTreeChange(b *testing.B) {
	r := benchReplica(b, func() (store.Engine, error) { return memory.Open(memory.Config{Buckets: benchBuckets}) })
	for k := range r.trees {
		r.trees[k].sums, r.trees[k].known = *merkle.New(r.skip(), merkle.DepthFor(1000)), true
	}
	hash := uint64(1)
	key := []byte("key")
	b.ReportAllocs()
	for b.Loop() {
		hash = hash*6364136223846793005 + 1442695040888963407
		r.trees[hash>>54].change(hash, key, 1<<20, 2<<20)
	}
}

// BenchmarkTreeMemory is how much memory the trees of a node take, by how many
// records it holds in its 1024 buckets: on the heap, with all that belongs to them.
func BenchmarkTreeMemory(b *testing.B) {
	for _, records := range []int{1_000_000, 1 << 20, 10_000_000, 10 << 20} {
		b.Run(fmt.Sprint(records), func(b *testing.B) {
			for b.Loop() {
				before := heap()
				trees := make([]tree, benchBuckets)
				depth := merkle.DepthFor(int64(records / benchBuckets))
				for k := range trees {
					trees[k].sums = *merkle.New(10, depth)
				}
				hash := uint64(1)
				for range records {
					hash = hash*6364136223846793005 + 1442695040888963407
					mixed := (hash ^ hash>>32) * 0x94d049bb133111eb
					trees[mixed>>54].sums.Change(mixed, 0, unkai.Ballot(hash|1))
				}
				outgrown := 0
				for k := range trees { // as the next count would make them
					if fit := trees[k].sums.Fit(); fit > trees[k].sums.Depth() {
						trees[k].sums = *merkle.New(10, fit)
						outgrown++
					} else if fit < trees[k].sums.Depth() {
						trees[k].sums.Fold(fit)
					}
				}
				b.ReportMetric(float64(heap()-before)/float64(records), "B/record")
				b.ReportMetric(float64(outgrown), "recounted")
				runtime.KeepAlive(trees)
			}
		})
	}
}

// heap is how many bytes are in use on it.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
