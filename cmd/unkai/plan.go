package main

import (
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

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

// row quotes what would break the table.
func (t *table) row(cells ...any) {
	for i := range cells {
		if s, ok := cells[i].(string); ok {
			cells[i] = printable(s)
		}
	}
	line := strings.TrimSuffix(strings.Repeat("%v\t", len(cells)), "\t") + "\n"
	_, _ = fmt.Fprintf(t.w, line, cells...) // into memory
}

// printable is s as it is, if that can be printed in one line, and else quoted.
func printable(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return s
	}
	return strconv.Quote(s)
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
	move := "move"
	if p.Moves.Buckets == 1 {
		move = "moves"
	}
	fmt.Fprintf(&b, "%s: %s %s, as %s, about %s (estimated from what each node holds)\n",
		title(p.Kind, called(p.Nodes, p.Peers), p.Weight, p.Zone), several(p.Moves.Buckets, "bucket"), move, several(p.Moves.Replicas, "new replica"), amount(p.Moves.Bytes))
	if len(p.Flows) > 0 {
		t := newTable()
		t.row("FROM", "TO", "BUCKETS", "BYTES")
		for _, f := range p.Flows {
			from := "nobody alive"
			if f.From != "" {
				from = at(f.From, f.FromPeer)
			}
			t.row(from, at(f.To, f.ToPeer), f.Buckets, amount(f.Bytes))
		}
		fmt.Fprintf(&b, "\n%s", t)
	}
	t := newTable()
	t.row("NODE", "PEER", "WEIGHT", "REPLICAS", "OF ITS SHARE", "KEYS AND VALUES", "STORE", "AT MOST", "")
	for _, s := range p.Shares {
		note := ""
		if s.State != "attached" {
			note = s.State
		}
		t.row(s.Node, s.Peer, s.Weight, fmt.Sprintf("%d → %d", s.Before, s.After), part(s.Before, s.IdealBefore)+" → "+part(s.After, s.Ideal),
			amount(s.Bytes.Before)+" → "+amount(s.Bytes.After), stored(s.Store.Before)+" → "+stored(s.Store.After), stored(s.Store.Peak), note)
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
	fmt.Fprintf(&b, "time:      %s\n", lasts(p))
	for _, w := range p.Warnings {
		fmt.Fprintf(&b, "WARNING:   %s\n", w)
	}
	return b.String()
}

// lasts says how long it takes, or why nobody knows.
func lasts(p *admin.Plan) string {
	switch {
	case p.Moves.Bytes == 0:
		return "a moment: there is next to nothing to bring"
	case p.Seconds == 0:
		return "nobody knows: there is no throttle (unkai job throttle), and no job of the last ones has run without\n           and moved enough to tell"
	case p.SecondsBy != "last":
		return fmt.Sprintf("about %s, at the throttle: %s a second for each node; longer where clients or disks slow it down", span(p.Seconds), amount(p.Throttle))
	}
	return fmt.Sprintf("about %s, if it is as fast as the last job without a throttle", span(p.Seconds))
}

// part is what somebody holds of their share.
func part(holds int, ideal float64) string {
	if ideal == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100*float64(holds)/ideal)
}

// stored is what a store takes, if that is known.
func stored(bytes int64) string {
	if bytes == 0 {
		return "-"
	}
	return amount(bytes)
}

// at is a node's id, and its address where that is known.
func at(id, peer string) string {
	if peer == "" {
		return id
	}
	return id + " (" + peer + ")"
}

// called is at of several nodes.
func called(ids, peers []string) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		if out[i] = id; i < len(peers) {
			out[i] = at(id, peers[i])
		}
	}
	return out
}

// several is a number of things that have a plural in s.
func several(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func mayFail(n int) string {
	switch {
	case n < 0:
		return "no node (some keys cannot be read and written even so)"
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
	d := time.Duration(min(seconds, 1e9) * float64(time.Second)) // which are 30 years
	switch {
	case d >= time.Hour:
		return d.Round(time.Minute).String()
	case d >= time.Second:
		return d.Round(time.Second).String()
	}
	return d.Round(time.Millisecond).String()
}
