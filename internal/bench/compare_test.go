package bench

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fakeContestant is this binary as a server.
func fakeContestant(name string) Contestant {
	return Contestant{Name: name, Command: func(p Place) []string {
		return []string{os.Args[0], fakeCommand, p.Listen}
	}}
}

func smallComparison(t *testing.T) *Comparison {
	c := &Comparison{
		Baseline:    fakeContestant("memcached"),
		Contestants: []Contestant{fakeContestant("memory"), fakeContestant("disk")},
		Scenarios: []Scenario{
			{Name: "a", Connections: 2, Pipeline: 1, Reads: 90, Targets: map[string]Target{
				"memory": {Throughput: 1e6, P99: 1e6}, "disk": {Throughput: 1e-6}, // whatever the machine does meanwhile
			}},
			{Name: "b", Connections: 2, Pipeline: 4, Reads: 0},
		},
		Rounds: 2,
		Load:   Defaults(),
		Dir:    t.TempDir(),
	}
	c.Load.Keys, c.Load.Operations, c.Load.Duration, c.Load.WarmUp = 100, 2000, 0, 10*time.Millisecond
	return c
}

func TestCompare(t *testing.T) {
	c := smallComparison(t)
	var log []string
	c.Log = func(line string) { log = append(log, line) }
	r, err := c.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, m := range r.Measurements {
		if m.Operations == 0 || m.Throughput <= 0 || m.P50 <= 0 || m.P99 < m.P50 || m.Version != "fake" {
			t.Errorf("%+v", m)
		}
		order = append(order, m.Server)
	}
	const twoRounds = "memcached memory disk disk memory memcached"
	if got := strings.Join(order, " "); got != twoRounds+" "+twoRounds {
		t.Errorf("the order was %s", got)
	}
	if len(log) != 2+12 {
		t.Errorf("%d lines of log, want one for each scenario and measurement", len(log))
	}
	verdicts := map[string]bool{}
	for _, a := range r.Ratios {
		if a.Reached != nil {
			verdicts[a.Scenario+" "+a.Server+" "+a.Of+" "+a.Target] = *a.Reached
		}
	}
	want := map[string]bool{"a memory throughput ≥ 1000000.00": false, "a memory p99 ≤ 1000000.00": true, "a disk throughput ≥ 0.00": true}
	for k, v := range want {
		if got, ok := verdicts[k]; !ok || got != v {
			t.Errorf("%s: %v %v", k, got, ok)
		}
	}
	if len(verdicts) != len(want) {
		t.Errorf("verdicts %v", verdicts)
	}
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}
	var out strings.Builder
	if err := r.WriteText(&out); err != nil || !strings.Contains(out.String(), "≥ 1000000.00") || !strings.Contains(out.String(), "missed") {
		t.Errorf("%v:\n%s", err, &out)
	}
	if left, err := filepath.Glob(filepath.Join(c.Dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestCompareStopsWhenInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := smallComparison(t)
	c.Load.Duration, c.Load.Operations = time.Hour, 0
	c.Load.Progress = func(Progress) { cancel() }
	if _, err := c.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(c.Dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestAServerThatDoesNotStart(t *testing.T) {
	c := smallComparison(t)
	c.Contestants = []Contestant{{Name: "memory", Command: func(p Place) []string {
		return []string{os.Args[0], fakeCommand, "not an address"}
	}}}
	_, err := c.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "a, memory, round 1: memory ended by itself (exit status 1)") ||
		!strings.Contains(err.Error(), "missing port") {
		t.Fatalf("got %v", err)
	}
}

func TestAProgramThatIsNotThere(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := FindMemcached(); err == nil || !strings.Contains(err.Error(), "apt-get install memcached") {
		t.Fatalf("got %v", err)
	}
	c := smallComparison(t)
	c.Contestants = []Contestant{Unkai(filepath.Join(t.TempDir(), "unkai"), "disk")}
	if _, err := c.Run(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("got %v", err)
	}
}

func TestFindScenarios(t *testing.T) {
	if all, err := FindScenarios(nil); err != nil || len(all) != 3 {
		t.Errorf("%d scenarios, %v", len(all), err)
	}
	if one, err := FindScenarios([]string{"sets"}); err != nil || len(one) != 1 || one[0].Connections != 256 {
		t.Errorf("%+v, %v", one, err)
	}
	if _, err := FindScenarios([]string{"set"}); err == nil || !strings.Contains(err.Error(), "none of unpipelined, pipelined, sets") {
		t.Errorf("got %v", err)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		v    []float64
		want float64
	}{{[]float64{3}, 3}, {[]float64{4, 2}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 3, 100}, 3.5}} {
		if got := median(c.v); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.v, got, c.want)
		}
	}
}
