package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	"unkai"
	"unkai/internal/core/topology"
	"unkai/internal/memcache"
	"unkai/internal/node/manager"
)

// flush makes everything stored so far absent, everywhere: it returns when no
// node can read or write under an earlier topology any more.
func (n *Node) flush(at int64) error {
	if n.network.waits.Load() {
		return memcache.NotApplied{Err: errUnvouched}
	}
	if err := n.manager.Flush(at); err != nil {
		return err
	}
	top := n.manager.Topology()
	ctx, cancel := context.WithTimeout(context.Background(), changeLimit)
	defer cancel()
	for {
		if top.Fenced(n.heard(ctx, top)) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: it is decided, and too few replicas have heard of it so far", manager.ErrInDoubt)
		case <-time.After(joinRetry / 10):
		}
	}
}

// heard are the seats of the nodes that know a topology, or a newer one.
func (n *Node) heard(ctx context.Context, top *topology.Topology) (heard []unkai.Seat) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	h := n.hello() // a whole one: the others go by all that it says
	h.Book = nil
	for _, m := range top.Nodes {
		wg.Go(func() {
			if m.ID != n.id {
				a, err := n.askControl(ctx, m.ID, control{Hello: h})
				if err != nil || a.Hello == nil || a.Hello.Epoch < top.Epoch {
					return
				}
			}
			mu.Lock()
			heard = append(heard, m.Seat)
			mu.Unlock()
		})
	}
	wg.Wait()
	return heard
}

// flushedAnew reports whether there was a flush since it was asked last: after one, all
// buckets have to be swept, which reads all records, and after other changes none.
func (n *Node) flushedAnew(top *topology.Topology) bool {
	e := uint32(top.Flushed)
	return n.flushed.Swap(e) != e
}
