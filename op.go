package unkai

// Kind is what an Op does to its key.
type Kind uint8

// The kinds. Get, Touch and Delete carry no value.
const (
	Get       Kind = iota // answer the item; with Retouch, Recache or Vivify also change it
	Touch                 // change the expiry
	Set                   // store whatever was there
	Add                   // store if the key is absent
	Replace               // store if the key is present
	Append                // add Value behind the present one
	Prepend               // add Value before the present one
	Increment             // add Delta to a decimal number
	Decrement             // subtract Delta from it, never below 0
	Delete                // remove, or with Invalidate mark stale
	Kinds                 // how many kinds there are
)

// String is the name of the kind as metrics and logs use it.
func (k Kind) String() string {
	return [...]string{"get", "touch", "set", "add", "replace", "append", "prepend", "incr", "decr", "delete"}[k]
}

// Op is one operation on one key. The classic commands and the meta commands
// are both written as Ops, so that they mix safely. Times are absolute
// milliseconds since 1970, and 0 is never.
//
// Key and Value belong to the caller again when the operation is done.
type Op struct {
	Kind  Kind
	Key   []byte
	Value []byte
	Flags uint32

	// Expiry of what is stored; of a Get or a Delete only with Retouch.
	Expiry int64

	// Compare makes a change conditional on the cas unique being CAS.
	Compare bool
	CAS     uint64

	// NewCAS, if not 0, is the cas unique of the result (meta flag E).
	NewCAS uint64

	// Delta of Increment and Decrement.
	Delta uint64

	// Vivify creates the item when it is absent: a Get an empty one, an
	// Append or Prepend its Value, arithmetic Initial; always with VivifyExpiry.
	Vivify       bool
	VivifyExpiry int64
	Initial      uint64

	// Retouch sets Expiry on a Get (gat, mg T), arithmetic (ma T) or an
	// invalidating Delete (md I T).
	Retouch bool

	// Recache, if not 0, makes a Get win the right to renew an item that
	// expires before that moment (mg R); with RecacheLast by the expiry that
	// Retouch sets.
	Recache     int64
	RecacheLast bool

	// Invalidate makes a Delete mark the item stale instead of removing it
	// (md I), and a compared Set with an older cas unique store its value as
	// stale (ms I).
	Invalidate bool

	// DropValue makes a Delete keep the item but empty it (md x).
	DropValue bool

	// Meta says that a Get came by the meta protocol: only there a stale item
	// hands out the right to renew it.
	Meta bool

	// NoValue says that the caller does not want the value of a Get.
	NoValue bool

	// NoBump leaves the time of last access alone (mg without u is a bump).
	NoBump bool
}

// Status is how an operation ended.
type Status uint8

// The outcomes. Failed and InDoubt come with Result.Err.
const (
	Unanswered Status = iota // not done yet
	OK                       // hit, stored, touched, deleted, counted
	Miss                     // no such item
	Exists                   // the cas unique was another
	NotStored                // a condition of add, replace, append or prepend failed
	NotNumber                // arithmetic on something that is not a number
	TooLarge                 // the result would exceed the limit for values
	Failed                   // certainly not applied: Err says why
	InDoubt                  // may or may not have been applied: Err says why
)

// Result is the answer to an Op.
type Result struct {
	Status Status
	// Item after the operation: of a Get what it found, of a change what
	// stands now. Its Value is set for a Get only, and only until the batch is
	// used again.
	Item Item
	// Size of the item's value in bytes, also where the value is not given.
	Size int
	// ExpiryBefore is the expiry the item had before the operation, also where
	// that had passed and the operation saw no item.
	ExpiryBefore int64
	// Number after arithmetic.
	Number uint64
	// Created says that Vivify made the item.
	Created bool
	// Won says that this client shall renew the item; WonBefore that another
	// one was told so earlier.
	Won, WonBefore bool
	// Fetched says the item was read before; Accessed is when, in seconds
	// since 1970. Both are one node's memory, not part of the item.
	Fetched  bool
	Accessed uint32
	// Err of a Failed or InDoubt operation.
	Err error
}

// Batch is what a connection has read so far, to be answered in order. Ops on
// one key take effect in their order; Ops on different keys are independent.
//
// The zero value is ready; reuse it with Reset. It is used by one goroutine at
// a time.
type Batch struct {
	Ops     []Op
	Results []Result
	// Room is how many bytes of values the results may take together before
	// the batch stops early; 0: no limit. One value always has room.
	Room int
	// Values holds the values of Results.
	Values []byte
}

// Add returns a new, zero Op at the end of the batch, to be filled in before
// the next call.
func (b *Batch) Add() *Op {
	if len(b.Ops) < cap(b.Ops) {
		b.Ops = b.Ops[:len(b.Ops)+1]
		b.Ops[len(b.Ops)-1] = Op{}
	} else {
		b.Ops = append(b.Ops, Op{})
	}
	return &b.Ops[len(b.Ops)-1]
}

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	b.Ops = b.Ops[:0]
	b.Results = b.Results[:0]
	b.Values = b.Values[:0]
}
