package manager_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"unkai"
	"unkai/internal/core/topology"
	"unkai/internal/node/manager"
)

// disk is a file that is really written and synced.
type disk struct {
	path  string
	saves *[2]atomic.Int64 // how many, and bytes
}

func (d disk) Load() ([]byte, error) {
	b, err := os.ReadFile(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fs.ErrNotExist
	}
	return b, err
}

func (d disk) Save(b []byte) error {
	d.saves[0].Add(1)
	d.saves[1].Add(int64(len(b)))
	f, err := os.Create(d.path + ".new")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(d.path+".new", d.path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(d.path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// direct asks the others without a network in between.
type direct struct {
	from unkai.NodeID
	all  map[unkai.NodeID]*manager.Manager
	sent *[2]atomic.Int64 // questions, and bytes with the answers
}

func (w direct) Ask(_ context.Context, to unkai.NodeID, q []byte) ([]byte, error) {
	m := w.all[to]
	if m == nil {
		return nil, errLost
	}
	a := m.Serve(w.from, q)
	w.sent[0].Add(1)
	w.sent[1].Add(int64(len(q) + len(a)))
	return a, nil
}

// BenchmarkChange has six nodes, three of them managers, take a turn of a job: how long it
// takes to decide it, and until all have it, what that takes of the processor, what is sent
// and what is written.
func BenchmarkChange(b *testing.B) {
	for _, buckets := range []int{1024, 65536} {
		b.Run(fmt.Sprintf("%d buckets", buckets), func(b *testing.B) {
			top := topology.New(1, buckets, 3, 2, 2, topology.Node{ID: 1, Weight: 1})
			for id := unkai.NodeID(2); id <= 6; id++ {
				var err error
				if top, err = top.Join(topology.Node{ID: id, Weight: 1}); err != nil {
					b.Fatal(err)
				}
			}
			all := make([]unkai.Bucket, buckets)
			for i := range all {
				all[i] = unkai.Bucket(i)
			}
			top, err := top.Attach(2, 3, 4)
			if err != nil {
				b.Fatal(err)
			}
			top = top.Proceed(all, nil, 0, nil)
			top = top.Proceed(nil, all, 0, nil)
			forgot := map[unkai.Seat][]unkai.Bucket{}
			for seat := unkai.Seat(1); seat <= 6; seat++ {
				forgot[seat] = top.Strayed(seat)
			}
			top = top.Forgot(forgot)
			if top, err = top.Begin(topology.Change{Kind: topology.KindAttach, Nodes: []unkai.NodeID{5, 6}}, nil, 1); err != nil {
				b.Fatal(err)
			}
			top.Managers = []unkai.NodeID{1, 2, 3}
			var saves, sent [2]atomic.Int64
			var mu sync.Mutex
			heard := sync.NewCond(&mu)
			ms := map[unkai.NodeID]*manager.Manager{}
			for id := unkai.NodeID(1); id <= 6; id++ {
				dir := b.TempDir()
				first := top
				m, err := manager.Open(manager.Config{
					Self: id, Topology: disk{filepath.Join(dir, "t"), &saves}, Decree: disk{filepath.Join(dir, "d"), &saves},
					Network: direct{id, ms, &sent}, Now: now, Log: slog.New(slog.DiscardHandler), Timeout: 5 * time.Second,
					Changed: func() { mu.Lock(); heard.Broadcast(); mu.Unlock() },
				}, func() (topology.Topology, error) { return first, nil })
				if err != nil {
					b.Fatal(err)
				}
				ms[id] = m
				defer func() { _ = m.Close() }()
			}
			for i := range saves {
				saves[i].Store(0)
			}
			var deciding, telling time.Duration
			turns := 0
			began := processor()
			for b.Loop() {
				turns++
				start := time.Now()
				next, err := ms[1].Change(b.Context(), func(t *topology.Topology) (topology.Topology, error) {
					return t.Proceed(all, all, buckets/16, nil), nil
				})
				if err != nil {
					b.Fatal(err)
				}
				deciding += time.Since(start)
				mu.Lock()
				for _, m := range ms {
					for m.Topology().Epoch < next.Epoch {
						heard.Wait()
					}
				}
				mu.Unlock()
				telling += time.Since(start)
			}
			n := float64(turns)
			b.ReportMetric(deciding.Seconds()*1000/n, "ms-decided")
			b.ReportMetric(telling.Seconds()*1000/n, "ms-known")
			b.ReportMetric((processor()-began).Seconds()*1000/n, "ms-cpu")
			b.ReportMetric(float64(sent[1].Load())/n, "sent-B")
			b.ReportMetric(float64(saves[1].Load())/n, "written-B")
			b.ReportMetric(float64(saves[0].Load())/n, "saves")
		})
	}
}

// processor is what this process has used.
func processor() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
