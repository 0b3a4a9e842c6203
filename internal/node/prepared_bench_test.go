package node_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"unkai"
	"unkai/internal/node"
	"unkai/internal/store"
	"unkai/internal/store/disk"
)

// prepared is a cluster of three nodes on disk that all hold the same records, put
// into their stores before they start.
type prepared struct {
	dirs  []string
	nodes []*node.Node
	addrs []string
	wrap  func(i int, dir string, buckets int) store.Engine // of a node that starts; nil: its own
}

// prepare makes directories of three nodes that hold so many records with values of
// so many bytes. No node runs when it returns.
func prepare(b *testing.B, records, size int) *prepared {
	b.Helper()
	p := &prepared{nodes: make([]*node.Node, 3), addrs: []string{lasting(), lasting(), lasting()}}
	for i := range p.nodes {
		p.dirs = append(p.dirs, filepath.Join(b.TempDir(), "data"))
		p.start(b, i)
		awaitIdle(b, p.nodes[0], i+1)
	}
	b.Cleanup(func() {
		for i, n := range p.nodes {
			if n != nil {
				p.stop(b, i)
			}
		}
	})
	top := p.nodes[0].Topology()
	first, _ := top.Node(top.Nodes[0].ID)
	for i := range p.nodes {
		p.stop(b, i)
	}
	space := top.Space()
	keys := make([][]uint32, top.Buckets)
	for i := range uint32(records) {
		k := space.Bucket(space.Hash(benchKey(nil, i)))
		keys[k] = append(keys[k], i)
	}
	e := openStore(b, p.dirs[0], top.Buckets)
	noise := make([]byte, 1<<16+size)              // values that do not compress
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise) // it always does
	for k, of := range keys {
		ballot := unkai.MakeBallot(unkai.Stride, first.Seat)
		var all []store.Entry
		for _, i := range of {
			key := benchKey(nil, i)
			all = append(all, store.Entry{Hash: space.Hash(key), Key: key, Record: store.Record{
				Ballot: ballot, Promise: ballot, Epoch: top.Route(unkai.Bucket(k)).Epoch,
				Item: unkai.Item{Value: noise[i%(1<<16):][:size], CAS: uint64(ballot)},
			}})
		}
		fill(b, e, unkai.Bucket(k), all)
	}
	if err := e.SetMark(1000); err != nil { // above what any of the three remembers
		b.Fatal(err)
	}
	for _, dir := range p.dirs[1:] {
		to := filepath.Join(dir, "store")
		if err := os.RemoveAll(to); err != nil {
			b.Fatal(err)
		}
		if err := e.Checkpoint(to); err != nil {
			b.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		b.Fatal(err)
	}
	return p
}

// fill writes records of which there is none yet.
func fill(b *testing.B, e *disk.Engine, k unkai.Bucket, all []store.Entry) {
	b.Helper()
	slices.SortFunc(all, func(x, y store.Entry) int { return cmp.Or(cmp.Compare(x.Hash, y.Hash), bytes.Compare(x.Key, y.Key)) })
	done := make(filled, 1)
	for part := range slices.Chunk(all, 1000) { // no more than may wait
		if left := e.WriteNew(k, part, nil, &store.Write{Done: done}); len(left) > 0 {
			b.Fatalf("%d records of bucket %d are left", len(left), k)
		}
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}

// filled hears that records are durable.
type filled chan error

// WriteDone implements store.Done.
func (d filled) WriteDone(w *store.Write) { d <- w.Err }

func benchKey(dst []byte, i uint32) []byte { return fmt.Appendf(dst, "key%09d", i) }

func openStore(b *testing.B, dir string, buckets int) *disk.Engine {
	b.Helper()
	e, err := disk.Open(disk.Config{
		Dir: filepath.Join(dir, "store"), Buckets: buckets, Sync: disk.Always, Cache: node.DefaultConfig().Cache,
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	return e
}

// start starts a node where it was before, and returns when it serves.
func (p *prepared) start(b *testing.B, i int) {
	b.Helper()
	if err := p.launch(i); err != nil {
		b.Fatal(err)
	}
}

// startAll starts all nodes at once.
func (p *prepared) startAll(b *testing.B) {
	b.Helper()
	errs := make([]error, len(p.nodes))
	var all sync.WaitGroup
	for i := range p.nodes {
		all.Go(func() { errs[i] = p.launch(i) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		b.Fatal(err)
	}
}

func (p *prepared) launch(i int) error {
	cfg := node.DefaultConfig()
	cfg.Data, cfg.Store = p.dirs[i], node.Disk
	cfg.Listen, cfg.Peer, cfg.HTTP = "127.0.0.1:0", p.addrs[i], "127.0.0.1:0"
	cfg.Log = slog.New(slog.DiscardHandler)
	if i > 0 {
		cfg.Join = []string{p.addrs[0]}
	}
	if p.wrap != nil {
		cfg.Engine = p.wrap(i, p.dirs[i], cfg.Buckets)
	}
	n, err := node.Start(context.Background(), cfg)
	if err == nil {
		p.nodes[i], p.addrs[i] = n, n.Peer()
	}
	return err
}

func (p *prepared) stop(b *testing.B, i int) {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := p.nodes[i].Stop(ctx); err != nil {
		b.Error(err)
	}
	p.nodes[i] = nil
}

// each are the nodes that run.
func (p *prepared) each() iter.Seq[*node.Node] {
	return func(yield func(*node.Node) bool) {
		for _, n := range p.nodes {
			if n != nil && !yield(n) {
				return
			}
		}
	}
}

// known is in how many buckets all nodes that run know what they sum up to, and equal
// in how many that is the same.
func (p *prepared) known() (known, equal int) {
	for k := range p.nodes[0].Topology().Buckets {
		all, same := true, true
		want := p.nodes[0].Tree(unkai.Bucket(k)).Root
		for n := range p.each() {
			t := n.Tree(unkai.Bucket(k))
			all, same = all && t.Known, same && t.Known && t.Root == want
		}
		if all {
			known++
		}
		if same {
			equal++
		}
	}
	return known, equal
}

// await waits until something is so, and tells how long that took.
func await(b *testing.B, what string, limit time.Duration, ready func() bool) time.Duration {
	b.Helper()
	began := time.Now()
	for !ready() {
		if time.Since(began) > limit {
			b.Fatalf("after %v still not: %s", limit, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
	return time.Since(began)
}

// awaitKnown waits until all nodes know all trees.
func (p *prepared) awaitKnown(b *testing.B) time.Duration {
	return await(b, "all trees are known", 10*time.Minute, func() bool {
		known, _ := p.known()
		return known == p.nodes[0].Topology().Buckets
	})
}

// awaitEqual waits until all roots are equal at all nodes.
func (p *prepared) awaitEqual(b *testing.B) time.Duration {
	return await(b, "all roots are equal", 10*time.Minute, func() bool {
		_, equal := p.known()
		return equal == p.nodes[0].Topology().Buckets
	})
}

// unreconciled is how many keys the nodes know to differ.
func (p *prepared) unreconciled() (sum int64) {
	for n := range p.each() {
		sum += n.Repaired().Unreconciled
	}
	return sum
}
