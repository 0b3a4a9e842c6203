// Package peer is the one port between nodes: questions and their answers, many
// at a time, over connections that are kept and judged in the background. Rooms
// see only Network; Port is the real one.
package peer

import (
	"context"
	"errors"
	"time"

	"unkai"
)

// Kind says which room a message is for.
type Kind uint8

// The kinds. Copy and Repair travel on a connection of their own, so that bulk does
// not sit ahead of quorum messages; so does every question longer than LargeBody.
const (
	Replica    Kind = 1 // coordinator to replica
	Operations Kind = 2 // gateway to coordinator
	Topology   Kind = 3 // between managers, and who asks them
	Copy       Kind = 4 // contents of buckets
	Control    Kind = 5 // who is there and how, and an operator's wishes
	Repair     Kind = 6 // comparing replicas, and what one of them lacks
)

// Limits of a message.
const (
	// MaxBody is the length of the longest question or answer: a value of the
	// greatest size, and what is said about it.
	MaxBody = unkai.MaxValueLen + 1<<20
	// LargeBody is what a question may have before it takes the other connection.
	LargeBody = 256 << 10
)

// Why a call has no answer. With ErrDown, ErrBusy and ErrTooLarge nothing was
// sent; Sent tells them, and refusals, apart.
var (
	ErrDown     = errors.New("no connection to that node")
	ErrBusy     = errors.New("too much is waiting for that node")
	ErrTooLarge = errors.New("message too large")
	ErrTimeout  = errors.New("that node did not answer in time")
	ErrLost     = errors.New("the connection to that node broke")
)

// RemoteError is the refusal of the other node: it has not done what was asked.
type RemoteError struct{ Text string }

// Error is what the other node said.
func (e *RemoteError) Error() string { return "refused by that node: " + e.Text }

// Sent reports whether a call that ended with err may have been acted on by the
// other node. Only if not is it certain that it did nothing there.
func Sent(err error) bool {
	var refused *RemoteError
	return !errors.As(err, &refused) && !errors.Is(err, ErrDown) && !errors.Is(err, ErrBusy) && !errors.Is(err, ErrTooLarge)
}

// Call is one question to another node and its answer. Its owner fills in the
// question and then leaves the whole Call alone until Done was told; then it may
// be used again.
type Call struct {
	Kind    Kind
	Body    []byte        // the question; copied before Network.Call returns
	Timeout time.Duration // above 0; kept to some 10 ms
	Done    Done

	Reply []byte // the answer; the Call's own memory, used again with the Call
	Err   error  // nil, an error of this package, or a *RemoteError

	deadline int64  // on the Port's clock
	batch    uint64 // of bytes to be written that it went into
	next     *Call  // in a list of calls that are to be told
}

// Done learns that a Call is over. It is told exactly once, from any goroutine,
// perhaps before Network.Call returns. It must not block: the answers of others
// wait behind it. It may make new calls.
type Done interface{ CallDone(*Call) }

// Handler answers the questions of a kind. Serve must not block for long, for
// what the same node asks next waits behind it: it may keep the Request and
// answer later, from any goroutine. Every Request must be answered once; those
// that are not count against what their connection may have open.
type Handler interface{ Serve(*Request) }

// Network is what a node has of the other nodes. *Port is the real one; a
// simulation has its own.
type Network interface {
	// Handle gives the questions of a kind to h. It is used before Start.
	Handle(Kind, Handler)
	// Call asks another node. It never waits; Done is told how it ended.
	Call(to unkai.NodeID, c *Call)
	// Alive judges a node by the connection to it, in well under a second.
	Alive(unkai.NodeID) bool
	// Run is which run of a node's process this node is connected to, a number that no two
	// of a node share; 0: to none. Of this node itself it is the present one. What one run has
	// said of itself need not be true of the next.
	Run(unkai.NodeID) uint64
	// Know says where a node is believed to be, and that its connection is
	// wanted from now on. With an empty address it no longer is.
	Know(id unkai.NodeID, addr string)
	// Introduce asks who is at an address, and remembers it as Know does.
	Introduce(ctx context.Context, addr string) (unkai.NodeID, error)
}
