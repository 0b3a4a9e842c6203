package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"unkai/internal/core/topology"
	"unkai/internal/node"
)

func (o *outside) simulateCommand(defaults node.Config) *cobra.Command {
	l := topology.Layout{Nodes: 3, N: defaults.N, Buckets: defaults.Buckets}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "simulate",
		Short: "Show how even the shares are, and what moves when nodes come and go",
		Long: `Place the buckets of a cluster that is only thought of, then let nodes come, then let
some go, and show each time what every node holds and how much moves. It is the code
with which a cluster places its buckets; the ids of nodes, which are random, move a
few of them.`,
		Example: `  unkai placement simulate --nodes 5 --add 1 --remove 1
  unkai placement simulate --nodes 6 --zones 3 --weights 1,2 --json`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.IntVar(&l.Nodes, "nodes", l.Nodes, "how many nodes there are at first")
	f.IntVar(&l.Zones, "zones", 0, "zones over which they are spread by turns; 0: none")
	f.IntVar(&l.Buckets, "buckets", l.Buckets, "buckets, a power of two")
	f.IntVar(&l.N, "n", l.N, "replicas of each key")
	f.IntSliceVar(&l.Weights, "weights", nil, "weights of the nodes, by turns; none: all weigh 1")
	f.IntVar(&l.Add, "add", 0, "nodes that come")
	f.IntVar(&l.Remove, "remove", 0, "nodes that go then, the first ones")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	cmd.RunE = func(*cobra.Command, []string) error {
		steps, err := l.Simulate()
		if err != nil {
			return usageError{fmt.Errorf("%s", strings.TrimPrefix(err.Error(), "topology: "))}
		}
		shown := make([]simulated, len(steps))
		for i := range steps {
			shown[i] = simulate(&steps[i])
		}
		if asJSON {
			return o.printJSON(shown)
		}
		var b strings.Builder
		for i := range shown {
			describeSimulated(&b, &shown[i])
		}
		return o.print("%s", b.String())
	}
	return cmd
}

// simulated is a step of a simulation, as JSON.
type simulated struct {
	Step  string `json:"step"`
	Moved int    `json:"replicas_moved"`
	// Least is what those who hold more than before must get.
	Least    int          `json:"replicas_gained"`
	Survives int          `json:"survives"`
	Nodes    []simulatedN `json:"nodes"`
}

type simulatedN struct {
	Number   int     `json:"number"`
	Weight   int     `json:"weight"`
	Zone     string  `json:"zone,omitempty"`
	Replicas int     `json:"replicas"`
	Ideal    float64 `json:"replicas_ideal"`
}

func simulate(s *topology.Step) simulated {
	out := simulated{Step: s.Name, Moved: s.Plan.Amount.Replicas, Survives: s.Plan.After}
	for _, n := range s.Plan.Nodes {
		out.Least += max(0, n.After-n.Before)
		if n.State == topology.Attached {
			out.Nodes = append(out.Nodes, simulatedN{Number: len(out.Nodes) + 1, Weight: n.Weight, Zone: n.Zone, Replicas: n.After, Ideal: n.Ideal})
		}
	}
	return out
}

func describeSimulated(b *strings.Builder, s *simulated) {
	fmt.Fprintf(b, "%s: %s may fail", s.Step, mayFail(s.Survives))
	if s.Least > 0 {
		fmt.Fprintf(b, "; %d replicas move, and those who gain by it gain %d: %.3f times that", s.Moved, s.Least, float64(s.Moved)/float64(s.Least))
	}
	b.WriteString("\n\n")
	t := newTable()
	t.row("NODE", "ZONE", "WEIGHT", "REPLICAS", "OF ITS SHARE")
	for _, n := range s.Nodes {
		zone := n.Zone
		if zone == "" {
			zone = "-"
		}
		t.row(n.Number, zone, n.Weight, n.Replicas, fmt.Sprintf("%.1f %%", 100*float64(n.Replicas)/n.Ideal))
	}
	fmt.Fprintf(b, "%s\n", t)
}
