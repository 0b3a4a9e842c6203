// Package unkai holds the words of the system as types: what the rooms of the
// house pass to each other. It imports nothing and decides nothing.
package unkai

import (
	"fmt"
	"strconv"
)

// Limits of the client protocol, the same for every node of every cluster.
const (
	// MaxKeyLen is the length of the longest key, in bytes, as in memcached.
	MaxKeyLen = 250
	// MaxValueLen is the most that the limit for values can be configured to, in bytes.
	MaxValueLen = 64 << 20
	// DefaultBuckets is how many buckets a new cluster cuts its hash space into.
	DefaultBuckets = 1024
)

// NodeID names a node for good: chosen at random when its data directory is
// created. Addresses are hints; identity is the id. Zero is no node.
type NodeID uint64

// String is the id as 16 hexadecimal digits.
func (id NodeID) String() string { return fmt.Sprintf("%016x", uint64(id)) }

// ParseNodeID reads what String wrote.
func ParseNodeID(s string) (NodeID, error) {
	n, err := strconv.ParseUint(s, 16, 64)
	if err != nil || len(s) != 16 || n == 0 {
		return 0, fmt.Errorf("node id %q: want 16 hexadecimal digits, not all zero", s)
	}
	return NodeID(n), nil
}

// Incarnation rises whenever a node's disk or memory was lost, restored or
// emptied: what an earlier incarnation promised, this one has forgotten.
type Incarnation uint32

// Epoch numbers the versions of the topology, from 1 on.
type Epoch uint32

// Bucket is an equal slice of the hash space: the unit of placement,
// synchronisation and transfer. A cluster has a fixed power of two of them, at
// most 65,536.
type Bucket uint16

// Seat is the short name of one incarnation of one node inside ballots. The
// topology hands seats out and never hands one out twice, so that a ballot of
// 64 bits still orders by (counter, node id, incarnation). Zero is nobody's.
type Seat uint16

// Ballot orders everything that ever happens to one key: a counter in the upper
// 48 bits, the Seat of the coordinator in the lower 16. Two coordinators cannot
// make the same ballot, and one never makes the same ballot twice for one key.
// Zero is before every ballot.
type Ballot uint64

// MakeBallot is the ballot with that counter, of that seat.
func MakeBallot(counter uint64, s Seat) Ballot { return Ballot(counter<<16 | uint64(s)) }

// Counter is the ballot's position in time.
func (b Ballot) Counter() uint64 { return uint64(b) >> 16 }

// Seat says who proposed it.
func (b Ballot) Seat() Seat { return Seat(b) }

// Stride is by how much the counters of one seat's ballots for one key rise.
// Between them is room for the cas uniques of the changes that share a round.
const Stride = 1024

// Heir is the promise that goes with an accept at b: the ballot of the same
// seat's next round.
func (b Ballot) Heir() Ballot { return MakeBallot(b.Counter()+Stride, b.Seat()) }

// String is counter.seat.
func (b Ballot) String() string { return fmt.Sprintf("%d.%d", b.Counter(), b.Seat()) }

// Item is what a key holds: all that a client can see of it. Stale and Won
// belong to the meta protocol: the value is outdated, and one client has been
// told to renew it.
type Item struct {
	Value  []byte
	Flags  uint32
	Expiry int64  // absolute, in milliseconds since 1970; 0: never
	CAS    uint64 // the cas unique: never used twice for one key; 0: no item
	Stale  bool
	Won    bool
}

// Exists reports whether there is an item at all.
func (it *Item) Exists() bool { return it.CAS != 0 }
