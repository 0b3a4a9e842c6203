// Package store is the contract of the engines that keep records: what a
// replica may rely on, whatever holds the bytes. Every engine passes the
// suite in storetest.
package store

import (
	"cmp"
	"errors"
	"iter"
	"slices"

	"unkai"
)

// Errors that an Engine returns, wrapped with what was being done.
var (
	// ErrDamaged: the record's checksum or format is wrong. The record is
	// unknown, which is not absent: nothing may be concluded from it.
	ErrDamaged = errors.New("record is damaged")
	// ErrConflict: the record does not have the ballot and the promise that the
	// write expected.
	ErrConflict = errors.New("record has another ballot or promise")
	// ErrInvalid: the record contradicts itself, see Record.Check.
	ErrInvalid = errors.New("record cannot be")
	// ErrFull: the write would grow the store beyond its limit. Reads and
	// tombstones still work, and growth does again once there is room.
	ErrFull = errors.New("store is full")
	// ErrBusy: too many writes wait to be made durable; nothing was applied.
	ErrBusy = errors.New("store is overloaded")
	// ErrClosed: the engine was closed.
	ErrClosed = errors.New("store is closed")
	// ErrBroken: the disk failed a write or a sync; what waited is in doubt,
	// and the engine refuses everything from then on.
	ErrBroken = errors.New("store is broken")
)

// Record is what one replica knows of one key: the state of its acceptor
// (Rystsov 2018, §2.2). The zero Record is that of a key never heard of.
type Record struct {
	// Ballot at which Item was accepted. 0: nothing was, and all there is is
	// the promise.
	Ballot unkai.Ballot
	// Promise is the ballot below which nothing will be accepted; never below Ballot.
	Promise unkai.Ballot
	// Epoch of the topology under which Item was accepted.
	Epoch unkai.Epoch
	// Tombstone: the key was deleted. Item is empty.
	Tombstone bool
	Item      unkai.Item
}

// Write is one conditional write on its way to being durable. Its owner fills
// it in, passes it to Engine.Write, and leaves it alone until Done was called.
type Write struct {
	Bucket unkai.Bucket
	Hash   uint64 // the key's, from core/ring; equal keys have equal hashes
	Key    []byte
	// Expect and Promised are the ballot and the promise of the record to be
	// replaced; both 0: there is none.
	Expect   unkai.Ballot
	Promised unkai.Ballot
	// Heal puts the record in the place of a damaged one, whatever that was:
	// then Expect and Promised do not count. Where Get finds no damage it is
	// ErrConflict. What the damaged record promised is forgotten, so who asks
	// for it must know from elsewhere that nobody relies on it.
	Heal   bool
	Record Record
	// Fetched and Accessed are the key's marks of having been read, from this
	// write on; an Accessed of 0 is the time of the write.
	Fetched  bool
	Accessed uint32
	// Done is told once, from any goroutine and perhaps before Engine.Write
	// returns, and must not block.
	Done Done
	// Err, set before Done is told: nil when the record is durable by the
	// sync policy; else one of this package's errors. After ErrBroken the
	// write is in doubt; after any other it was not applied.
	Err error
	// Next is for whoever has the Write, to keep it in a list.
	Next *Write
}

// Done hears that a write has ended.
type Done interface{ WriteDone(*Write) }

// Access says how a read counts for a key's time of last access: the present
// in seconds since 1970, or NoAccess to leave it alone.
type Access uint32

// NoAccess leaves the time of last access and the fetched mark alone.
const NoAccess Access = 0

// Found is what Engine.Get and Engine.Head tell of a key.
type Found struct {
	Record Record // Value aliases the buffer that Get returned; Head gives none
	Size   int    // length of the value, in bytes
	// Unsynced: the record was applied but may still be lost. Nobody outside
	// may be told of it before a Barrier begun after this Get is done.
	Unsynced bool
	// Fetched and Accessed are as they were before this Get. The engine
	// remembers them as well as it can; they are not durable.
	Fetched  bool
	Accessed uint32
}

// Engine keeps the records of one node. All methods are safe for concurrent
// use, except that nothing may follow Close.
type Engine interface {
	// Get finds the record of a key, appends its value to dst and returns the
	// grown dst. A key without a record gives the zero Record and no error; a
	// tombstone is a record. Errors: ErrDamaged, ErrBroken.
	//
	// It sees every Write that has been applied, durable or not: see
	// Found.Unsynced.
	Get(b unkai.Bucket, hash uint64, key, dst []byte, a Access) (Found, []byte, error)

	// Head is Get without the value and without a trace. It never calls a
	// damaged record absent; but an engine that keeps long values apart does
	// not look at them, and may give a record whose value Get would find
	// damaged.
	Head(b unkai.Bucket, hash uint64, key []byte) (Found, error)

	// Write applies w if the key's record has the ballot w.Expect and the
	// promise w.Promised, and tells w.Done when it is durable. Who writes what
	// Head or Get gave cause for needs no lock in between. Its Key and Value
	// are copied before Write returns. Writes on one key become durable in the
	// order in which they were applied. It does not wait for the disk; when
	// too much waits already it fails with ErrBusy.
	Write(w *Write)

	// Barrier tells w.Done once everything applied before is durable. Only
	// w.Done and w.Err are used.
	Barrier(w *Write)

	// Scan passes every record of a bucket, tombstones too, to yield: each key
	// that had a record throughout exactly once, in an order of the engine's
	// own. The Key and Value passed are valid during the call only. A damaged
	// record is yielded with ErrDamaged and what it says of its key and hash,
	// which may be damaged too. It holds no lock while yield runs.
	Scan(b unkai.Bucket) iter.Seq2[Entry, error]

	// Snapshot is a Scan of the bucket as it is at the moment of the call,
	// whatever is written during the iteration. Close it.
	Snapshot(b unkai.Bucket) (Snapshot, error)

	// Drop forgets every record of a bucket and its floor, durably.
	Drop(b unkai.Bucket) error

	// Floor is the ballot below or at which the bucket has forgotten what it
	// accepted: a key without a record must be treated as promised to it.
	Floor(b unkai.Bucket) unkai.Ballot

	// RaiseFloor raises the floor of a bucket to at least a ballot, durably.
	RaiseFloor(b unkai.Bucket, at unkai.Ballot) error

	// Purge removes the record of a key if its ballot is still the given one,
	// and raises the bucket's floor to at least its promise, in one durable
	// step: a promise outlives the record that it was kept in. It reports
	// ErrConflict when the record has changed, or there is none.
	//
	// At 0 it removes a record that only promises, and also a damaged one. Of
	// that nothing is known, so the floor stays where it is, and the caller
	// answers for it as with Write.Heal. Damage that cannot be told to be the
	// key's stays, and with it ErrDamaged.
	Purge(b unkai.Bucket, hash uint64, key []byte, at unkai.Ballot) error

	// Checkpoint writes a consistent copy of the engine into a directory that
	// does not exist yet: for disk one that can be opened in its place, for
	// memory a file that its Restore reads.
	Checkpoint(dir string) error

	// Stats are the counters at this moment; cheap.
	Stats() Stats

	// Close makes durable what was applied and releases everything.
	Close() error
}

// Range are the hashes from First to Last.
type Range struct{ First, Last uint64 }

// Ranged is an Engine that finds the records of some hashes without a look at the others.
type Ranged interface {
	// ScanRanges is Scan of the records whose hashes are in one of the ranges. They are
	// in order, and do not overlap.
	ScanRanges(b unkai.Bucket, ranges []Range) iter.Seq2[Entry, error]
}

// ScanRanges scans any engine, as it does it best. Damaged records may be of other hashes.
func ScanRanges(e Engine, b unkai.Bucket, ranges []Range) iter.Seq2[Entry, error] {
	if r, ok := e.(Ranged); ok {
		return r.ScanRanges(b, ranges)
	}
	return func(yield func(Entry, error) bool) {
		for entry, err := range e.Scan(b) {
			at, found := slices.BinarySearchFunc(ranges, entry.Hash, func(r Range, hash uint64) int { return cmp.Compare(r.First, hash) })
			in := found || at > 0 && entry.Hash <= ranges[at-1].Last
			if (err != nil || in) && !yield(entry, err) {
				return
			}
		}
	}
}

// Entry is a key with its record, in a scan or in Bulk.WriteNew.
type Entry struct {
	Hash   uint64
	Key    []byte
	Record Record
}

// Snapshot is a view of one bucket at one moment.
type Snapshot interface {
	// All yields as Engine.Scan does. It can be used once.
	All() iter.Seq2[Entry, error]
	Close() error
}

// Stats counts what an engine holds and did. Counts of records are exact, also
// after a crash; each record is one of Items, Tombstones and Promises. One that
// is damaged may or may not be counted, until it is healed, purged or dropped.
type Stats struct {
	Items      int64 // expired ones included
	Tombstones int64
	Promises   int64 // records in which nothing was accepted yet
	Bytes      int64 // of keys and values of Items
	Used       int64 // bytes taken from the memory or the disk
	Limit      int64 // bytes it may take; 0: no limit of its own
	Full       bool  // growth is being refused
	Damaged    int64 // records found damaged since the start
	Syncs      int64 // times the disk was asked to make something durable
	Writes     int64 // writes applied
	CacheHits  int64 // reads answered without the disk, where there is one
	CacheMiss  int64
	CacheBytes int64
}

// Add counts o to s. Full is true if either is.
func (s *Stats) Add(o Stats) {
	s.Items += o.Items
	s.Tombstones += o.Tombstones
	s.Promises += o.Promises
	s.Bytes += o.Bytes
	s.Used += o.Used
	s.Limit += o.Limit
	s.Full = s.Full || o.Full
	s.Damaged += o.Damaged
	s.Syncs += o.Syncs
	s.Writes += o.Writes
	s.CacheHits += o.CacheHits
	s.CacheMiss += o.CacheMiss
	s.CacheBytes += o.CacheBytes
}
