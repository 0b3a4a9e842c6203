package node_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"unkai/internal/node"
)

// BenchmarkAttach attaches a fourth node to three that hold records of some size, all
// on disk, and reports how fast what it takes over moves, from the job's begin to its
// end, as a part of how fast as many bytes go over a bare TCP connection into a file
// that is synced after each megabyte. There are so many that the changes of the topology,
// some tenths of a second whatever there is, are not all that is measured. Run it with
// -benchtime 1x.
func BenchmarkAttach(b *testing.B) {
	for _, of := range []struct{ records, size int }{{1_000_000, 100}, {50_000, 4000}} {
		b.Run(fmt.Sprintf("%dB", of.size), func(b *testing.B) {
			for b.Loop() {
				attachOne(b, of.records, of.size)
			}
		})
	}
}

func attachOne(b *testing.B, records, size int) {
	var all []*node.Node
	for range 3 {
		all = append(all, benchNode(b, all))
		awaitIdle(b, all[0], len(all))
	}
	fillFast(b, all[0], records, size)
	time.Sleep(11 * time.Second) // for so long after clients were there, buckets go by turns
	benchNode(b, all)
	var began time.Time
	for {
		seen := nodes(b, all[0])
		if began.IsZero() && seen.Job != nil {
			began = time.Now()
		}
		if !began.IsZero() && seen.Job == nil && seen.Moving == 0 {
			break
		}
		time.Sleep(25 * time.Millisecond) // to look costs all nodes some work
	}
	took := time.Since(began)
	bare := bareCopy(b, records*size*3/4)
	b.ReportMetric(float64(bare)/float64(took), "of-bare")
	b.ReportMetric(took.Seconds(), "s")
}

func benchNode(b *testing.B, others []*node.Node, set ...func(*node.Config)) *node.Node {
	b.Helper()
	cfg := node.DefaultConfig()
	cfg.Data, cfg.Store = filepath.Join(b.TempDir(), "data"), "disk"
	cfg.Listen, cfg.Peer, cfg.HTTP = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	cfg.Log = slog.New(slog.DiscardHandler)
	if len(others) > 0 {
		cfg.Join = []string{others[0].Peer()}
	}
	for _, do := range set {
		do(&cfg)
	}
	n, err := node.Start(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := n.Stop(ctx); err != nil {
			b.Error(err)
		}
	})
	return n
}

// awaitIdle waits until so many nodes hold something and nothing moves.
func awaitIdle(b *testing.B, n *node.Node, want int) {
	b.Helper()
	for until := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		seen, attached := nodes(b, n), 0
		for _, m := range seen.Nodes {
			if m.State == "attached" && m.Replicas > 0 {
				attached++
			}
		}
		if attached == want && seen.Job == nil && seen.Moving == 0 {
			return
		}
		if time.Now().After(until) {
			b.Fatalf("%+v", seen)
		}
	}
}

// fillFast stores so many records of so many bytes with their keys. Their values do not
// compress.
func fillFast(b *testing.B, n *node.Node, records, size int) {
	b.Helper()
	const clients, pipelined = 8, 250
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() { fillPart(b, n, i*pipelined, records, clients*pipelined, pipelined, size) })
	}
	all.Wait()
	if b.Failed() {
		b.FailNow()
	}
}

// fillPart stores so many records from one on, then passes over some, and so on.
func fillPart(b *testing.B, n *node.Node, from, to, every, pipelined, size int) {
	c, err := net.Dial("tcp", n.Listen().String())
	if err != nil {
		b.Error(err)
		return
	}
	defer func() { _ = c.Close() }()
	r, value := bufio.NewReader(c), make([]byte, size-len("key000000000"))
	random := rand.NewChaCha8([32]byte{byte(from)})
	for at := from; at < to; at += every {
		var q strings.Builder
		for i := at; i < at+pipelined; i++ {
			_, _ = random.Read(value) // never fails
			fmt.Fprintf(&q, "set key%09d 0 0 %d\r\n%s\r\n", i, len(value), value)
		}
		if _, err := io.WriteString(c, q.String()); err != nil {
			b.Error(err)
			return
		}
		for range pipelined {
			if line, err := r.ReadString('\n'); err != nil || line != "STORED\r\n" {
				b.Error(line, err)
				return
			}
		}
	}
}

// bareCopy is how long so many bytes take over a TCP connection into a file that is
// synced after each megabyte: the median of five copies, since disks differ from one second
// to the next.
func bareCopy(b *testing.B, bytes int) time.Duration {
	b.Helper()
	var took []time.Duration
	for range 5 {
		took = append(took, copyOnce(b, bytes))
	}
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2].Seconds(), "bare-s")
	return took[len(took)/2]
}

func copyOnce(b *testing.B, bytes int) time.Duration {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	f, err := os.Create(filepath.Join(b.TempDir(), "bare"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	began := time.Now()
	sent := make(chan error, 1)
	go func() {
		c, err := net.Dial("tcp", l.Addr().String())
		if err == nil {
			_, err = c.Write(make([]byte, bytes))
			_ = c.Close()
		}
		sent <- err
	}()
	c, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for n := int64(1); n > 0; {
		if n, err = io.CopyN(f, c, 1<<20); err != nil && !errors.Is(err, io.EOF) {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	took := time.Since(began)
	if err := <-sent; err != nil {
		b.Fatal(err)
	}
	return took
}
