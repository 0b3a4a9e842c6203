package main

import (
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"unkai/internal/node"
)

// off closes the side door.
const off = "off"

// heapBesideCache is how large the Go heap of a disk node may grow beside its
// quarter of the cache before the collector works harder, in bytes. The record
// cache is not on that heap.
const heapBesideCache = 448 << 20

func (o *outside) serveCommand() *cobra.Command {
	cfg := node.DefaultConfig()
	logs := defaultLogging
	maxValue := size(cfg.MaxValue)
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a node",
		Long: `Run a node, until SIGTERM or SIGINT. It then answers what it has accepted,
writes everything down and exits with 0; a second signal ends it at once.

Every flag below can also be given as an environment variable (--max-value as
UNKAI_MAX_VALUE) or as a line of the TOML file that --config names
(max-value = "4MiB"). A flag counts before a variable, a variable before the
file. Sizes are bytes, or have a unit: 512k, 64MiB, 1GB (powers of 1024).`,
		Example: `  # durable, in ./unkai-data, for clients on this machine
  unkai serve

  # on a disk of its own, with more memory for what is read often
  unkai serve --data /var/lib/unkai --cache 4GiB

  # in memory: faster, and empty after a restart
  unkai serve --store memory --memory 8GiB

  # a second node, of the cluster to which a first one belongs
  unkai serve --data /var/lib/unkai2 --join 10.0.0.1:11011 --peer 10.0.0.2:11011

  # the same from the environment, and from a file
  UNKAI_STORE=memory UNKAI_MEMORY=8GiB unkai serve
  unkai serve --config /etc/unkai.toml`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.String(configFlag, "", "TOML file to read settings from")
	f.StringVar(&cfg.Data, "data", cfg.Data, "directory for everything that has to be kept")
	f.StringVar(&cfg.Listen, "listen", cfg.Listen, "address for memcached clients")
	f.StringVar(&cfg.Peer, "peer", cfg.Peer, "address for other nodes")
	f.StringVar(&cfg.HTTP, "http", cfg.HTTP, "address for administration: health, metrics,\nstatus, profiles; \"off\" for none")
	f.StringSliceVar(&cfg.Join, "join", nil, "nodes of the cluster to join, by their --peer\naddresses; without it a new node begins a cluster")
	f.StringVar(&cfg.PeerKey, "peer-key", "", "file with a secret that all nodes of the cluster share:\nthey then talk encrypted, and with nobody else")
	f.StringVar(&cfg.Zone, "zone", "", "what this node may fail together with: a rack, a\nsite; replicas of a key are spread over zones")
	f.IntVar(&cfg.Weight, "weight", cfg.Weight, "share of the keys, against that of other nodes")
	offer(cmd, &cfg.Attach, "attach", "a new node gets its share by itself, or when an\noperator says unkai attach", node.Auto, node.Manual)
	f.BoolVar(&cfg.Restored, "restored", false, "go on with an old copy of the data directory; only when\nall nodes were put back from copies")
	f.DurationVar(&cfg.AutoReplace, "auto-replace", 0, "of a new cluster: bring the share of a node that is dead\nfor so long to others, by itself; 0: never")
	offer(cmd, &cfg.Store, "store", "where records are kept", node.Disk, node.Memory)
	offer(cmd, &cfg.Sync, "sync", "when a write to disk is acknowledged: when the disk\nhas it, or when the system has it, which brings it to\nthe disk once a second, or whenever it likes", "always", "interval", "off")
	f.Var((*size)(&cfg.Cache), "cache", "memory for what is read often, with --store disk")
	f.Var((*size)(&cfg.Memory), "memory", "memory for records, with --store memory")
	f.Var(&maxValue, "max-value", "longest value")
	f.IntVar(&cfg.MaxConns, "max-connections", cfg.MaxConns, "client connections at once")
	f.DurationVar(&cfg.IdleTimeout, "idle-timeout", cfg.IdleTimeout, "close client connections that say nothing for so\nlong; 0: never")
	f.DurationVar(&cfg.RequestTimeout, "request-timeout", cfg.RequestTimeout, "longest time until an operation gets an answer")
	f.IntVar(&cfg.N, "n", cfg.N, "replicas of each key, as far as there are nodes")
	f.IntVar(&cfg.R, "r", cfg.R, "replicas that answer a read; R+W must exceed N")
	f.IntVar(&cfg.W, "w", cfg.W, "replicas that have a write before it is\nacknowledged; more than half of N")
	f.IntVar(&cfg.Buckets, "buckets", cfg.Buckets, "slices of the keys, fixed when the data directory is\nmade; a power of two")
	offer(cmd, &logs.level, "log-level", "least important lines of the log", "debug", "info", "warn", "error")
	offer(cmd, &logs.format, "log-format", "auto is text on a terminal, else JSON", "auto", "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		from, err := settle(f, o.env)
		if err != nil {
			return usageError{err}
		}
		cfg.MaxValue = int(maxValue)
		if cfg.HTTP == off {
			cfg.HTTP = ""
		}
		if err := cfg.Validate(); err != nil {
			return usageError{from.blame(err)}
		}
		log, err := logs.open(o.err, o.terminal)
		if err != nil {
			return usageError{fmt.Errorf("log-level: %w", err)}
		}
		cfg.Log, cfg.Version = log, version
		if err := ownFileLimit.raise(filesNeeded(&cfg)); err != nil {
			return err
		}
		file := configPath(f, o.env)
		if file == "" {
			file = "none"
		}
		log.Info("starting", "version", thisBuild().String(), "pid", os.Getpid(), "cpus", runtime.GOMAXPROCS(0), "config", file)
		warn(log, &cfg)
		if cfg.Store == node.Disk {
			debug.SetMemoryLimit(cfg.Cache/4 + heapBesideCache)
		}
		return o.serve(cfg, func(n running) { o.greet(n, logs.forPeople(o.terminal), log) })
	}
	return cmd
}

// warn says what the settings give up.
func warn(log *slog.Logger, cfg *node.Config) {
	switch {
	case cfg.Store == node.Memory:
		log.Warn("--store memory: when this process ends, everything is lost", "limit", (*size)(&cfg.Memory).String())
	case cfg.Sync == "interval":
		log.Warn("--sync interval: a power cut or a crash of the system loses the writes of the last second; the end of this process loses nothing")
	case cfg.Sync == "off":
		log.Warn("--sync off: a power cut or a crash of the system loses what the system has not yet written, which may be minutes of writes; the end of this process loses nothing")
	}
	if !loopback(cfg.Peer) && cfg.PeerKey == "" {
		log.Warn("there is no --peer-key: whoever reaches this address can take part in the cluster", "peer", cfg.Peer)
	}
	if !loopback(cfg.Listen) {
		log.Warn("there is no authentication: whoever reaches this address can read and change everything", "listen", cfg.Listen)
	}
	if cfg.HTTP != "" && !loopback(cfg.HTTP) {
		log.Warn("there is no authentication: whoever reaches this address can read status, metrics and profiles, and remove nodes", "http", cfg.HTTP)
	}
}
