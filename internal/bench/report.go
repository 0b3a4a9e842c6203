package bench

import (
	"math"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Report is what a load measured. Its JSON is read by scripts: names stay.
type Report struct {
	Endpoints    []string `json:"endpoints"`
	Loop         string   `json:"loop"`         // "closed" or "open"
	LatencyFrom  string   `json:"latency_from"` // the moment from which latency counts
	Connections  int      `json:"connections"`
	Pipeline     int      `json:"pipeline"`
	Protocol     string   `json:"protocol"`
	Keys         int      `json:"keys"`
	Distribution string   `json:"distribution"`
	Reads        float64  `json:"reads_percent"`
	MinValue     int      `json:"value_size_min"`
	MaxValue     int      `json:"value_size_max"`
	Rate         float64  `json:"rate,omitempty"` // that was asked for
	Seed         uint64   `json:"seed"`
	Verified     bool     `json:"verified"`
	Interrupted  bool     `json:"interrupted"`

	Seconds    float64 `json:"seconds"` // from the start of the measurement to the last reply
	Operations int64   `json:"operations"`
	Throughput float64 `json:"operations_per_second"`
	Gets       int64   `json:"gets"`
	Sets       int64   `json:"sets"`
	Misses     int64   `json:"misses"`
	// Wrong counts values that do not belong to their key; they are not among
	// the Operations, and neither are Errors.
	Wrong    int64            `json:"wrong_values"`
	Errors   int64            `json:"errors"`
	ByText   map[string]int64 `json:"errors_by_text"`
	Lost     int64            `json:"connections_lost"`
	Unsent   int64            `json:"unsent"`   // of an open loop: due, and never sent
	Sent     int64            `json:"answered"` // replies of all kinds, warm-up included
	ClientUS float64          `json:"client_cpu_us_per_operation"`

	// Latency in microseconds: "all", "get" and "set", those that occurred.
	Latency map[string]Latency `json:"latency_us"`
}

// Latency describes a distribution, in microseconds.
type Latency struct {
	Count int64   `json:"count"`
	Min   float64 `json:"min"`
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P95   float64 `json:"p95"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p99_9"`
	P9999 float64 `json:"p99_99"`
	Max   float64 `json:"max"`
}

// Failed reports whether anything went wrong in what was measured. A miss is
// no failure.
func (r *Report) Failed() bool {
	return r.Operations == 0 || r.Errors > 0 || r.Wrong > 0 || r.Unsent > 0
}

func (r *run) report(p *schedule, used time.Duration) *Report {
	l := r.load
	out := &Report{
		Endpoints: l.Endpoints, Loop: "closed", LatencyFrom: "sending",
		Connections: l.Connections, Pipeline: l.Pipeline, Protocol: l.Protocol,
		Keys: l.Keys, Distribution: l.Distribution, Reads: l.Reads,
		MinValue: l.MinValue, MaxValue: l.MaxValue, Rate: l.Rate, Seed: l.Seed,
		Verified: l.Verify, Interrupted: p.stopped.Load() != 0,
		ByText: map[string]int64{}, Latency: map[string]Latency{},
	}
	until := int64(math.MaxInt64)
	if out.Interrupted {
		until = p.stopped.Load()
	}
	if p.open() {
		out.Loop, out.LatencyFrom = "open", "the moment a request was due"
	}
	all, last := newHistogram(), p.measure
	var each [kinds]*hdrhistogram.Histogram
	for k := range each {
		each[k] = newHistogram()
	}
	for _, w := range r.workers {
		t := w.tally
		for k := range each {
			// All histograms have the same range: nothing is dropped.
			each[k].Merge(t.latency[k])
			all.Merge(t.latency[k])
		}
		out.Operations += t.done
		out.Misses += t.misses
		out.Wrong += t.wrong
		out.Errors += t.failed
		out.Lost += t.lost
		out.Sent += t.answered
		last = max(last, t.last)
		for text, n := range t.errors {
			out.ByText[text] += n
		}
		if p.open() {
			for _, s := range w.sessions {
				out.Unsent += s.unsent(until)
			}
		}
	}
	out.Gets, out.Sets = each[get].TotalCount(), each[set].TotalCount()
	out.Seconds = time.Duration(last - p.measure).Seconds()
	if out.Seconds > 0 {
		out.Throughput = float64(out.Operations) / out.Seconds
	}
	if out.Sent > 0 {
		out.ClientUS = micros(used.Nanoseconds()) / float64(out.Sent)
	}
	for k, h := range each {
		if h.TotalCount() > 0 {
			out.Latency[kind(k).String()] = latency(h)
		}
	}
	if all.TotalCount() > 0 {
		out.Latency["all"] = latency(all)
	}
	return out
}

func latency(h *hdrhistogram.Histogram) Latency {
	at := func(q float64) float64 { return micros(h.ValueAtPercentile(q)) }
	return Latency{
		Count: h.TotalCount(),
		Min:   micros(h.Min()), Mean: h.Mean() / 1000, Max: micros(h.Max()),
		P50: at(50), P90: at(90), P95: at(95), P99: at(99), P999: at(99.9), P9999: at(99.99),
	}
}

func micros(nanos int64) float64 { return float64(nanos) / 1000 }
