package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Comparison puts servers under the same load, one after the other, round after
// round, so that what disturbs the machine disturbs all of them.
type Comparison struct {
	Baseline    Contestant
	Contestants []Contestant
	Scenarios   []Scenario
	Rounds      int
	// Load is what the scenarios do not say: values, keys, duration, warm-up.
	Load Load
	// Dir is where the servers' data directories are made; empty: the system's
	// directory for temporary files.
	Dir string
	// ProfileDir, if not empty, gets a CPU profile of each run of a contestant
	// that serves them.
	ProfileDir string
	// Log hears what is going on, a line at a time.
	Log func(string)
}

// Measurement is one server under one scenario in one round.
type Measurement struct {
	Round      int     `json:"round"`
	Scenario   string  `json:"scenario"`
	Server     string  `json:"server"`
	Version    string  `json:"version"`
	Operations int64   `json:"operations"`
	Throughput float64 `json:"operations_per_second"`
	P50        float64 `json:"p50_us"`
	P99        float64 `json:"p99_us"`
	ServerCPU  float64 `json:"server_cpu_us_per_operation"`
	ClientCPU  float64 `json:"client_cpu_us_per_operation"`
}

// Run compares, and fails at the first request that a server does not answer as
// it should: ratios of anything else would mislead.
func (c *Comparison) Run(ctx context.Context) (*Result, error) {
	if c.Rounds < 1 || len(c.Scenarios) == 0 || len(c.Contestants) == 0 {
		return nil, errors.New("compare: want at least one round, one scenario and one contestant")
	}
	r := &Result{Rounds: c.Rounds, Seconds: c.Load.Duration.Seconds(), Baseline: c.Baseline.Name}
	for _, s := range c.Scenarios {
		c.log("%s", s.describe())
		for round := 1; round <= c.Rounds; round++ {
			order := append([]Contestant{c.Baseline}, c.Contestants...)
			if round%2 == 0 {
				slices.Reverse(order)
			}
			for _, who := range order {
				m, err := c.cell(ctx, s, who, round)
				if err != nil {
					return nil, fmt.Errorf("compare: %s, %s, round %d: %w", s.Name, who.Name, round, err)
				}
				r.Measurements = append(r.Measurements, *m)
				c.log("  round %d of %d  %-10s %11s/s  p50 %7.0f µs  p99 %7.0f µs  CPU %6.2f µs each",
					round, c.Rounds, who.Name, thousands(m.Throughput), m.P50, m.P99, m.ServerCPU)
			}
		}
	}
	r.judge(c)
	return r, nil
}

func (c *Comparison) log(format string, args ...any) {
	if c.Log != nil {
		c.Log(fmt.Sprintf(format, args...))
	}
}

// cell starts a server, loads it and stops it.
func (c *Comparison) cell(ctx context.Context, s Scenario, who Contestant, round int) (_ *Measurement, err error) {
	srv, err := startServer(ctx, who, c.Dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, srv.stop()) }()

	l := c.Load
	l.Endpoints = []string{srv.Listen}
	l.Connections, l.Pipeline, l.Reads, l.Preload, l.Timeout = s.Connections, s.Pipeline, s.Reads, true, noLonger
	if err := l.Validate(); err != nil {
		return nil, err
	}
	profile := c.profile(ctx, who, srv, fmt.Sprintf("%s-%s-%d.pprof", s.Name, who.Name, round))
	report, used, err := loadServer(ctx, &l, srv, profile)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if dead := srv.alive(); err != nil || dead != nil {
		return nil, errors.Join(err, dead)
	}
	if report.Failed() {
		return nil, fmt.Errorf("%d operations, %d wrong values, %d errors: %v; it said: %s",
			report.Operations, report.Wrong, report.Errors, report.ByText, &srv.output)
	}
	return &Measurement{
		Round: round, Scenario: s.Name, Server: who.Name, Version: srv.version,
		Operations: report.Operations, Throughput: report.Throughput,
		P50: report.Latency["all"].P50, P99: report.Latency["all"].P99,
		ServerCPU: micros(used.Nanoseconds()) / float64(report.Sent), ClientCPU: report.ClientUS,
	}, nil
}

// loadServer preloads, warms up and measures, and returns what CPU time the
// server used in the last part.
func loadServer(ctx context.Context, l *Load, srv *server, profile func() error) (*Report, time.Duration, error) {
	r, err := open(ctx, l)
	if err != nil {
		return nil, 0, err
	}
	defer r.close()
	if err := r.preload(ctx); err != nil {
		return nil, 0, err
	}
	if warm := l.WarmUp; warm > 0 {
		measured := l.Duration
		l.Duration, l.WarmUp = warm, 0
		if _, err := r.measure(ctx); err != nil {
			return nil, 0, err
		}
		l.Duration = measured
	}
	before, err := srv.cpu()
	if err != nil {
		return nil, 0, err
	}
	profiled := make(chan error, 1)
	go func() { profiled <- profile() }()
	report, err := r.measure(ctx)
	after, cpuErr := srv.cpu()
	return report, after - before, errors.Join(err, cpuErr, <-profiled)
}

// profile returns a function that fetches a CPU profile over the measurement.
func (c *Comparison) profile(ctx context.Context, who Contestant, srv *server, name string) func() error {
	if c.ProfileDir == "" || !who.Profiles {
		return func() error { return nil }
	}
	seconds := max(1, int(c.Load.Duration/time.Second))
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", srv.HTTP, seconds)
	return func() error {
		ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second+startLimit)
		defer cancel()
		if err := fetch(ctx, url, filepath.Join(c.ProfileDir, name)); err != nil {
			return fmt.Errorf("profile: %w", err)
		}
		return nil
	}
}

// fetch writes what is at url to a file.
func fetch(ctx context.Context, url, path string) (err error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	q.Close = true
	reply, err := http.DefaultClient.Do(q)
	if err != nil {
		return err
	}
	defer func() { _ = reply.Body.Close() }()
	if reply.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, reply.Status)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, reply.Body)
	return errors.Join(err, f.Close())
}
