package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"unkai/internal/bench"
)

var errBenchFailed = errors.New("the load ended with errors")

// newBenchCommand is `unkai bench`.
func newBenchCommand() *cobra.Command {
	load := bench.Defaults()
	size, asJSON := "", false
	c := &cobra.Command{
		Use:   "bench",
		Short: "Load any memcached endpoint and measure throughput and latency",
		Long: `Load any memcached endpoint and measure throughput and latency.

Without --rate every connection sends its next requests as soon as the replies
to the last ones are there (closed loop): this finds the highest throughput. With
--rate requests are due at fixed moments whether or not the server keeps up (open
loop), and latency counts from the moment a request was due: a stall shows in the
percentiles as long as it was for all who had to wait.

All keys are set once before the measurement (--preload=false leaves that out).
Values are made from key and seed, and --verify compares every one that is read.

The exit status is 1 if nothing could be measured, or if there were errors, wrong
values or requests that were never sent. A miss is not an error.`,
		Example: `  # how fast is it? 64 connections, 90 % reads, 10 seconds
  unkai bench --endpoint 127.0.0.1:11211

  # 16 requests in one write, values of 100 to 4000 bytes, popular keys
  unkai bench --pipeline 16 --value-size 100-4000 --distribution zipf

  # which latency do users see at 20,000 requests per second?
  unkai bench --rate 20000 --duration 1m

  # a million writes, for a script
  unkai bench --reads 0 --operations 1000000 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if load.MinValue, load.MaxValue, err = parseSizes(size); err != nil {
				return usageError{err}
			}
			if cmd.Flags().Changed("operations") && !cmd.Flags().Changed("duration") {
				load.Duration = 0
			}
			if err := load.Validate(); err != nil {
				return usageError{err}
			}
			if out, ok := cmd.ErrOrStderr().(*os.File); ok && term.IsTerminal(int(out.Fd())) {
				load.Progress = progressTo(out)
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			report, err := bench.Run(ctx, load)
			if err != nil {
				return err
			}
			if err := printReport(cmd.OutOrStdout(), report, asJSON); err != nil {
				return fmt.Errorf("print the report: %w", err)
			}
			if report.Failed() {
				return errBenchFailed
			}
			return nil
		},
	}
	c.AddCommand(newBenchCompareCommand())
	f := c.Flags()
	f.StringSliceVar(&load.Endpoints, "endpoint", load.Endpoints, "server to load, `HOST:PORT`; several share the connections")
	f.IntVar(&load.Connections, "connections", load.Connections, "connections over all endpoints")
	f.IntVar(&load.Pipeline, "pipeline", load.Pipeline, "requests in one write of a connection")
	offer(c, &load.Protocol, "protocol", "get and set, or mg and ms", bench.Text, bench.Meta)
	f.StringVar(&size, "value-size", "100", "`BYTES` of a value, or MIN-MAX")
	f.IntVar(&load.Keys, "keys", load.Keys, "how many different keys")
	f.StringVar(&load.Prefix, "prefix", load.Prefix, "what every key begins with")
	offer(c, &load.Distribution, "distribution", "which keys are asked for: all alike, few of them often, or one after the other",
		bench.Uniform, bench.Zipf, bench.Sequential)
	f.Float64Var(&load.Reads, "reads", load.Reads, "`PERCENT` of the requests that are gets; the others are sets")
	f.Float64Var(&load.Rate, "rate", 0, "requests per second over all connections; 0: as fast as replies come")
	f.DurationVar(&load.Duration, "duration", load.Duration, "how long to measure")
	f.Int64Var(&load.Operations, "operations", 0, "how many requests to measure; alone it replaces --duration")
	f.DurationVar(&load.WarmUp, "warm-up", 0, "the same load before the measurement")
	f.BoolVar(&load.Preload, "preload", load.Preload, "set every key once before the load")
	f.BoolVar(&load.Verify, "verify", false, "compare every value that is read with what its key must hold")
	f.Uint64Var(&load.Seed, "seed", load.Seed, "of keys, values and their order")
	f.DurationVar(&load.Timeout, "timeout", load.Timeout, "for a connect and for a reply")
	f.IntVar(&load.Workers, "workers", load.Workers, "threads that send and receive; 0: half as many as there are processors")
	f.BoolVar(&asJSON, "json", false, "print the report as JSON")
	return c
}

// untilSignal is over at the first SIGINT or SIGTERM: a load then reports what
// it has. A second one ends the process.
func untilSignal(ctx context.Context) (context.Context, func()) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// parseSizes reads N or MIN-MAX.
func parseSizes(s string) (low, high int, err error) {
	from, to, isRange := strings.Cut(s, "-")
	if !isRange {
		to = from
	}
	low, err1 := strconv.Atoi(from)
	high, err2 := strconv.Atoi(to)
	if err := errors.Join(err1, err2); err != nil || low > high {
		return 0, 0, fmt.Errorf("--value-size %q: want a number of bytes, or MIN-MAX", s)
	}
	return low, high, nil
}

func printReport(w io.Writer, r *bench.Report, asJSON bool) error {
	if asJSON {
		return printJSON(w, r)
	}
	return r.WriteText(w)
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// progressTo prints one line for each second.
func progressTo(w io.Writer) func(bench.Progress) {
	return func(p bench.Progress) {
		_, _ = fmt.Fprintf(w, "%4.0f s  %9.0f/s  mean %8s  %d done, %d misses, %d wrong, %d errors\n",
			p.Elapsed.Seconds(), p.Rate, p.Mean.Round(1000), p.Operations, p.Misses, p.Wrong, p.Errors)
	}
}
