package main

import (
	"math"
	"slices"
)

// report is everything that one run has found.
type report struct {
	Command               string
	Disk                  string
	LoadBefore, LoadAfter string
	Systems               []system
	Missing               []missing
	Measured              []measured
	Ratios                []ratio
}

type system struct{ Name, Version, Writes, Reads string }

type missing struct{ Name, Why, Get string }

// ratio is Unkai's rate by a peer's, of the same round.
type ratio struct {
	What, Peer       string
	Median, Min, Max float64
	Target           float64 `json:",omitempty"`
	CPU              float64 // of the servers for each operation, median
}

// targets are what Unkai wants to reach.
var targets = map[[2]string]float64{
	{"reads", "etcd"}: 2, {"writes", "etcd"}: 3, {"writes", "nats"}: 2,
	{"reads", "redis"}: 0.7, {"writes", "redis"}: 0.7,
}

// phases are the rates that are compared.
var phases = []struct {
	name string
	of   func(m measured) load
}{
	{"reads", func(m measured) load { return m.Reads }},
	{"writes", func(m measured) load { return m.Writes }},
	{"cas", func(m measured) load { return m.Cas }},
	{"cas apart", func(m measured) load { return m.Apart }},
}

// compare fills in the ratios.
func (r *report) compare() {
	for _, ph := range phases {
		for _, s := range r.Systems {
			var got, cpu []float64
			for _, ours := range r.Measured {
				for _, theirs := range r.Measured {
					if ours.System == "unkai" && s.Name != "unkai" && theirs.System == s.Name && ours.Round == theirs.Round {
						us, them := ph.of(ours), ph.of(theirs)
						got, cpu = append(got, us.PerSecond/them.PerSecond), append(cpu, us.ServerCPU/them.ServerCPU)
					}
				}
			}
			if len(got) > 0 {
				r.Ratios = append(r.Ratios, ratio{
					What: ph.name, Peer: s.Name, Median: median(got), Min: slices.Min(got), Max: slices.Max(got), CPU: median(cpu),
					Target: targets[[2]string{ph.name, s.Name}],
				})
			}
		}
	}
}

// median leaves its argument sorted.
func median(of []float64) float64 {
	if len(of) == 0 {
		return math.NaN()
	}
	slices.Sort(of)
	half := len(of) / 2
	if len(of)%2 == 1 {
		return of[half]
	}
	return (of[half-1] + of[half]) / 2
}
