package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"unkai/internal/bench"
)

// parrot answers every line with the same reply, and returns its address.
func parrot(t *testing.T, reply string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				for lines := bufio.NewScanner(c); lines.Scan(); {
					if _, err := c.Write([]byte(reply)); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// benchmark runs `unkai bench` with args.
func benchmark(t *testing.T, args ...string) (out string, err error) {
	t.Helper()
	var b bytes.Buffer
	c := newBenchCommand()
	c.SilenceErrors, c.SilenceUsage = true, true
	c.SetArgs(args)
	c.SetOut(&b)
	c.SetErr(&b)
	err = c.ExecuteContext(t.Context())
	return b.String(), err
}

func TestBench(t *testing.T) {
	args := []string{"--endpoint", parrot(t, "END\r\n"), "--connections", "3", "--operations", "300", "--reads", "100", "--preload=false"}
	out, err := benchmark(t, args...)
	if err != nil || !strings.Contains(out, "300 operations in ") || !strings.Contains(out, "300 gets (300 misses)") {
		t.Fatalf("%v: %s", err, out)
	}
	out, err = benchmark(t, append(args, "--json")...)
	if err != nil {
		t.Fatal(err)
	}
	var report map[string]any
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// Scripts know these names.
	for _, name := range []string{"loop", "operations", "operations_per_second", "misses", "errors", "errors_by_text",
		"wrong_values", "unsent", "seconds", "latency_us", "client_cpu_us_per_operation"} {
		if _, ok := report[name]; !ok {
			t.Errorf("the report has no %s:\n%s", name, out)
		}
	}
	all, _ := report["latency_us"].(map[string]any)["all"].(map[string]any)
	for _, name := range []string{"count", "min", "mean", "p50", "p90", "p95", "p99", "p99_9", "p99_99", "max"} {
		if _, ok := all[name]; !ok {
			t.Errorf("latency has no %s:\n%s", name, out)
		}
	}
}

func TestBenchFailsWhenTheServerDoes(t *testing.T) {
	out, err := benchmark(t, "--endpoint", parrot(t, "SERVER_ERROR out of order\r\n"),
		"--connections", "2", "--operations", "20", "--reads", "100", "--preload=false")
	if !errors.Is(err, errBenchFailed) || !strings.Contains(out, "SERVER_ERROR out of order") || !strings.Contains(out, "nothing was measured") {
		t.Fatalf("%v: %s", err, out)
	}
}

func TestBenchRefusesWhatMakesNoSense(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--value-size 10-5", `"10-5": want a number of bytes, or MIN-MAX`},
		{"--value-size big", "want a number of bytes"},
		{"--connections 0", "connections is 0"},
		{"--protocol binary", "want text or meta"},
		{"--duration 0s", "neither a duration nor a number of operations"},
		{"compare --engine tape", `engine "tape" is neither memory nor disk`},
		{"compare --scenario nothing", `scenario "nothing" is none of`},
		{"compare --quick --rounds 3", "none of the others can be"},
	} {
		if _, err := benchmark(t, strings.Fields(c.args)...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.args, err, c.want)
		}
	}
}

func TestProgressIsOneLine(t *testing.T) {
	var b strings.Builder
	progressTo(&b)(bench.Progress{Elapsed: 3 * time.Second, Operations: 12, Rate: 4.2, Mean: 1234567})
	if got := b.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "1.235ms") {
		t.Errorf("%q", got)
	}
}
