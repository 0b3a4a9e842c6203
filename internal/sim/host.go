package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"unkai"
	"unkai/internal/core/topology"
	"unkai/internal/node"
	"unkai/internal/peer"
	"unkai/internal/store"
)

// host is a machine with one node, which may have several lives.
type host struct {
	w        *World
	number   int
	life     int
	addr     string
	dir      string
	disk     *Disk
	endpoint *endpoint     // nil while it is down; the bus's
	until    time.Time     // it is stalled so long
	skew     time.Duration // of its clock
	copy     copied        // an old one of what it keeps
	copies   int           // so far
	manual   bool          // it gets its share from an operator

	mu     sync.Mutex
	node   *node.Node
	gone   chan struct{} // closed when this life has ended
	cancel context.CancelFunc
	engine *Engine
	empty  bool // what it had is of no use: it was removed
}

// start begins a life of a host's node.
func (w *World) start(h *host) {
	h.life++
	h.empty = false
	dir := filepath.Join(w.cfg.Dir, fmt.Sprintf("%d.%d", h.number, h.life))
	if err := inherit(h.dir, dir); err != nil {
		w.fail(err)
		return
	}
	h.dir = dir
	seed := w.bus.rng.Uint64()
	rng := rand.New(rand.NewPCG(seed, uint64(h.number)))
	var mu sync.Mutex
	cfg := node.DefaultConfig()
	cfg.Data, cfg.Listen, cfg.HTTP, cfg.Peer, cfg.Buckets = dir, "", "", h.addr, buckets
	cfg.Log = slog.New(slog.DiscardHandler)
	if w.cfg.Log != nil {
		cfg.Log = slog.New(slog.NewTextHandler(w.cfg.Log, &slog.HandlerOptions{Level: slog.LevelDebug})).With("host", h.number)
	}
	if h.manual {
		cfg.Attach = node.Manual
	}
	if w.cfg.Zones > 0 {
		cfg.Zone = zone(h.number % w.cfg.Zones)
	}
	cfg.AutoReplace = w.cfg.AutoReplace
	cfg.Now = func() int64 { return time.Now().Add(h.clock()).UnixMilli() }
	cfg.Rand = func() uint64 {
		mu.Lock()
		defer mu.Unlock()
		return rng.Uint64()
	}
	disk := h.disk
	if w.cfg.Memory {
		cfg.Store, disk = node.Memory, w.blank()
	}
	engine := Open(disk, seed, func(order []byte, done func()) {
		w.bus.send(&event{name: "durable", from: unkai.NodeID(h.number), body: order, plan: func(e *event) {
			e.do = done
			w.bus.after(0, e)
		}})
	})
	engine.ran = func() {
		w.bus.send(&event{name: "run", from: unkai.NodeID(h.number), plan: func(*event) { w.ran(h) }})
	}
	engine.cut = func() { w.did("run of records cut short") }
	cfg.Engine = engine
	if w.cfg.Memory { // as internal/store/memory is
		cfg.Engine = struct{ store.Engine }{engine}
	}
	for _, o := range w.hosts {
		if o != h && (h.number > 0 || h.life > 1) { // the first begins the cluster
			cfg.Join = append(cfg.Join, o.addr)
		}
	}
	e := &endpoint{w: w, host: h, addr: h.addr, run: uint64(h.life), known: map[unkai.NodeID]string{}, up: map[unkai.NodeID]uint64{}}
	cfg.Network = func(self unkai.NodeID) peer.Network {
		e.id = self
		w.bus.send(&event{name: "boot", from: self, plan: func(*event) {
			h.endpoint = e
			w.judge()
		}})
		return e
	}
	ctx, cancel := context.WithCancel(context.Background())
	gone := make(chan struct{})
	h.mu.Lock()
	h.engine, h.cancel, h.gone = engine, cancel, gone
	h.mu.Unlock()
	w.zombies.Go(func() {
		n, err := node.Start(ctx, cfg)
		select {
		case <-gone: // it crashed meanwhile
			if n != nil {
				w.bury(n)
			} else if err := engine.Close(); err != nil {
				w.fail(err)
			}
			return
		default:
		}
		if errors.Is(err, topology.ErrRemoved) {
			if err := engine.Close(); err != nil {
				w.fail(err)
			}
			w.later(0, "removed", func() { w.removed(h, gone) })
			return
		}
		if err != nil {
			w.fail(fmt.Errorf("host %d did not start: %w", h.number, err))
			return
		}
		h.mu.Lock()
		h.node = n
		h.mu.Unlock()
		select {
		case <-gone:
			w.bury(n)
		case <-n.Done():
			w.later(0, "removed", func() { w.removed(h, gone) })
			if err := n.Err(); !errors.Is(err, topology.ErrRemoved) {
				select {
				case <-gone:
				default:
					w.fail(fmt.Errorf("host %d stopped by itself: %w", h.number, err))
				}
			}
		}
	})
}

// blank is a disk with nothing on it.
func (w *World) blank() *Disk { return &Disk{Lies: w.cfg.Lies, Leaves: true} }

// bury ends what is left of a crashed node in this process.
func (w *World) bury(n *node.Node) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_ = n.Stop(ctx) // its disk is broken, which it says
}

// crash ends a life of a host's node as a loss of power does.
func (w *World) crash(h *host) {
	e := h.endpoint
	if e == nil {
		return
	}
	h.endpoint = nil
	e.mu.Lock()
	e.dead = true
	e.mu.Unlock()
	e.lost(0)
	for _, o := range w.hosts {
		if o.endpoint != nil {
			o.endpoint.lost(e.id)
		}
	}
	h.mu.Lock()
	h.node = nil
	h.cancel()
	h.engine.Crash()
	close(h.gone)
	h.mu.Unlock()
	w.judge()
}

// inherit gives the next life its own copy of the files of the last.
func inherit(from, to string) error {
	if from == "" {
		return nil
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return fmt.Errorf("copy a node's files: %w", err)
	}
	return nil
}

func (h *host) running() (*node.Node, chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.node, h.gone
}

func (h *host) stalled() bool { return h.until.After(time.Now()) }

func (h *host) clock() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.skew
}
