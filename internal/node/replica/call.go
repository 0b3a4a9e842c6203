package replica

import (
	"fmt"
	"sync/atomic"

	"unkai"
	"unkai/internal/store"
)

// Status is how a replica answered a call.
type Status uint8

// The answers.
const (
	Pending Status = iota
	// OK: the record was read, or the value was accepted and is durable.
	OK
	// Refused: Call.Seen has been promised or accepted, which is higher.
	Refused
	// Fenced: for the replica the bucket is in another epoch, which is Call.Epoch
	// now, or not its to hold; ask again under the topology that says so.
	Fenced
	// Failed: certainly not done; Call.Err says why.
	Failed
	// Unknown: it may have been done; Call.Err says why.
	Unknown
)

// Call is one question to one replica and its answer. Its owner fills in the
// question and leaves it alone until it is answered; then it may be used again.
type Call struct {
	Epoch  unkai.Epoch
	Bucket unkai.Bucket
	Hash   uint64
	Key    []byte

	// Of a Read or a Prepare: where to append the value; of a Read also how it
	// counts as an access, and whether the value is not wanted at all.
	Buf     []byte
	Access  store.Access
	NoValue bool

	// Of a Prepare: the ballot to be promised. Of an Accept: the ballot, the
	// promise that goes with it (0: none), the item (the zero Item is a
	// tombstone), and the marks of having been read that it begins with; see
	// store.Write.
	Ballot   unkai.Ballot
	Next     unkai.Ballot
	Item     unkai.Item
	Fetched  bool
	Accessed uint32

	// Of an Adopt: the epoch under which the record was accepted.
	Under unkai.Epoch

	// Answered hears of an answer that was not there when the method returned.
	Answered Answered
	// Tag is the caller's own.
	Tag int

	// The answer.
	Status Status
	Found  store.Found  // of a Read; of a Prepare what was accepted before it
	Seen   unkai.Ballot // the highest ballot promised or accepted
	Forgot unkai.Ballot // of a Prepare: the bucket's floor
	Err    error
	// Adopted: an Adopt that was OK has changed something.
	Adopted bool

	replica *Local
	write   store.Write
	stage   atomic.Uint32
}

// Forget lets go of what the call was about, so that one that is kept for later
// keeps no key or value of others; Buf stays.
func (c *Call) Forget() {
	c.Key, c.Item, c.Found, c.Err, c.write = nil, unkai.Item{}, store.Found{}, nil, store.Write{}
}

// Answered is told, from any goroutine, that a call has its answer. It must not
// block.
type Answered interface{ CallAnswered(*Call) }

// applied reports whether the engine, which has just returned, has applied the
// call's write. If it has not, it has said so by now; a store that breaks later
// takes nothing more and is read no more.
func (c *Call) applied() bool { return c.stage.Load() != stageDone || c.write.Err == nil }

// A call's stages settle who speaks first: the method that returns, or the
// engine that has finished.
const (
	stageStarted = iota
	stageWaited  // the method has returned; the answer goes to Answered
	stageDone
)

// told reports whether the answer is there already; otherwise Answered will hear
// of it.
func (c *Call) told() bool {
	return c.stage.Load() == stageDone || !c.stage.CompareAndSwap(stageStarted, stageWaited)
}

func (c *Call) fail(s Status, err error) bool {
	c.Status, c.Err = s, err
	return true
}

func (c *Call) finish() {
	if !c.stage.CompareAndSwap(stageStarted, stageDone) {
		c.Answered.CallAnswered(c)
	}
}

// settle turns how a write ended into the call's answer.
func (c *Call) settle(doing string) {
	switch {
	case c.write.Err == nil:
		c.Status = OK
	case isInDoubt(c.write.Err):
		c.Status, c.Err = Unknown, fmt.Errorf("%s: %w", doing, c.write.Err)
	default:
		c.Status, c.Err = Failed, fmt.Errorf("%s: %w", doing, c.write.Err)
	}
}

// barrier is a Read that waits until what it saw is durable.
type barrier Call

// WriteDone implements store.Done.
func (b *barrier) WriteDone(*store.Write) {
	c := (*Call)(b)
	c.settle("read")
	if c.Status == Unknown {
		c.Status = Failed // a read leaves nothing in doubt
	}
	c.finish()
}

// acceptance is a Prepare or an Accept on its way to the disk.
type acceptance Call

// WriteDone implements store.Done.
func (a *acceptance) WriteDone(w *store.Write) {
	c := (*Call)(a)
	c.settle("write")
	if c.Status == OK {
		c.replica.expect(w.Bucket, &w.Record)
	}
	c.finish()
}
