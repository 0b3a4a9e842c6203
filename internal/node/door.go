package node

import (
	"cmp"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"unkai"
	"unkai/internal/memcache"
	"unkai/internal/node/gateway"
)

// door lets memcached clients in. Before the rooms are open it answers them that they
// are not.
type door struct {
	n       *Node
	gateway atomic.Pointer[gateway.Gateway] // nil until the node serves
	decided chan struct{}                   // closed when it serves, or never will
	once    sync.Once
}

// openMemcache opens the door. Clients of a node that starts fast do not notice: they are
// listened to when it serves, or when the half of the time has passed in which they are
// to have an answer.
func (n *Node) openMemcache() {
	if n.listen == nil {
		return
	}
	d := &n.door
	n.memcache = memcache.New(memcache.Config{
		Handler: d, FlushAll: d.flush, Stats: d.stats, Now: n.cfg.Now, Log: n.log,
		Version: spoken + n.cfg.Version, MaxConns: n.cfg.MaxConns, MaxValue: n.cfg.MaxValue, IdleTimeout: n.cfg.IdleTimeout,
	})
	n.running.Go(func() {
		late := time.NewTimer(n.cfg.RequestTimeout / 2)
		defer late.Stop()
		select {
		case <-d.decided:
		case <-late.C:
		}
		if err := n.memcache.Serve(n.listen); err != nil {
			n.fail(fmt.Errorf("serve memcached clients: %w", err))
		}
	})
}

// open has what clients ask for done, from now on.
func (d *door) open(g *gateway.Gateway) {
	d.gateway.Store(g)
	d.decide()
}

func (d *door) decide() { d.once.Do(func() { close(d.decided) }) }

// Do implements memcache.Handler.
func (d *door) Do(b *unkai.Batch) {
	if g := d.gateway.Load(); g != nil {
		g.Do(b)
		return
	}
	err := d.shut()
	for len(b.Results) < len(b.Ops) {
		b.Results = append(b.Results, unkai.Result{Status: unkai.Failed, Err: err})
	}
}

func (d *door) flush(at int64) error {
	if d.gateway.Load() == nil {
		return memcache.NotApplied{Err: d.shut()}
	}
	return d.n.flush(at)
}

func (d *door) stats(section string) ([]memcache.Stat, bool) {
	if d.gateway.Load() == nil {
		return nil, true // there is nothing yet that could be counted
	}
	return d.n.stats(section)
}

// shut says why nothing is done for clients. By now that may be over.
func (d *door) shut() error {
	d.n.mu.Lock()
	defer d.n.mu.Unlock()
	return fmt.Errorf("this node does not serve yet (%s); ask another node", cmp.Or(d.n.state, "starting"))
}
