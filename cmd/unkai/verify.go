package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/spf13/cobra"

	"unkai/internal/verify"
)

// maxVerifyClients keeps the judge's work within minutes.
const maxVerifyClients = 64

func (o *outside) verifyCommand() *cobra.Command {
	cfg := verify.Config{Duration: 10 * time.Second, Clients: 12, Timeout: 5 * time.Second}
	var asJSON bool
	report := "unkai-verify.html"
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check that a running cluster keeps its promises",
		Long: `Ask a running cluster for operations of all kinds, from many clients at once, and
judge by all the answers whether each key behaved as one register: as if the
operations had happened one after another, each at some moment between its request
and its reply (linearizability). Break things meanwhile: kill nodes, pause them, cut
the network.

Operations that were refused, or whose outcome is not known, are no violation. The
keys begin with unkai-verify- and a random number, and are deleted at the end.

The exit status is 0 if there is an order that explains all answers. If there is
none, a page that shows where the answers stop making sense is written (--report),
and the exit status is 1.`,
		Example: `  unkai verify
  unkai verify --endpoints 10.0.0.1:11211,10.0.0.2:11211,10.0.0.3:11211 --duration 1m`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringSliceVar(&cfg.Endpoints, "endpoints", []string{"127.0.0.1:11211"}, "nodes to ask, by their addresses for clients")
	f.DurationVar(&cfg.Duration, "duration", cfg.Duration, "how long to ask")
	f.IntVar(&cfg.Clients, "clients", cfg.Clients, "clients, over all endpoints")
	f.DurationVar(&cfg.Timeout, "timeout", cfg.Timeout, "how long to wait for an answer")
	f.Uint64Var(&cfg.Seed, "seed", 0, "what decides the operations; 0: a new one each time")
	f.StringVar(&report, "report", report, "where to write the page about a violation")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if _, err := settle(f, o.env); err != nil {
			return usageError{err}
		}
		switch {
		case cfg.Duration <= 0 || cfg.Timeout <= 0:
			return usageError{errors.New("duration, timeout: more than 0, please")}
		case cfg.Clients < 1 || cfg.Clients > maxVerifyClients:
			return usageError{fmt.Errorf("clients: %d is not from 1 to %d", cfg.Clients, maxVerifyClients)}
		}
		if cfg.Seed == 0 {
			cfg.Seed = rand.Uint64()
		}
		return o.verify(cmd.Context(), cfg, report, asJSON)
	}
	return cmd
}

// verified is the JSON of a verification.
type verified struct {
	verify.Counts
	Linearizable bool   `json:"linearizable"`
	Undecided    bool   `json:"undecided"` // the judge ran out of time
	Seed         uint64 `json:"seed"`
	Report       string `json:"report,omitempty"`
}

func (o *outside) verify(ctx context.Context, cfg verify.Config, report string, asJSON bool) error {
	signals, release := o.signals()
	defer release()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-signals: // judge what there is so far
			cancel()
		case <-ctx.Done():
		}
	}()
	cfg.Prefix = fmt.Sprintf("unkai-verify-%x-", rand.Uint32())
	if o.terminal && !asJSON {
		cfg.Progress = func(c verify.Counts) {
			o.complain("\r%d answered, %d not applied, %d in doubt ", c.Answered, c.NotApplied, c.InDoubt)
		}
	}
	r, err := verify.Run(ctx, cfg)
	if cfg.Progress != nil {
		o.complain("\n")
	}
	if err != nil {
		return err
	}
	out := verified{Counts: r.Counts, Linearizable: r.Verdict.OK, Undecided: r.Verdict.Undecided, Seed: cfg.Seed}
	if !r.Verdict.OK && !r.Verdict.Undecided {
		if err := draw(r, report); err != nil {
			return err
		}
		out.Report = report
	}
	if asJSON {
		b, err := json.MarshalIndent(out, "", "  ")
		if err != nil {
			return fmt.Errorf("write the result: %w", err)
		}
		if err := o.print("%s\n", b); err != nil {
			return err
		}
	} else if err := o.print("%d operations answered, %d not applied, %d in doubt (seed %d)\n", r.Answered, r.NotApplied, r.InDoubt, cfg.Seed); err != nil {
		return err
	}
	switch {
	case r.Verdict.OK && !asJSON:
		return o.print("linearizable: one order of the operations explains every answer\n")
	case r.Verdict.OK:
		return nil
	case r.Verdict.Undecided:
		return errors.New("the judge ran out of time: ask with fewer --clients or for a shorter --duration")
	}
	return fmt.Errorf("NOT linearizable: no order of the operations explains the answers; see %s", report)
}

func draw(r verify.Report, path string) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("the answers are not linearizable, and the report about that cannot be written: %w", err)
	}
	if err := errors.Join(r.Verdict.Draw(f), f.Close()); err != nil {
		return fmt.Errorf("the answers are not linearizable, and the report about that cannot be written: %w", err)
	}
	return nil
}
