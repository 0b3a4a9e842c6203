package admin

import (
	"math"

	"unkai/internal/store"
)

// Status is the JSON of /v1/status. Of a node that does not serve, the parts
// from Incarnation on are missing.
type Status struct {
	Ready   bool    `json:"ready"`
	State   string  `json:"state"` // "serving", or why not
	Version string  `json:"version"`
	Uptime  float64 `json:"uptime_seconds"`
	Node    string  `json:"node"`

	Addresses Addresses `json:"addresses"`

	Problem     string         `json:"problem,omitempty"` // what is wrong though it serves
	Zone        string         `json:"zone,omitempty"`
	Incarnation uint32         `json:"incarnation,omitempty"`
	Epoch       uint32         `json:"epoch,omitempty"`
	Buckets     int            `json:"buckets,omitempty"`
	Quorum      *Quorum        `json:"quorum,omitempty"`
	Store       *StoreStatus   `json:"store,omitempty"`
	Clients     *ClientsStatus `json:"clients,omitempty"`
	Rounds      *RoundsStatus  `json:"rounds,omitempty"`
	Job         *Job           `json:"job,omitempty"` // that runs, in the whole cluster
	// AutoReplace is after how many seconds of silence a node is replaced by itself; 0:
	// never. Prospects are what becomes of nodes by itself, or why it does not.
	AutoReplace *float64      `json:"auto_replace_seconds,omitempty"`
	Prospects   []Prospect    `json:"prospects,omitempty"`
	Operations  *Operations   `json:"operations,omitempty"`
	Survival    *Survival     `json:"survival,omitempty"` // of the whole cluster
	Links       []Link        `json:"links,omitempty"`    // to the other members
	Deciding    *Deciding     `json:"deciding,omitempty"`
	Repair      *RepairStatus `json:"repair,omitempty"`
}

// Addresses say where a node listens; empty: nowhere.
type Addresses struct {
	Listen string `json:"listen"`
	Peer   string `json:"peer"`
	HTTP   string `json:"http"`
}

// Quorum is N:R:W as it is in effect.
type Quorum struct {
	N int `json:"n"`
	R int `json:"r"`
	W int `json:"w"`
}

// StoreStatus is the store's part of a Status. Sizes are in bytes.
type StoreStatus struct {
	Kind        string `json:"kind"`
	Sync        string `json:"sync"`
	Items       int64  `json:"items"`
	Tombstones  int64  `json:"tombstones"`
	Bytes       int64  `json:"bytes"`
	Used        int64  `json:"used"`
	Limit       int64  `json:"limit"`
	Full        bool   `json:"full"`
	Damaged     int64  `json:"damaged"`
	Writes      int64  `json:"writes"`
	Syncs       int64  `json:"syncs"`
	CacheHits   int64  `json:"cache_hits"`
	CacheMisses int64  `json:"cache_misses"`
	CacheBytes  int64  `json:"cache_bytes"`
}

// ClientsStatus is the front door's part of a Status.
type ClientsStatus struct {
	Connections    int64 `json:"connections"`
	MaxConnections int   `json:"max_connections"`
	Accepted       int64 `json:"accepted"`
	Rejected       int64 `json:"rejected"`
	IdleClosed     int64 `json:"idle_closed"`
	Failures       int64 `json:"failures"`
	Doubts         int64 `json:"in_doubt"` // of the failures
	NoMemory       int64 `json:"no_memory"`
	Panics         int64 `json:"panics"`
	BufferBytes    int64 `json:"buffer_bytes"`
	// Counts by memcached's names: get_hits and so on.
	Counts map[string]int64 `json:"counts"`
}

// RepairStatus is what comparing replicas has come to: of the buckets that this node
// compares, and of the records that it holds. Counters count from the start.
type RepairStatus struct {
	// Oldest is how many seconds ago the bucket was found equal at all its replicas
	// for which that is longest ago, and Bucket which that is; null: there is none.
	Oldest       float64 `json:"oldest_seconds"`
	Bucket       *int    `json:"oldest_bucket"`
	Unreconciled int64   `json:"unreconciled"` // keys not equal at the last look
	Equal        int64   `json:"equal"`        // comparisons that found a bucket equal
	Different    int64   `json:"different"`    // that did not at first
	Adopted      int64   `json:"adopted"`      // records taken over here
	Brought      int64   `json:"brought"`      // records that others took over because of this node
	Settled      int64   `json:"settled"`      // keys that needed a round
	Failed       int64   `json:"failed"`       // records that a store could not take over
	Bytes        int64   `json:"bytes"`        // of questions and answers
	Damaged      int64   `json:"damaged"`      // keys whose records are damaged and not healed yet
	Healed       int64   `json:"healed"`       // damaged records that gave way to others
	Purged       int64   `json:"purged"`       // records of what is gone, forgotten
	Waits        []Waits `json:"waits"`        // tombstones that cannot be forgotten yet
}

// RoundsStatus is the coordinator's part of a Status.
type RoundsStatus struct {
	Shared   int64 `json:"shared"`
	Expired  int64 `json:"expired"`
	Retried  int64 `json:"retried"`
	Timeouts int64 `json:"timeouts"`
}

// status is s in public names.
func (s *Snapshot) status() Status {
	out := Status{
		Ready: s.State == "", State: "serving",
		Version: s.Version, Uptime: math.Round(s.Uptime.Seconds()*1000) / 1000, Node: s.node(),
		Addresses: Addresses{Listen: s.Listen, Peer: s.Peer, HTTP: s.HTTP},
	}
	if !out.Ready {
		out.State = s.State
		return out
	}
	out.Problem, out.Zone = s.Problem, s.Zone
	out.Incarnation, out.Epoch, out.Buckets = uint32(s.Incarnation), uint32(s.Epoch), s.Buckets
	out.Job, out.Operations, out.Survival, out.Links, out.Deciding = s.Job, &s.Operations, s.Survival, s.Links, &s.Deciding
	out.AutoReplace, out.Prospects = &s.AutoReplace, s.Prospects
	out.Quorum = &Quorum{N: s.N, R: s.R, W: s.W}
	out.Store = storeStatus(s.Kind, s.Sync, s.Store)
	c := &s.Clients
	out.Clients = &ClientsStatus{
		Connections: c.Connections, MaxConnections: s.MaxConns, Accepted: c.Opened, Rejected: c.Rejected,
		IdleClosed: c.IdleKicks, Failures: c.Failures, Doubts: c.Doubts, NoMemory: c.NoMemory, Panics: c.Panics,
		BufferBytes: c.Buffers, Counts: c.Commands,
	}
	out.Rounds = &RoundsStatus{
		Shared: s.Rounds.Shared, Expired: s.Rounds.Expired,
		Retried: s.Rounds.Retried, Timeouts: s.Rounds.Timeouts,
	}
	r := &s.Repair
	out.Repair = &RepairStatus{
		Oldest: r.Oldest.Seconds(), Bucket: r.Bucket, Unreconciled: r.Unreconciled, Equal: r.Compared, Different: r.Differed,
		Adopted: r.Adopted, Brought: r.Brought, Settled: r.Settled, Failed: r.Failed, Bytes: r.Bytes,
		Damaged: r.Wounds, Healed: r.Healed, Purged: r.Purged, Waits: append([]Waits{}, r.Waits...),
	}
	return out
}

func storeStatus(kind, sync string, s store.Stats) *StoreStatus {
	return &StoreStatus{
		Kind: kind, Sync: sync,
		Items: s.Items, Tombstones: s.Tombstones, Bytes: s.Bytes,
		Used: s.Used, Limit: s.Limit, Full: s.Full, Damaged: s.Damaged,
		Writes: s.Writes, Syncs: s.Syncs,
		CacheHits: s.CacheHits, CacheMisses: s.CacheMiss, CacheBytes: s.CacheBytes,
	}
}
