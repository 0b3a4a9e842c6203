package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// valueLen is the length of all values.
const valueLen = 100

// plan says what is measured.
type plan struct {
	duration, after   time.Duration
	connections, keys int
}

// measured is what one system did in one round.
type measured struct {
	System string
	Round  int
	Reads  load
	Writes load
	Cas    load  // all on one key
	Apart  load  // each client on a key of its own
	Kill   *kill `json:",omitempty"`
}

// load is what a closed loop of clients has seen. Times are in microseconds.
type load struct {
	PerSecond           float64
	Won                 int
	P50, P99            float64
	ServerCPU, Generate float64 // per operation
	Lost                int     `json:",omitempty"` // cas that another client won
	Failed              int     `json:",omitempty"`
	Error               string  `json:",omitempty"` // the first
}

// measure starts a system, measures it, and stops it.
func (s settings) measure(ctx context.Context, c contestant, dir string, round int) (m measured, err error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return m, fmt.Errorf("make a data directory: %w", err)
	}
	m.System = c.name
	cl, err := c.start(ctx, c.program, dir, s)
	if cl != nil {
		defer func() { err = errors.Join(err, cl.members().stop()) }()
	}
	if err != nil {
		return m, err
	}
	p := s.plan
	clients, err := p.clients(ctx, cl, p.connections, func(int) bool { return true })
	if err != nil {
		return m, err
	}
	defer closeAll(clients)
	if err := p.fill(clients); err != nil {
		return m, err
	}
	for _, phase := range []struct {
		into *load
		do   work
	}{
		{&m.Reads, func(c client, _ int, r *rand.Rand, _ []byte) (bool, error) { return true, c.get(p.key(r)) }},
		{&m.Writes, func(c client, _ int, r *rand.Rand, v []byte) (bool, error) { return true, c.put(p.key(r), v) }},
		{&m.Cas, func(c client, _ int, _ *rand.Rand, v []byte) (bool, error) { return c.swap(key(0), v) }},
		{&m.Apart, func(c client, w int, _ *rand.Rand, v []byte) (bool, error) { return c.swap(key(w%p.keys), v) }},
	} {
		// Connections, caches and the scheduler find their places first.
		if _, err := p.load(ctx, clients, cl.members(), phase.do, p.duration/5); err != nil {
			return m, err
		}
		if *phase.into, err = p.load(ctx, clients, cl.members(), phase.do, p.duration); err != nil {
			return m, err
		}
	}
	if p.after > 0 {
		m.Kill, err = p.kill(ctx, cl, round)
	}
	return m, err
}

// clients are n, on the nodes that are allowed, in turn.
func (p plan) clients(ctx context.Context, cl cluster, n int, allowed func(node int) bool) (out []client, err error) {
	for node := 0; len(out) < n; node = (node + 1) % nodes {
		if !allowed(node) {
			continue
		}
		c, err := cl.connect(ctx, node)
		if err != nil {
			closeAll(out)
			return nil, fmt.Errorf("connect to node %d: %w", node+1, err)
		}
		out = append(out, c)
	}
	return out, nil
}

func closeAll(clients []client) {
	for _, c := range clients {
		c.close()
	}
}

func key(i int) string { return fmt.Sprintf("key-%06d", i) }

func (p plan) key(r *rand.Rand) string { return key(r.IntN(p.keys)) }

// value is different each time, so that nobody compresses it away.
func value(r *rand.Rand, into []byte) {
	const letters = "abcdefghijklmnopqrstuvwxyz012345"
	for i := range into {
		into[i] = letters[r.Uint32()%32]
	}
}

// fill writes every key once.
func (p plan) fill(clients []client) error {
	var next atomic.Int64
	errs := make([]error, len(clients))
	var wg sync.WaitGroup
	for w, c := range clients {
		wg.Go(func() {
			r, v := rand.New(rand.NewPCG(uint64(w), 1)), make([]byte, valueLen)
			for errs[w] == nil {
				i := int(next.Add(1)) - 1
				if i >= p.keys {
					return
				}
				value(r, v)
				errs[w] = c.put(key(i), v)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	return nil
}

// work is one operation of client w; it counts only when it has won.
type work func(c client, w int, r *rand.Rand, v []byte) (won bool, err error)

// tally is what one client has seen.
type tally struct {
	took         []time.Duration
	lost, failed int
	err          error
}

// load runs all clients in closed loops.
func (p plan) load(ctx context.Context, clients []client, servers *pack, do work, d time.Duration) (out load, err error) {
	tallies := make([]tally, len(clients))
	before, err := servers.cpu()
	if err != nil {
		return out, fmt.Errorf("%w\n%s", err, servers.tails())
	}
	own, err := ownCPU()
	if err != nil {
		return out, err
	}
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	began := time.Now()
	var wg sync.WaitGroup
	for w, c := range clients {
		wg.Go(func() { tallies[w].loop(ctx, c, w, do) })
	}
	wg.Wait()
	elapsed := time.Since(began)
	after, err := servers.cpu()
	if err != nil {
		return out, fmt.Errorf("%w\n%s", err, servers.tails())
	}
	ownAfter, err := ownCPU()
	if err != nil {
		return out, err
	}
	if err := context.Cause(ctx); !errors.Is(err, context.DeadlineExceeded) {
		return out, fmt.Errorf("stopped: %w", err)
	}
	var took []time.Duration
	for _, t := range tallies {
		took = append(took, t.took...)
		out.Lost += t.lost
		out.Failed += t.failed
		if t.err != nil && out.Error == "" {
			out.Error = t.err.Error()
		}
	}
	slices.Sort(took)
	n := float64(max(len(took), 1))
	out.Won = len(took)
	out.PerSecond = float64(len(took)) / elapsed.Seconds()
	out.P50, out.P99 = micros(quantile(took, 0.5)), micros(quantile(took, 0.99))
	out.ServerCPU, out.Generate = micros(after-before)/n, micros(ownAfter-own)/n
	return out, nil
}

func (t *tally) loop(ctx context.Context, c client, w int, do work) {
	r, v := rand.New(rand.NewPCG(uint64(w), rand.Uint64())), make([]byte, valueLen)
	for ctx.Err() == nil {
		value(r, v)
		began := time.Now()
		won, err := do(c, w, r, v)
		switch {
		case err != nil:
			t.failed++
			if t.err == nil {
				t.err = err
			}
		case won:
			t.took = append(t.took, time.Since(began))
		default:
			t.lost++
		}
	}
}

// quantile of what is sorted.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(float64(len(sorted))*q), len(sorted)-1)]
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
