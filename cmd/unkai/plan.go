package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"unkai/internal/admin"
)

// table writes rows of columns that line up.
type table struct {
	text strings.Builder
	w    *tabwriter.Writer
}

func newTable() *table {
	t := &table{}
	t.w = tabwriter.NewWriter(&t.text, 0, 0, 2, ' ', 0)
	return t
}

func (t *table) row(cells ...any) {
	line := strings.TrimSuffix(strings.Repeat("%v\t", len(cells)), "\t") + "\n"
	_, _ = fmt.Fprintf(t.w, line, cells...) // into memory
}

// String ends the table.
func (t *table) String() string {
	_ = t.w.Flush() // into memory
	return t.text.String()
}

// describePlan writes a plan for people.
func describePlan(p *admin.Plan) string {
	if p.Already != "" {
		return p.Already + "\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d buckets move, as %d new replicas, about %s (estimated from what each node holds)\n",
		title(p.Kind, p.Nodes, p.Weight, p.Zone), p.Moves.Buckets, p.Moves.Replicas, amount(p.Moves.Bytes))
	if len(p.Flows) > 0 {
		t := newTable()
		t.row("FROM", "TO", "BUCKETS", "BYTES")
		for _, f := range p.Flows {
			if f.From == "" {
				f.From = "nobody alive"
			}
			t.row(f.From, f.To, f.Buckets, amount(f.Bytes))
		}
		fmt.Fprintf(&b, "\n%s", t)
	}
	t := newTable()
	t.row("NODE", "PEER", "WEIGHT", "REPLICAS", "OF ITS SHARE", "BYTES", "AT MOST", "")
	for _, s := range p.Shares {
		part, note := "-", ""
		if s.Ideal > 0 {
			part = fmt.Sprintf("%.1f %%", 100*float64(s.After)/s.Ideal)
		}
		if s.State != "attached" {
			note = s.State
		}
		t.row(s.Node, s.Peer, s.Weight, fmt.Sprintf("%d → %d", s.Before, s.After), part,
			fmt.Sprintf("%s → %s", amount(s.Bytes.Before), amount(s.Bytes.After)), amount(s.Bytes.Peak), note)
	}
	fmt.Fprintf(&b, "\n%s\n", t)
	fmt.Fprintf(&b, "may fail:  %s before, %s while it runs, %s after\n", mayFail(p.Survives.Before), mayFail(p.Survives.During), mayFail(p.Survives.After))
	if z := p.SurvivesZones; z != nil {
		fmt.Fprintf(&b, "           %s before, %s while it runs, %s after\n", zonesFail(z.Before), zonesFail(z.During), zonesFail(z.After))
	}
	q := p.Quorum
	if q.Before != q.After {
		fmt.Fprintf(&b, "N:R:W:     %d:%d:%d before, %d:%d:%d after\n", q.Before.N, q.Before.R, q.Before.W, q.After.N, q.After.R, q.After.W)
	}
	if p.Throttle > 0 {
		fmt.Fprintf(&b, "time:      %s at least, at %s a second for each node\n", span(p.Seconds), amount(p.Throttle))
	} else {
		fmt.Fprintf(&b, "time:      as long as it takes: there is no throttle (unkai job throttle)\n")
	}
	for _, w := range p.Warnings {
		fmt.Fprintf(&b, "WARNING:   %s\n", w)
	}
	return b.String()
}

func mayFail(n int) string {
	switch {
	case n < 0:
		return "some keys cannot be read and written"
	case n == 0:
		return "no node"
	case n == 1:
		return "any 1 node"
	}
	return fmt.Sprintf("any %d nodes", n)
}

// zonesFail is mayFail of whole zones.
func zonesFail(n int) string {
	switch {
	case n <= 0:
		return "no zone"
	case n == 1:
		return "any 1 zone"
	}
	return fmt.Sprintf("any %d zones", n)
}

// title says what a change is about.
func title(kind string, nodes []string, weight int, zone *string) string {
	switch {
	case kind == "replace" && len(nodes) == 2:
		return fmt.Sprintf("replace %s by %s", nodes[0], nodes[1])
	case zone != nil:
		return fmt.Sprintf("put %s into zone %q", strings.Join(nodes, " "), *zone)
	case weight > 0:
		return fmt.Sprintf("let %s weigh %d", strings.Join(nodes, " "), weight)
	}
	return strings.TrimSpace(kind + " " + strings.Join(nodes, " "))
}

// span is a number of seconds, rounded to what matters.
func span(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d >= time.Hour:
		return d.Round(time.Minute).String()
	case d >= time.Second:
		return d.Round(time.Second).String()
	}
	return d.Round(time.Millisecond).String()
}
