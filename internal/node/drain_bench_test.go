package node_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"unkai/internal/admin"
	"unkai/internal/node"
)

// BenchmarkDrain takes one of four nodes out that hold records of some size, all on disk,
// and reports how fast what it holds moves to the other three, from the job's begin until
// it is removed, as BenchmarkAttach does. Run it with -benchtime 1x.
func BenchmarkDrain(b *testing.B) {
	for _, of := range []struct{ records, size int }{{1_000_000, 100}, {50_000, 4000}} {
		b.Run(fmt.Sprintf("%dB", of.size), func(b *testing.B) {
			for b.Loop() {
				drainOne(b, of.records, of.size)
			}
		})
	}
}

func four(b *testing.B, set func(*node.Config)) (all []*node.Node) {
	for range 4 {
		all = append(all, benchNode(b, all, set))
		awaitIdle(b, all[0], len(all))
	}
	return all
}

func drainOne(b *testing.B, records, size int) {
	all := four(b, func(*node.Config) {})
	fillFast(b, all[0], records, size)
	time.Sleep(11 * time.Second) // for so long after clients were there, buckets go by turns
	began := time.Now()
	drain(b, all[0], all[3])
	for nodes(b, all[0]).Job != nil {
		time.Sleep(5 * time.Millisecond)
	}
	took := time.Since(began)
	<-all[3].Done()
	b.ReportMetric(float64(bareCopy(b, records*size*3/4))/float64(took), "of-bare")
	b.ReportMetric(took.Seconds(), "s")
}

// drain has a node take another out.
func drain(b *testing.B, asked, leaver *node.Node) {
	b.Helper()
	text, err := json.Marshal(admin.Wish{Kind: "detach", Nodes: []string{leaver.Peer()}})
	if err != nil {
		b.Fatal(err)
	}
	for until := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		resp, err := http.Post("http://"+asked.HTTP().String()+"/v1/jobs", "application/json", bytes.NewReader(text))
		if err != nil {
			b.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return
		}
		if resp.StatusCode != http.StatusConflict || time.Now().After(until) { // else: forgetting
			b.Fatal(resp.Status)
		}
	}
}

// BenchmarkDrainLoaded takes one of four nodes out that hold 80 MB on disk, while clients
// ask all four as in BenchmarkAttachLoaded; those of the node that leaves stay there until
// it closes their connections. It reports the same, until all has moved, and the
// operations that failed until the node has gone. Run it with -benchtime 1x.
func BenchmarkDrainLoaded(b *testing.B) {
	for b.Loop() {
		drainLoaded(b, 20_000, 4000)
	}
}

func drainLoaded(b *testing.B, records, size int) {
	all := four(b, func(c *node.Config) { c.Farewell = 5 * time.Second })
	fillFast(b, all[0], records, size)
	l := startLoad(b, all, records, size, 1<<30)
	time.Sleep(2 * time.Second)
	l.stop()
	capacity := float64(l.done.Load()) / 2
	l = startLoad(b, all, records, size, 0.3*capacity)
	defer l.stop()
	time.Sleep(2 * time.Second)
	l.take()
	time.Sleep(6 * time.Second)
	first := l.take()
	time.Sleep(6 * time.Second)
	before := l.take()
	b.ReportMetric(float64(p99(before.all()))/float64(p99(first.all())), "p99-of-itself")
	began := time.Now()
	drain(b, all[0], all[3])
	for {
		seen := nodes(b, all[0])
		if seen.Job == nil || seen.Job.Moved.Replicas == seen.Job.Planned.Replicas && seen.Moving == 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	during := l.take()
	took := time.Since(began).Seconds()
	<-all[3].Done()
	farewell := l.take()
	time.Sleep(time.Second) // for those that have moved
	b.ReportMetric(float64(p99(during.all()))/float64(p99(before.all())), "p99-ratio")
	b.ReportMetric(float64(p99(during.reads))/float64(p99(before.reads)), "reads-p99-ratio")
	b.ReportMetric(float64(p99(during.writes))/float64(p99(before.writes)), "writes-p99-ratio")
	b.ReportMetric(float64(p99(farewell.all()))/float64(p99(before.all())), "farewell-p99-ratio")
	b.ReportMetric(float64(p99(before.all()))/1e6, "ms-p99-before")
	b.ReportMetric(took, "s")
	b.ReportMetric(float64(records*size)*3/4/took/(1<<20), "MiB/s")
	b.ReportMetric(0.3*capacity, "asked/s")
	b.ReportMetric(float64(l.failed.Load()), "failed")
}
