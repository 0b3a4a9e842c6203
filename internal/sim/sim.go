// Package sim is the world in one process: whole, unchanged nodes on a simulated
// network, disks that forget what was not durable, clocks that are wrong, and
// faults. It runs in virtual time, and one seed is one run. For tests only.
package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"unkai"
	"unkai/internal/check"
	"unkai/internal/core/topology"
	"unkai/internal/node"
	"unkai/internal/peer"
	"unkai/internal/store"
)

// Config says what world it is. The zero value of a field is a sensible one but
// for Seed, Dir and Length.
type Config struct {
	Seed   uint64
	Dir    string        // for the nodes' own files
	Length time.Duration // how long clients ask while things go wrong
	// Nodes at the beginning, and at most; 0: 3, and 5.
	Nodes, Most int
	// Zones that the nodes are spread over; 0: nothing is known of any.
	Zones int
	// AutoReplace is after how long a dead node is detached by itself; 0: never.
	AutoReplace time.Duration
	// Memory has nodes keep nothing on disk: each crash is an amnesia.
	Memory bool
	// Clients, and how long each rests between two operations, on average.
	Clients int
	Rest    time.Duration
	// Flush has clients ask for flush_all, too.
	Flush bool
	// Calm leaves out the faults, and the operator.
	Calm bool
	// Often names faults that happen oftener than others.
	Often []string
	// Weather of the network; nil: a little of everything.
	Weather *Weather
	// Ruin has more replicas lost in the end, all at once, than may be.
	Ruin bool
	// Lies has the disks lie, to see that it is found.
	Lies bool
	// HandOver, if it names a step, has something happen at that step of the first job.
	HandOver HandOver
	// Log, if not nil, is told what happens.
	Log io.Writer
}

// Result is what came of a run.
type Result struct {
	History *check.History
	// Trace is a hash over everything that happened, in order: equal seeds give
	// equal ones.
	Trace  uint64
	Events uint64
	// How operations ended.
	Answered, NotApplied, InDoubt int64
	Faults                        map[string]int
	// Did is how many jobs of each kind have ended, and how many orders of each kind were
	// accepted.
	Did map[string]int
	// Err says what did not end as it must: a node that did not start or stop, a
	// cluster that did not recover.
	Err error
}

const buckets = 16

// World is a cluster and all that surrounds it.
type World struct {
	cfg     Config
	bus     *bus
	weather Weather
	hosts   []*host
	cut     [][]bool // from, to
	zombies sync.WaitGroup
	orders  sync.WaitGroup
	keys    keyring
	result  Result
	hand    *handOver
	flushes flushes
	lost    bool // a replica was, and was not replaced yet as far as was looked
	ended   map[int]topology.Job
	until   time.Time // when nothing goes wrong any more, and no orders are given

	mu    sync.Mutex
	errs  []error
	names map[int]string // of jobs, as their operators think of them
}

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

// Run runs one world. It must be called in a bubble of testing/synctest.
func Run(cfg Config) *Result {
	// What one event sets going at several places of a node is not in the bus's
	// hands; one after the other it goes on in the same order each time.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	// Nor does the collector come in between: the bus has it work when all is still.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	cfg.Nodes, cfg.Most = or(cfg.Nodes, 3), or(cfg.Most, 5)
	cfg.Clients, cfg.Rest = or(cfg.Clients, 6), or(cfg.Rest, 100*time.Millisecond)
	w := &World{cfg: cfg, bus: newBus(cfg.Seed), weather: Weather{Loss: 3, Twice: 5, Slow: 3}}
	w.result.History, w.result.Faults, w.result.Did = new(check.History), map[string]int{}, map[string]int{}
	w.ended, w.names = map[int]topology.Job{}, map[int]string{}
	w.keys.cfg = cfg
	if cfg.Weather != nil {
		w.weather = *cfg.Weather
	}
	for i := range cfg.Most {
		w.hosts = append(w.hosts, &host{w: w, number: i, addr: fmt.Sprintf("host%d:1", i), disk: &Disk{Lies: cfg.Lies}})
		w.cut = append(w.cut, make([]bool, cfg.Most))
	}
	if cfg.HandOver.Step != "" {
		w.bus.watch = w.watch
	}
	if cfg.Log != nil {
		w.bus.log = func(e *event) {
			w.logf("%s %v>%v %d %.200q %x", e.name, e.from, e.to, e.kind, e.body, w.bus.trace)
		}
	}
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		w.live()
	}()
	w.bus.run(stop)
	w.result.Trace, w.result.Events = w.bus.trace, w.bus.count
	w.result.Err = errors.Join(w.errs...)
	return &w.result
}

func or[T int | time.Duration](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

func (w *World) logf(format string, args ...any) {
	if w.cfg.Log != nil {
		_, err := fmt.Fprintf(w.cfg.Log, "%s "+format+"\n", append([]any{time.Now().Format("15:04:05.000000000")}, args...)...)
		if err != nil {
			panic(err) // half a log is misleading
		}
	}
}

func (w *World) fail(err error) {
	w.mu.Lock()
	w.errs = append(w.errs, err)
	w.mu.Unlock()
	w.logf("%v", err)
}

// note counts something that went wrong.
func (w *World) note(what string) {
	w.mu.Lock()
	w.result.Faults[what]++
	w.mu.Unlock()
}

// later runs f on the bus, after a while, and waits for it.
func (w *World) later(d time.Duration, name string, f func()) {
	done := make(chan struct{})
	w.bus.send(&event{name: name, plan: func(e *event) {
		e.do = func() { f(); close(done) }
		w.bus.after(d, e)
	}})
	<-done
}

// live is the course of a world.
func (w *World) live() {
	for i := range w.cfg.Nodes {
		w.later(time.Duration(i)*7*time.Millisecond+time.Duration(i), "start", func() { w.start(w.hosts[i]) })
	}
	w.settle("at the beginning")
	w.bus.send(&event{name: "faults", plan: func(*event) {
		w.handOver()
		if !w.cfg.Calm {
			w.until = time.Now().Add(w.cfg.Length)
			w.faults()
			w.operate(idle)
		}
	}})
	w.serve(w.cfg.Length)
	w.later(0, "heal", w.heal)
	w.orders.Wait()
	if w.cfg.Ruin {
		w.ruin()
	}
	w.settle("at the end")
	w.complete()
	w.turnUp()
	w.converge()
	w.verify()
	w.readAll()
	w.later(0, "tally", w.tally)
	w.name()
	w.stop()
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
		cfg.Store, disk = node.Memory, &Disk{}
	}
	engine := Open(disk, seed, func(order []byte, done func()) {
		w.bus.send(&event{name: "durable", from: unkai.NodeID(h.number), body: order, plan: func(e *event) {
			e.do = done
			w.bus.after(0, e)
		}})
	})
	cfg.Engine = engine
	for _, o := range w.hosts {
		if o != h && (h.number > 0 || h.life > 1) { // the first begins the cluster
			cfg.Join = append(cfg.Join, o.addr)
		}
	}
	e := &endpoint{w: w, host: h, addr: h.addr, known: map[unkai.NodeID]string{}, up: map[unkai.NodeID]bool{}}
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

// patience is how long a cluster without faults may take to be whole again.
const patience = 5 * time.Minute

// settle waits until all nodes that run are attached and nothing moves.
func (w *World) settle(when string) {
	until := time.Now().Add(patience)
	for try := 0; ; try++ {
		var why string
		w.later(101*time.Millisecond, "look", func() { why = w.unsettled() }) // when all is still
		if why == "" {
			return
		}
		if try%50 == 49 {
			w.release()
		}
		if time.Now().After(until) {
			w.fail(fmt.Errorf("%s: not settled after %v: %s", when, patience, why))
			return
		}
	}
}

func (w *World) unsettled() string {
	epoch := unkai.Epoch(0)
	for _, h := range w.hosts {
		n, gone := h.running()
		if gone == nil {
			continue // it is not a member
		}
		if n == nil {
			return fmt.Sprintf("host %d does not serve", h.number)
		}
		top := n.Topology()
		self, ok := top.Node(n.ID())
		if !ok || self.State != topology.Attached && (self.State != topology.Recognised || !self.Manual) {
			return fmt.Sprintf("host %d is not attached: %+v", h.number, self)
		}
		if top.Moving() > 0 || top.Job != nil {
			return fmt.Sprintf("host %d: %d buckets are on their way, %+v", h.number, top.Moving(), top.Job)
		}
		if epoch == 0 {
			epoch = top.Epoch
		}
		if epoch != top.Epoch {
			return fmt.Sprintf("host %d is at epoch %d, another at %d", h.number, top.Epoch, epoch)
		}
	}
	return ""
}

// stop ends all nodes in order, as an operator would.
func (w *World) stop() {
	for _, h := range w.hosts {
		n, gone := h.running()
		if n == nil { // it is starting still, or was never there
			w.later(0, "crash", func() { w.crash(h) })
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		if err := n.Stop(ctx); err != nil {
			w.fail(fmt.Errorf("host %d did not stop well: %w", h.number, err))
		}
		cancel()
		h.mu.Lock()
		h.node = nil
		h.cancel()
		close(gone)
		h.mu.Unlock()
	}
	w.zombies.Wait()
}

var _ store.Engine = (*Engine)(nil)
