package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// print writes the tables for people.
func (r *report) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) } // errors come with Flush
	say("%s\ndata on %s; load average %s before, %s after\n\n", r.Command, r.Disk, r.LoadBefore, r.LoadAfter)
	say("system\tversion\ta write is\ta read is\n")
	for _, s := range r.Systems {
		say("%s\t%s\t%s\t%s\n", s.Name, s.Version, s.Writes, s.Reads)
	}
	for _, m := range r.Missing {
		say("%s\tMISSING\t%s\tget it: %s\n", m.Name, m.Why, m.Get)
	}
	say("\nUnkai's rate by the peer's, median of rounds (least–most); and its servers' CPU for each operation by theirs:\n\n")
	say("what\tpeer\tratio\ttarget\tservers' CPU\n")
	for _, x := range r.Ratios {
		say("%s\t%s\t%.2f (%.2f–%.2f)\t%s\t%.2f\n", x.What, x.Peer, x.Median, x.Min, x.Max, x.verdict(), x.CPU)
	}
	say("\nMedians. CPU is per operation, of all servers and of the load generator:\n\n")
	say("what\tsystem\tper second\tp50 µs\tp99 µs\tservers' CPU µs\tgenerator's CPU µs\tlost/won\tfailed\n")
	for _, ph := range phases {
		for _, s := range r.Systems {
			of := func(f func(l load) float64) float64 {
				return r.median(s.Name, func(m measured) float64 { return f(ph.of(m)) })
			}
			say("%s\t%s\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.1f\t%.0f\n", ph.name, s.Name,
				of(func(l load) float64 { return l.PerSecond }), of(func(l load) float64 { return l.P50 }),
				of(func(l load) float64 { return l.P99 }), of(func(l load) float64 { return l.ServerCPU }),
				of(func(l load) float64 { return l.Generate }),
				of(load.lostByWon), of(func(l load) float64 { return float64(l.Failed) }))
		}
	}
	r.printKills(say)
	for _, m := range r.Measured {
		for _, ph := range phases {
			if l := ph.of(m); l.Failed > 0 {
				say("\n%s, round %d, %s: %d failed, first: %s", m.System, m.Round, ph.name, l.Failed, l.Error)
			}
		}
	}
	say("\n")
	return w.Flush()
}

// printKills writes what a kill -9 cost the clients of the two other nodes.
func (r *report) printKills(say func(format string, args ...any)) {
	if !slices.ContainsFunc(r.Measured, func(m measured) bool { return m.Kill != nil }) {
		return
	}
	say("\nkill -9 of one node, %d operations per second by clients of the others; medians (most), ms:\n\n", killRate)
	say("system\tkilled\tp99 before\tp99 in the first second\tp99 afterwards\tgap before\tgap in the first second\tgap afterwards\tfailed at first\tfailed later\n")
	for _, s := range r.Systems {
		var of []kill
		for _, m := range r.Measured {
			if m.System == s.Name && m.Kill != nil {
				of = append(of, *m.Kill)
			}
		}
		if len(of) == 0 {
			continue
		}
		whom, open := "each in turn", ""
		for _, k := range of {
			if k.Leader {
				whom = "the leader"
			}
			if k.GapOpen {
				open = ", to the end"
			}
		}
		cell := func(f func(k kill) float64) string {
			var all []float64
			for _, k := range of {
				all = append(all, f(k))
			}
			return fmt.Sprintf("%.1f (%.1f)", median(all), slices.Max(all))
		}
		say("%s\t%s\t%s\t%s\t%s\t%s\t%s%s\t%s\t%s\t%s\n", s.Name, whom,
			cell(func(k kill) float64 { return k.Before }), cell(func(k kill) float64 { return k.First }),
			cell(func(k kill) float64 { return k.Later }), cell(func(k kill) float64 { return k.GapBefore }),
			cell(func(k kill) float64 { return k.GapFirst }), open, cell(func(k kill) float64 { return k.GapLater }),
			cell(func(k kill) float64 { return float64(k.FailedFirst) }),
			cell(func(k kill) float64 { return float64(k.FailedLater) }))
	}
}

// median of one figure of a system, over the rounds.
func (r *report) median(name string, of func(m measured) float64) float64 {
	var all []float64
	for _, m := range r.Measured {
		if m.System == name {
			all = append(all, of(m))
		}
	}
	return median(all)
}

func (l load) lostByWon() float64 {
	if l.PerSecond == 0 {
		return 0
	}
	return float64(l.Lost) / float64(l.Won)
}

func (x ratio) verdict() string {
	switch {
	case x.Target == 0:
		return "–"
	case x.Median >= x.Target:
		return fmt.Sprintf("≥ %g: met", x.Target)
	default:
		return fmt.Sprintf("≥ %g: MISSED", x.Target)
	}
}
