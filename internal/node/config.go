package node

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"unkai"
	"unkai/internal/core/ring"
	"unkai/internal/core/topology"
	"unkai/internal/node/jobs"
	"unkai/internal/peer"
	"unkai/internal/store"
)

// Config is all that a node can be told. DefaultConfig has the defaults.
type Config struct {
	// Data is the directory that holds who the node is and what it keeps.
	Data string
	// Listen is the address for memcached clients, Peer for other nodes, HTTP for
	// administration; an empty HTTP closes that door, and with a Network an empty
	// Listen that for clients, which then have Node.Do.
	Listen, Peer, HTTP string
	// Join names nodes of the cluster to join, by their addresses for other nodes.
	// A new node with none begins a cluster of its own.
	Join []string
	// PeerKey names a file with a secret that all nodes of the cluster share: then
	// they talk by TLS, and to nobody else. "": in the clear, to anybody.
	PeerKey string
	// Weight is this node's share of the buckets against that of others, Zone what
	// it may lose together with others; "": nothing is known of that.
	Weight int
	Zone   string
	// Attach is "auto", or "manual": then the node gets its share when an operator
	// says so.
	Attach string
	// Restored has the node go on with a data directory that is an older copy, for
	// when all nodes were put back from copies.
	Restored bool
	// AutoReplace is, for a cluster that begins, after how long a dead node's share is
	// brought to others by itself; 0: never.
	AutoReplace time.Duration
	// Farewell is how long a drained node goes on answering its clients before it is
	// removed, if they do not leave.
	Farewell time.Duration
	// Store is "disk" or "memory"; Sync "always", "interval" or "off".
	Store, Sync string
	// N:R:W as configured for the cluster when it begins.
	N, R, W int
	// Buckets of a new cluster.
	Buckets int
	// Cache of the disk store and Memory of the memory store, in bytes.
	Cache, Memory int64
	// MaxValue is the longest value, in bytes.
	MaxValue int
	// MaxConns bounds the client connections.
	MaxConns int
	// IdleTimeout closes silent connections; 0: never.
	IdleTimeout time.Duration
	// RequestTimeout is how long an operation may take before its client gets
	// an error.
	RequestTimeout time.Duration
	// Version is what the node calls itself.
	Version string
	Log     *slog.Logger
	// Now is the clock, in milliseconds since 1970. The simulation skews it.
	Now func() int64
	// Network, if not nil, makes what takes the place of the port for other nodes,
	// on which then nobody listens. Rand, if not nil, takes that of the random numbers that
	// ids are made of and that decide who waits how long.
	Network func(self unkai.NodeID) peer.Network
	Rand    func() uint64
	// Engine, if not nil, takes the place of the store that Store names. The
	// node closes it.
	Engine store.Engine
}

// The kinds of store.
const (
	Disk   = "disk"
	Memory = "memory"
)

// How nodes are attached.
const (
	Auto   = "auto"
	Manual = "manual"
)

// farewell is long enough for an operator, or for what tells clients where the nodes
// are, to point them elsewhere; and short enough for the next job, which those who stay
// hold up.
const farewell = time.Minute

// DefaultConfig is what a node does when it is told nothing.
func DefaultConfig() Config {
	return Config{
		Data:   "unkai-data",
		Listen: "127.0.0.1:11211", Peer: "127.0.0.1:11011", HTTP: "127.0.0.1:11080",
		Store: Disk, Sync: "always",
		N: 3, R: 2, W: 2, Buckets: unkai.DefaultBuckets, Weight: 1, Attach: Auto, Farewell: farewell,
		Cache: 256 << 20, Memory: 1 << 30, MaxValue: 1 << 20,
		MaxConns: 1024, RequestTimeout: 2 * time.Second,
		Log: slog.Default(),
		Now: func() int64 { return time.Now().UnixMilli() },
	}
}

// The least that works.
const (
	minCache          = 8 << 20
	minMemory         = 8 << 20
	minValue          = 1 << 10
	minRequestTimeout = 10 * time.Millisecond
	minAutoReplace    = jobs.MinAutoReplace
)

// The most that is sensible.
const (
	maxWeight = topology.MaxWeight

	maxAutoReplace = jobs.MaxAutoReplace
)

// Validate says everything that is wrong with c.
func (c *Config) Validate() error {
	var errs []error
	bad := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	for _, addr := range c.Join {
		_, _, err := net.SplitHostPort(addr)
		bad(err != nil, "join: %q is not HOST:PORT, the --peer address of a node", addr)
	}
	bad(c.Weight < 1 || c.Weight > maxWeight, "weight: %d is not from 1 to %d", c.Weight, maxWeight)
	if err := topology.CheckZone(c.Zone); err != nil {
		errs = append(errs, fmt.Errorf("zone: %w", err))
	}
	bad(c.Attach != Auto && c.Attach != Manual, "attach: %q is neither %q nor %q", c.Attach, Auto, Manual)
	bad(c.AutoReplace != 0 && (c.AutoReplace < minAutoReplace || c.AutoReplace > maxAutoReplace), "auto-replace: %v is not from %v to %v; 0 for never", c.AutoReplace, minAutoReplace, maxAutoReplace)
	bad(c.Data == "", "data: name a directory")
	bad(c.Store != Disk && c.Store != Memory, "store: %q is neither %q nor %q", c.Store, Disk, Memory)
	bad(c.Sync != "always" && c.Sync != "interval" && c.Sync != "off", "sync: %q is none of always, interval, off", c.Sync)
	bad(!ring.ValidBuckets(c.Buckets), "buckets: %d is not a power of two from %d to %d", c.Buckets, ring.MinBuckets, ring.MaxBuckets)
	bad(c.Cache < minCache, "cache: %d bytes are less than %d", c.Cache, minCache)
	bad(c.Memory < minMemory, "memory: %d bytes are less than %d", c.Memory, minMemory)
	bad(c.MaxValue < minValue || c.MaxValue > unkai.MaxValueLen, "max-value: %d is not from %d to %d bytes", c.MaxValue, minValue, unkai.MaxValueLen)
	bad(c.MaxConns < 1, "max-connections: %d is less than 1", c.MaxConns)
	bad(c.IdleTimeout < 0, "idle-timeout: %v is negative", c.IdleTimeout)
	bad(c.RequestTimeout < minRequestTimeout, "request-timeout: %v is less than %v", c.RequestTimeout, minRequestTimeout)
	for _, a := range []struct{ name, addr string }{{"listen", c.Listen}, {"peer", c.Peer}, {"http", c.HTTP}} {
		if a.addr == "" && (a.name == "http" || a.name == "listen" && c.Network != nil) {
			continue
		}
		if _, _, err := net.SplitHostPort(a.addr); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", a.name, err))
		}
	}
	errs = append(errs, topology.CheckQuorum(c.N, c.R, c.W))
	return errors.Join(errs...)
}
