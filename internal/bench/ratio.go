package bench

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// Result is what a comparison found. Its JSON is read by scripts: names stay.
type Result struct {
	Baseline     string        `json:"baseline"`
	Rounds       int           `json:"rounds"`
	Seconds      float64       `json:"seconds"` // of each measurement
	Ratios       []Ratio       `json:"ratios"`
	Measurements []Measurement `json:"measurements"`
}

// Ratio is how a contestant did in one respect under one scenario, divided by
// the baseline in the same round.
type Ratio struct {
	Scenario string  `json:"scenario"`
	Server   string  `json:"server"`
	Of       string  `json:"of"` // "throughput", "p50", "p99" or "server_cpu"
	Median   float64 `json:"median"`
	Min      float64 `json:"min"`
	Max      float64 `json:"max"`
	Target   string  `json:"target,omitempty"` // "≥ 0.80", "≤ 2.00"
	Reached  *bool   `json:"reached,omitempty"`
}

// respects are in what servers are compared.
var respects = []struct {
	name  string
	value func(*Measurement) float64
}{
	{"throughput", func(m *Measurement) float64 { return m.Throughput }},
	{"p50", func(m *Measurement) float64 { return m.P50 }},
	{"p99", func(m *Measurement) float64 { return m.P99 }},
	{"server_cpu", func(m *Measurement) float64 { return m.ServerCPU }},
}

// judge computes the ratios.
func (r *Result) judge(c *Comparison) {
	for _, s := range c.Scenarios {
		for _, who := range c.Contestants {
			for _, respect := range respects {
				var all []float64
				for round := 1; round <= r.Rounds; round++ {
					base := r.find(round, s.Name, c.Baseline.Name)
					mine := r.find(round, s.Name, who.Name)
					if b := respect.value(base); b > 0 {
						all = append(all, respect.value(mine)/b)
					}
				}
				if len(all) == 0 {
					continue // not known on this system
				}
				ratio := Ratio{Scenario: s.Name, Server: who.Name, Of: respect.name,
					Median: median(all), Min: slices.Min(all), Max: slices.Max(all)}
				ratio.aim(s.Targets[who.Name])
				r.Ratios = append(r.Ratios, ratio)
			}
		}
	}
}

// aim compares the median with the target.
func (r *Ratio) aim(t Target) {
	var reached bool
	switch {
	case r.Of == "throughput" && t.Throughput > 0:
		r.Target, reached = fmt.Sprintf("≥ %.2f", t.Throughput), r.Median >= t.Throughput
	case r.Of == "p99" && t.P99 > 0:
		r.Target, reached = fmt.Sprintf("≤ %.2f", t.P99), r.Median <= t.P99
	default:
		return
	}
	r.Reached = &reached
}

func (r *Result) find(round int, scenario, server string) *Measurement {
	for i := range r.Measurements {
		m := &r.Measurements[i]
		if m.Round == round && m.Scenario == scenario && m.Server == server {
			return m
		}
	}
	panic(fmt.Sprintf("bench: %s was not measured under %s in round %d", server, scenario, round))
}

// median is the middle of v, or the mean of the two in the middle.
func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.SortFunc(v, cmp.Compare[float64])
	n := len(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}

// WriteText writes the ratios for people.
func (r *Result) WriteText(w io.Writer) error {
	t := &printer{Writer: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	t.printf("ratios to %s: median of %d rounds of %g s (lowest to highest)\n\n", r.Baseline, r.Rounds, r.Seconds)
	t.printf("scenario\tserver\tof\tratio\tspread\ttarget\t\n")
	for _, a := range r.Ratios {
		verdict := ""
		if a.Reached != nil {
			verdict = map[bool]string{true: "reached", false: "missed"}[*a.Reached]
		}
		t.printf("%s\t%s\t%s\t%.2f\t%.2f-%.2f\t%s\t%s\n", a.Scenario, a.Server, a.Of, a.Median, a.Min, a.Max, a.Target, verdict)
	}
	t.printf("\nscenario\tserver\tper second\tp50 µs\tp99 µs\tserver CPU µs\tclient CPU µs\t(medians)\n")
	for _, row := range r.medians() {
		t.printf("%s\t%s\t%s\t%.0f\t%.0f\t%.2f\t%.2f\t%s\n", row.Scenario, row.Server, thousands(row.Throughput),
			row.P50, row.P99, row.ServerCPU, row.ClientCPU, row.Version)
	}
	if t.err != nil {
		return t.err
	}
	return t.Flush()
}

// medians are the absolute figures of each server under each scenario.
func (r *Result) medians() (rows []Measurement) {
	for _, m := range r.Measurements {
		if m.Round != 1 {
			continue
		}
		of := func(value func(*Measurement) float64) float64 {
			var all []float64
			for round := 1; round <= r.Rounds; round++ {
				all = append(all, value(r.find(round, m.Scenario, m.Server)))
			}
			return median(all)
		}
		m.Throughput = of(func(m *Measurement) float64 { return m.Throughput })
		m.P50 = of(func(m *Measurement) float64 { return m.P50 })
		m.P99 = of(func(m *Measurement) float64 { return m.P99 })
		m.ServerCPU = of(func(m *Measurement) float64 { return m.ServerCPU })
		m.ClientCPU = of(func(m *Measurement) float64 { return m.ClientCPU })
		rows = append(rows, m)
	}
	return rows
}
