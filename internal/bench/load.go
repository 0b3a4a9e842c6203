// Package bench loads memcached endpoints and measures how they bear it. It
// never leaves out the time a request had to wait, and it can put Unkai and
// memcached under the same load in the same run.
package bench

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Limits of a Load: what one process can sensibly hold.
const (
	MaxConnections = 20_000
	MaxPipeline    = 1024
	MaxKeys        = 1_000_000_000
	MaxValue       = 64 << 20
	maxPrefix      = 200
	maxWorkers     = 256
	// maxInFlight is how many bytes of values all connections together may
	// have under way.
	maxInFlight = 4 << 30
)

// Names that a Load knows.
const (
	Text = "text" // the classic protocol: get, set
	Meta = "meta" // the meta protocol: mg, ms

	Uniform    = "uniform"    // every key as often as every other
	Zipf       = "zipf"       // few keys often, many seldom: exponent 0.99
	Sequential = "sequential" // each connection walks through the keys
)

// Load says what to ask of which endpoints, how often and for how long.
type Load struct {
	// Endpoints are memcached servers, HOST:PORT; connections are dealt out in turn.
	Endpoints   []string
	Connections int
	// Pipeline is the most requests that one write carries. A connection
	// sends again when all of them have been answered.
	Pipeline int
	Protocol string

	Keys         int
	Prefix       string // of every key
	Distribution string
	Reads        float64 // percentage of requests that are gets
	// MinValue and MaxValue bound the size of values; sizes between are
	// equally likely.
	MinValue, MaxValue int

	// Rate is how many requests per second all connections together send,
	// whether or not the server keeps up: latency then counts from the moment
	// a request was due. 0: each connection sends when it has its replies.
	Rate float64

	// Duration and Operations end the measurement, whichever comes first;
	// 0 is no limit.
	Duration   time.Duration
	Operations int64
	WarmUp     time.Duration // the same load before it, not measured
	Preload    bool          // first set every key once, not measured
	Verify     bool          // compare every value that is read with what its key must hold
	Seed       uint64
	Timeout    time.Duration // for a connect and for a reply

	// Workers is how many threads send and receive; 0: half as many as there
	// are processors, so that as many are left to the server.
	Workers int

	// Progress, if not nil, is called once a second.
	Progress func(Progress)

	// goroutines takes the way of systems without epoll.
	goroutines bool
}

// Defaults is the load for which Unkai has its targets, for ten seconds.
func Defaults() Load {
	return Load{
		Endpoints:    []string{"127.0.0.1:11211"},
		Connections:  64,
		Pipeline:     1,
		Protocol:     Text,
		Keys:         100_000,
		Prefix:       "key:",
		Distribution: Uniform,
		Reads:        90,
		MinValue:     100,
		MaxValue:     100,
		Duration:     10 * time.Second,
		Preload:      true,
		Seed:         1,
		Timeout:      5 * time.Second,
	}
}

// Validate says what is wrong with l, all of it.
func (l *Load) Validate() error {
	var wrong []string
	check := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	within := func(name string, n, low, high int) {
		check(n >= low && n <= high, "%s is %d, want %d to %d", name, n, low, high)
	}
	check(len(l.Endpoints) > 0, "no endpoint")
	within("connections", l.Connections, 1, MaxConnections)
	within("pipeline", l.Pipeline, 1, MaxPipeline)
	within("keys", l.Keys, 1, MaxKeys)
	within("smallest value", l.MinValue, 0, MaxValue)
	within("largest value", l.MaxValue, l.MinValue, MaxValue)
	within("workers", l.Workers, 0, maxWorkers)
	check(l.Connections*l.Pipeline*l.MaxValue <= maxInFlight,
		"connections × pipeline × value size is more than %d bytes", maxInFlight)
	check(l.Protocol == Text || l.Protocol == Meta, "protocol %q is neither %s nor %s", l.Protocol, Text, Meta)
	check(slices.Contains([]string{Uniform, Zipf, Sequential}, l.Distribution),
		"distribution %q is none of %s, %s, %s", l.Distribution, Uniform, Zipf, Sequential)
	check(len(l.Prefix) <= maxPrefix && !strings.ContainsFunc(l.Prefix, isNotKey),
		"prefix %q: want at most %d bytes without blanks and control characters", l.Prefix, maxPrefix)
	check(l.Reads >= 0 && l.Reads <= 100, "reads are %g %%, want 0 to 100", l.Reads)
	check(l.Rate >= 0 && l.Rate <= 1e9, "rate is %g, want 0 to 1e9", l.Rate)
	check(l.Duration >= 0 && l.WarmUp >= 0 && l.Operations >= 0, "durations and operations cannot be negative")
	check(l.Duration > 0 || l.Operations > 0, "neither a duration nor a number of operations ends the load")
	check(l.Timeout > 0, "timeout must be positive")
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("load: %s", strings.Join(wrong, "; "))
}

func isNotKey(r rune) bool { return r <= ' ' || r == 0x7f }
