package admin

import (
	"time"

	"unkai"
	"unkai/internal/memcache"
	"unkai/internal/store"
)

// Snapshot is what a node can say of itself at one moment. Counters count from
// the start of the process.
type Snapshot struct {
	// State is why the node does not serve: that it starts or stops, with details, or
	// that nobody has vouched for its data directory yet. While it is not empty, only the fields up to Sync count.
	State   string
	Version string
	Uptime  time.Duration
	Node    unkai.NodeID
	// Listen is where clients connect, Peer where other nodes do, HTTP where
	// this server listens; empty: nowhere.
	Listen, Peer, HTTP string
	// Kind of store, and its sync policy.
	Kind, Sync string

	Problem     string // what is wrong though it serves; "": nothing
	Zone        string // "": none
	Incarnation unkai.Incarnation
	Epoch       unkai.Epoch
	Buckets     int
	N, R, W     int // in effect now
	Job         *Job
	AutoReplace float64 // seconds of silence after which a node is replaced; 0: never
	Prospects   []Prospect
	Store       store.Stats
	Clients     memcache.Stats
	MaxConns    int
	Rounds      Rounds
	Operations  Operations
	Survival    *Survival
	Links       []Link // to the other members
	Deciding    Deciding
	Repair      Repair
	Copying     Copying
}

// node is the id as text, empty before it is known.
func (s *Snapshot) node() string {
	if s.Node == 0 {
		return ""
	}
	return s.Node.String()
}

// Repair counts what comparing replicas has found and mended.
type Repair struct {
	Unreconciled int64         // keys known not to be equal at all their replicas
	Oldest       time.Duration // since when a bucket was not found equal at all its replicas
	Bucket       *int          // which that is; nil: there is none
	Compared     int64         // comparisons of a bucket that found it equal everywhere
	Differed     int64         // comparisons that began with a difference
	Adopted      int64         // records that this node lacked and has taken over
	Brought      int64         // records that others have taken over because of this node
	Settled      int64         // keys that needed a round
	Failed       int64         // records that a store could not take over
	Bytes        int64         // of questions and answers
	Wounds       int64         // keys whose records are damaged, as far as it was noticed
	Healed       int64         // damaged records that gave way to what other replicas hold
	Scrubbed     int64         // records read because nobody may have read them for long
	Scrubs       int64         // passes of that through the store
	ScrubDamaged int64         // records that it found damaged
	Purged       int64         // records of what is gone, forgotten
	Waits        []Waits       // tombstones that could not be forgotten at the last look
}

// Waits are tombstones that wait for the same before they can be forgotten.
type Waits struct {
	// Why is "away": a node is; "silent": it is there and did not answer; "different": it may hold something older;
	// "moving": buckets are on their way; "lost": a replica was, and has no successor; or
	// "due": that is over, and the next sweep will see.
	Why   string `json:"why"`
	Node  string `json:"node,omitempty"` // whom they wait for, if it is one
	Items int64  `json:"items"`
	Bytes int64  `json:"bytes"` // of their keys and records
}

// Copying is how fast the node brings records to others.
type Copying struct {
	Speed  int64   // bytes a second, in the mean of the last second
	Limit  int64   // that may be, for the clients' sake; 0: any number
	Strain float64 // how many times as long as without it clients wait; 0: there are none
}

// Rounds counts what the coordinator did beyond the usual.
type Rounds struct {
	Shared   int64 // operations that another operation's round served
	Expired  int64 // items found expired and made tombstones
	Retried  int64 // rounds begun again under a newer epoch or ballot
	Timeouts int64 // operations that got no answer in time
}
