// Package sim is the world in one process: whole, unchanged nodes on a simulated
// network, disks that forget what was not durable, clocks that are wrong, and
// faults. It runs in virtual time, and one seed is one run. For tests only.
package sim

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"unkai/internal/check"
	"unkai/internal/core/topology"
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
	// HandOver, if it names a step, has something happen at that step of its job; if it
	// names no job, at that of the first, and at others of those that follow.
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
		w.hosts = append(w.hosts, &host{w: w, number: i, addr: fmt.Sprintf("host%d:1", i), disk: w.blank()})
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
			if w.cfg.AutoReplace > 0 { // while there are hosts that have not been used
				for _, from := range []time.Duration{0, w.cfg.Length / 2} {
					w.before(from+w.upTo(10*time.Second), "bereave", func() { w.soon("bereave", 40, w.bereave) })
				}
			}
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
