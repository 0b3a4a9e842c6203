package bench

import (
	"fmt"
	"strings"
)

// Scenario is a load under which servers are compared, with what the ratios
// should be.
type Scenario struct {
	Name        string
	Connections int
	Pipeline    int
	Reads       float64
	Targets     map[string]Target // by the name of the contestant
}

// Target bounds ratios to the baseline; 0 is no bound.
type Target struct {
	Throughput float64 // at least
	P99        float64 // at most
}

// Scenarios are those for which Unkai has targets.
func Scenarios() []Scenario {
	return []Scenario{
		{Name: "unpipelined", Connections: 64, Pipeline: 1, Reads: 90, Targets: map[string]Target{
			"memory": {Throughput: 1, P99: 1},
			"disk":   {Throughput: 0.8, P99: 2},
		}},
		{Name: "pipelined", Connections: 64, Pipeline: 16, Reads: 90, Targets: map[string]Target{
			"memory": {Throughput: 4},
			"disk":   {Throughput: 2},
		}},
		{Name: "sets", Connections: 256, Pipeline: 1, Reads: 0, Targets: map[string]Target{
			"memory": {Throughput: 0.9},
			"disk":   {Throughput: 0.5},
		}},
	}
}

// FindScenarios returns those with the given names, all if there are none.
func FindScenarios(names []string) ([]Scenario, error) {
	all := Scenarios()
	if len(names) == 0 {
		return all, nil
	}
	var found []Scenario
	var known []string
	for _, s := range all {
		known = append(known, s.Name)
	}
next:
	for _, name := range names {
		for _, s := range all {
			if s.Name == name {
				found = append(found, s)
				continue next
			}
		}
		return nil, fmt.Errorf("scenario %q is none of %s", name, strings.Join(known, ", "))
	}
	return found, nil
}

// describe says what the scenario does.
func (s Scenario) describe() string {
	return fmt.Sprintf("%s: %d connections, %d in a write, %g %% sets", s.Name, s.Connections, s.Pipeline, 100-s.Reads)
}
