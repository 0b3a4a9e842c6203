package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"runtime"
	"sync"
	"time"
)

// dialsAtOnce keeps a crowd of connects from filling the server's backlog.
const dialsAtOnce = 64

// Run puts the load on its endpoints and reports what it measured. When ctx is
// cancelled it stops early and reports what there is by then. Errors of single
// requests are in the report; Run fails only when it cannot measure at all.
func Run(ctx context.Context, l Load) (*Report, error) {
	if err := l.Validate(); err != nil {
		return nil, err
	}
	r, err := open(ctx, &l)
	if err != nil {
		return nil, err
	}
	defer r.close()
	if l.Preload {
		if err := r.preload(ctx); err != nil {
			return nil, err
		}
	}
	return r.measure(ctx)
}

// run is a load with its connections.
type run struct {
	load    *Load
	clock   func() int64
	workers []*worker
	drivers []driver
}

// open connects everything.
func open(ctx context.Context, l *Load) (_ *run, err error) {
	if l.Workers == 0 {
		l.Workers = max(1, runtime.NumCPU()/2)
	}
	l.Workers = min(l.Workers, l.Connections)
	conns, err := dial(ctx, l)
	if err != nil {
		return nil, err
	}
	r := &run{load: l, clock: newClock()}
	templates := newRequests(l)
	var z *zipf
	if l.Distribution == Zipf {
		z = newZipf(l.Keys)
	}
	for i := range l.Workers {
		w := &worker{clock: r.clock, tally: newTally()}
		var mine []net.Conn
		for n := i; n < l.Connections; n += l.Workers {
			w.sessions = append(w.sessions, newSession(l, n, templates, z, w))
			mine = append(mine, conns[n])
		}
		d, e := newDriver(w, mine)
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		r.workers = append(r.workers, w)
		r.drivers = append(r.drivers, d)
	}
	if err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (r *run) close() {
	for _, d := range r.drivers {
		d.close()
	}
}

// dial opens all connections, or none.
func dial(ctx context.Context, l *Load) ([]net.Conn, error) {
	conns, errs := make([]net.Conn, l.Connections), make([]error, l.Connections)
	var all sync.WaitGroup
	slots := make(chan struct{}, dialsAtOnce)
	for i := range conns {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if ctx.Err() != nil {
				errs[i] = ctx.Err()
				return
			}
			d := net.Dialer{Timeout: l.Timeout}
			conns[i], errs[i] = d.DialContext(ctx, "tcp", l.Endpoints[i%len(l.Endpoints)])
		})
	}
	all.Wait()
	for i, err := range errs {
		if err == nil {
			continue
		}
		for _, c := range conns {
			if c != nil {
				_ = c.Close() // nothing is lost with it
			}
		}
		return nil, fmt.Errorf("connection %d: %w", i+1, err)
	}
	return conns, nil
}

// drive runs one part of the load in all workers.
func (r *run) drive(ctx context.Context, p *schedule) error {
	stop := context.AfterFunc(ctx, func() { p.stopped.Store(max(1, r.clock())) })
	defer stop()
	errs := make([]error, len(r.drivers))
	var all sync.WaitGroup
	for i, d := range r.drivers {
		w := r.workers[i]
		w.schedule = p
		for _, s := range w.sessions {
			s.begin()
		}
		all.Go(func() { errs[i] = d.run() })
	}
	all.Wait()
	return errors.Join(errs...)
}

// preload sets every key once. It fails when a single one is refused: what came
// after would measure something else.
func (r *run) preload(ctx context.Context) error {
	if err := r.drive(ctx, &schedule{begin: r.clock(), preload: true}); err != nil {
		return fmt.Errorf("preload: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("preload: %w", err)
	}
	for _, w := range r.workers {
		for text, n := range w.tally.errors {
			return fmt.Errorf("preload: %d of %d keys: %s", n, r.load.Keys, text)
		}
	}
	return nil
}

// measure runs the warm-up and the measurement.
func (r *run) measure(ctx context.Context) (*Report, error) {
	l := r.load
	for i, w := range r.workers {
		w.tally = newTally()
		w.quota = math.MaxInt64
		if l.Operations > 0 {
			w.quota = share(l.Operations, i, l.Workers)
		}
	}
	stop := r.watch()
	used := cpuOfThisProcess()
	p := newSchedule(l, r.clock())
	err := r.drive(ctx, p)
	used = cpuOfThisProcess() - used
	stop()
	if err != nil {
		return nil, err
	}
	return r.report(p, used), nil
}

// share is part i of n in as many parts, as equal as can be.
func share(n int64, i, parts int) int64 {
	s := n / int64(parts)
	if int64(i) < n%int64(parts) {
		s++
	}
	return s
}

// watch calls Progress once a second until it is stopped.
func (r *run) watch() (stop func()) {
	if r.load.Progress == nil {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	tallies := make([]*tally, len(r.workers))
	for i, w := range r.workers {
		tallies[i] = w.tally
	}
	go func() {
		defer close(ended)
		begin := time.Now()
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		var before Progress
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			p := progress(tallies, time.Since(begin), &before)
			r.load.Progress(p)
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

// Progress is how a load is getting on.
type Progress struct {
	Elapsed time.Duration // since warm-up began
	// Totals of what is measured, by now. A load that warms up has none.
	Operations, Misses, Wrong, Errors int64
	// Rate and Mean are of the time since the Progress before this one: requests
	// per second, and their latency.
	Rate float64
	Mean time.Duration

	taken int64
}

// progress adds the tallies up, and leaves them in before for the next time.
func progress(tallies []*tally, elapsed time.Duration, before *Progress) Progress {
	p := Progress{Elapsed: elapsed}
	for _, t := range tallies {
		p.Operations += t.live.done.Load()
		p.Misses += t.live.misses.Load()
		p.Wrong += t.live.wrong.Load()
		p.Errors += t.live.failed.Load()
		p.taken += t.live.taken.Load()
	}
	if n := p.Operations - before.Operations; n > 0 {
		p.Rate = float64(n) / (elapsed - before.Elapsed).Seconds()
		p.Mean = time.Duration((p.taken - before.taken) / n)
	}
	*before = p
	return p
}
