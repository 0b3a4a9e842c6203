// Peers compares a cluster of three Unkai nodes with what people would take
// instead: etcd, a NATS JetStream bucket, Redis. Each is started in turn on
// this machine, loaded, robbed of a node and stopped, again and again. Linux only.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

// settings are the flags.
type settings struct {
	plan
	rounds           int
	only, unkai, dir string
	json, keep, own  bool
}

func parse(args []string) (s settings, err error) {
	f := flag.NewFlagSet("peers", flag.ContinueOnError)
	f.IntVar(&s.rounds, "rounds", 3, "how often each system has its turn")
	f.DurationVar(&s.duration, "duration", 3*time.Second, "length of each measurement")
	f.DurationVar(&s.after, "after-kill", 12*time.Second, "how long to look on after a node was killed; 0: kill none")
	f.IntVar(&s.connections, "connections", 64, "clients at once, spread over all nodes")
	f.IntVar(&s.keys, "keys", 5000, "keys that reads and writes choose from")
	f.StringVar(&s.only, "only", "", "systems to compare, with commas between: "+strings.Join(names(), ","))
	f.StringVar(&s.unkai, "unkai", "", "the unkai program; without it one is built from the parent directory")
	f.StringVar(&s.dir, "dir", os.TempDir(), "where data directories are made; must be on a disk")
	f.BoolVar(&s.own, "own-connections", false, "one connection for each client of etcd and NATS too, which is slower")
	f.BoolVar(&s.json, "json", false, "print everything that was measured as JSON")
	f.BoolVar(&s.keep, "keep", false, "keep data and logs")
	if err := f.Parse(args); err != nil {
		return s, err
	}
	if f.NArg() > 0 || s.rounds < 1 || s.duration <= 0 || s.connections < nodes || s.keys < 1 {
		return s, errors.New("want no arguments, and at least one round, some duration, 3 connections and one key")
	}
	for _, name := range split(s.only) {
		if !slices.Contains(names(), name) {
			return s, fmt.Errorf("--only: there is no %q; there are %s", name, strings.Join(names(), ", "))
		}
	}
	return s, nil
}

func split(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' })
}

func run(ctx context.Context, args []string) (err error) {
	s, err := parse(args)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(s.dir, "peers-")
	if err != nil {
		return fmt.Errorf("make a data directory: %w", err)
	}
	defer func() {
		if !s.keep {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	disk, err := diskUnder(dir)
	if err != nil {
		return err
	}
	rep := report{Command: "go run ./peers " + strings.Join(args, " "), Disk: disk, LoadBefore: loadAverage()}
	able, err := equip(ctx, s, filepath.Join(dir, "bin"), &rep)
	if err != nil {
		return err
	}
	for round := range s.rounds {
		for turn := range able {
			// Another one is first each time.
			c := able[(round+turn)%len(able)]
			fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", round+1, s.rounds, c.name)
			m, err := s.measure(ctx, c, filepath.Join(dir, fmt.Sprintf("%d-%s", round+1, c.name)), round)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			m.Round = round + 1
			rep.Measured = append(rep.Measured, m)
		}
	}
	rep.LoadAfter = loadAverage()
	rep.compare()
	if s.json {
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", "  ")
		return out.Encode(rep)
	}
	return rep.print(os.Stdout)
}

// equip finds or builds the programs. What cannot be had is said, and is an
// error if it was asked for by name.
func equip(ctx context.Context, s settings, bin string, rep *report) (able []contestant, err error) {
	if err := os.Mkdir(bin, 0o755); err != nil {
		return nil, fmt.Errorf("make a directory for programs: %w", err)
	}
	wanted := split(s.only)
	for _, c := range contestants() {
		if len(wanted) > 0 && !slices.Contains(wanted, c.name) || len(wanted) == 0 && c.extra {
			continue
		}
		c.program, err = c.find(ctx, bin, s)
		switch {
		case err == nil:
			able = append(able, c)
			rep.Systems = append(rep.Systems, system{Name: c.name, Version: version(ctx, c.program), Writes: c.writes, Reads: c.reads})
		case len(wanted) > 0:
			return nil, fmt.Errorf("%s is missing: %w\nget it: %s", c.name, err, c.get)
		default:
			rep.Missing = append(rep.Missing, missing{Name: c.name, Why: err.Error(), Get: c.get})
			fmt.Fprintf(os.Stderr, "%s is MISSING: %v; get it: %s\n", c.name, err, c.get)
		}
	}
	return able, nil
}
