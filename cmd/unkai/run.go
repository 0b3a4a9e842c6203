package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"unkai/internal/node"
)

// stopGrace is how long clients may take to get their answers when the node
// stops; less than the 10 seconds after which supervisors lose patience.
const stopGrace = 8 * time.Second

// serve runs a node until a signal comes or it fails. Ready is called once it
// serves.
func (o *outside) serve(cfg node.Config, ready func(running)) error {
	signals, release := o.signals()
	defer release()
	n, stopped, err := o.launch(cfg, signals)
	if err != nil || n == nil {
		return err
	}
	if stopped {
		return halt(n, signals, cfg.Log)
	}
	ready(n)
	select {
	case s := <-signals:
		cfg.Log.Info("stopping; a second signal ends the process at once", "signal", s.String())
		return halt(n, signals, cfg.Log)
	case <-n.Done():
		err := n.Err()
		if errors.Is(err, node.ErrDrained) {
			cfg.Log.Info("stopped; this node was drained, and is of no use any more: its data directory can be deleted")
			return nil
		}
		if err != nil {
			return fmt.Errorf("the node stopped by itself: %w", err)
		}
		return errors.New("the node stopped by itself")
	}
}

// launch starts a node. A signal meanwhile makes it give up: then there is no
// node, or one that has to stop.
func (o *outside) launch(cfg node.Config, signals <-chan os.Signal) (n running, stopped bool, err error) {
	ctx, giveUp := context.WithCancel(context.Background())
	defer giveUp()
	type result struct {
		n   running
		err error
	}
	started := make(chan result, 1)
	go func() {
		n, err := o.start(ctx, cfg)
		started <- result{n, err}
	}()
	select {
	case r := <-started:
		return r.n, false, r.err
	case s := <-signals:
		cfg.Log.Info("giving up the start; a second signal ends the process at once", "signal", s.String())
		giveUp()
	}
	select {
	case r := <-started:
		if errors.Is(r.err, context.Canceled) {
			r = result{}
		}
		return r.n, true, r.err
	case s := <-signals:
		return nil, true, interrupted{s}
	}
}

// halt stops a node in an orderly way, unless a second signal comes.
func halt(n running, signals <-chan os.Signal, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	began := time.Now()
	done := make(chan error, 1)
	go func() { done <- n.Stop(ctx) }()
	select {
	case err := <-done:
		if own := n.Err(); !errors.Is(own, node.ErrDrained) {
			err = errors.Join(err, own)
		}
		if err != nil {
			return fmt.Errorf("stop the node: %w", err)
		}
		log.Info("stopped; everything is written down", "took", time.Since(began).Round(time.Millisecond))
		return nil
	case s := <-signals:
		return interrupted{s}
	}
}
