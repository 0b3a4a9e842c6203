package bench

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	t := &printer{Writer: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	t.printf("%s\n", r.sentence())
	if r.Interrupted {
		t.printf("interrupted: these are the figures until then\n")
	}
	t.printf("\n%d operations in %.2f s: %s per second\n", r.Operations, r.Seconds, thousands(r.Throughput))
	t.printf("%d gets (%d misses), %d sets; %.2f µs of CPU here for each operation\n\n", r.Gets, r.Misses, r.Sets, r.ClientUS)
	if len(r.Latency) > 0 {
		t.printf("latency in µs\tcount\tmin\tmean\tp50\tp90\tp95\tp99\tp99.9\tp99.99\tmax\n")
	}
	for _, k := range []string{"get", "set", "all"} {
		if l, ok := r.Latency[k]; ok {
			t.printf("%s\t%d", k, l.Count)
			for _, v := range []float64{l.Min, l.Mean, l.P50, l.P90, l.P95, l.P99, l.P999, l.P9999, l.Max} {
				t.printf("\t%.0f", v)
			}
			t.printf("\n")
		}
	}
	r.printTrouble(t)
	if t.err != nil {
		return t.err
	}
	return t.Flush()
}

// printTrouble says what went wrong, if anything.
func (r *Report) printTrouble(t *printer) {
	if !r.Failed() {
		return
	}
	t.printf("\n")
	if r.Operations == 0 {
		t.printf("nothing was measured\n")
	}
	if r.Wrong > 0 {
		t.printf("%d values did not belong to their keys\n", r.Wrong)
	}
	if r.Unsent > 0 {
		t.printf("%d requests were due and never sent: the server did not keep up with the rate\n", r.Unsent)
	}
	if r.Errors > 0 {
		t.printf("%d errors:\n", r.Errors)
	}
	for _, text := range byCount(r.ByText) {
		t.printf("%d\t%s\n", r.ByText[text], text)
	}
}

// sentence says what was asked.
func (r *Report) sentence() string {
	size := strconv.Itoa(r.MinValue)
	if r.MaxValue != r.MinValue {
		size += "-" + strconv.Itoa(r.MaxValue)
	}
	loop := "as fast as replies come (closed loop)"
	if r.Rate > 0 {
		loop = fmt.Sprintf("%s requests per second (open loop)", thousands(r.Rate))
	}
	verified := ""
	if r.Verified {
		verified = ", values verified"
	}
	return fmt.Sprintf("%s, %s protocol: %d connections, %d pipelined, %s\n%d keys (%s), %s bytes, %g %% reads%s; latency counts from %s",
		strings.Join(r.Endpoints, " "), r.Protocol, r.Connections, r.Pipeline, loop,
		r.Keys, r.Distribution, size, r.Reads, verified, r.LatencyFrom)
}

// byCount are the keys of m, the largest count first.
func byCount(m map[string]int64) []string {
	var texts []string
	for text := range m {
		texts = append(texts, text)
	}
	slices.SortFunc(texts, func(a, b string) int {
		if m[a] != m[b] {
			return int(max(-1, min(1, m[b]-m[a])))
		}
		return strings.Compare(a, b)
	})
	return texts
}

// thousands is v without decimals, with commas.
func thousands(v float64) string {
	s := strconv.FormatFloat(v, 'f', 0, 64)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// printer keeps the first error.
type printer struct {
	*tabwriter.Writer
	err error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p, format, args...)
	}
}
