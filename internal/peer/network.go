// Package peer is what a node has of the other nodes: questions and answers over
// one port, many at once on one connection, each with a deadline.
package peer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"unkai"
)

// Kind says which room a question is for.
type Kind uint8

// The kinds.
const (
	Replica    Kind = 1 + iota // a record of one key
	Operations                 // a batch for the coordinator of its keys
	Topology                   // between managers, and for those who follow them
	Control                    // an operator's wish, for the whole cluster
	kinds
)

// Errors of a Call, wrapped with what is known.
var (
	// ErrDown: there is no connection to that node. Nothing was sent.
	ErrDown = errors.New("the node cannot be reached")
	// ErrBusy: too much waits for that node already. Nothing was sent.
	ErrBusy = errors.New("too much waits for that node")
	// ErrTimeout: no answer in time. The question may have arrived.
	ErrTimeout = errors.New("the node did not answer in time")
	// ErrLost: the connection broke. The question may have arrived.
	ErrLost = errors.New("the connection to the node broke")
	// ErrClosed: this end is closing. The question may have arrived.
	ErrClosed = errors.New("this node is closing")
)

// Refusal is the answer of a node that could not make anything of a question,
// or would not: nothing was done.
type Refusal string

// Error is what the other node said.
func (r Refusal) Error() string { return fmt.Sprintf("the other node: %s", string(r)) }

// Sent reports whether a question that ended with err may have arrived.
func Sent(err error) bool {
	var r Refusal
	return err != nil && !errors.Is(err, ErrDown) && !errors.Is(err, ErrBusy) && !errors.As(err, &r)
}

// Call is one question to another node and its answer. Its owner fills in the
// question and leaves it alone until Done was told; then it may be used again.
type Call struct {
	Kind    Kind
	Body    []byte        // the question; copied before Network.Call returns
	Timeout time.Duration // from now until it ends with ErrTimeout; must be set
	Done    Done
	// Reply is the answer, in memory that belongs to the call.
	Reply []byte
	// Err is nil, a Refusal, or one of this package's errors.
	Err error

	id       uint64
	deadline time.Time
}

// Done hears that a call has ended: once, from any goroutine, and perhaps before
// Network.Call returns. It must not block.
type Done interface{ CallDone(*Call) }

// Request is a question that has arrived. Its Body is valid until it is answered.
type Request struct {
	From unkai.NodeID
	Kind Kind
	Body []byte
	// ID and Back belong to the network that brought it.
	ID   uint64
	Back Responder
}

// Responder takes the one answer to a request; it copies the reply.
type Responder interface {
	Respond(q *Request, reply []byte, refusal string)
}

// Answer answers the question, from any goroutine. The reply is copied.
func (q *Request) Answer(reply []byte) { q.Back.Respond(q, reply, "") }

// Refuse answers that nothing was done, and why.
func (q *Request) Refuse(why string) { q.Back.Respond(q, nil, why) }

// Handler answers the questions of a kind.
type Handler interface {
	// Serve must not wait for long: it may keep the request and answer it later,
	// from any goroutine. Every request is answered once.
	Serve(*Request)
}

// Network is what a node has of the other nodes; a Port, or a simulation's.
type Network interface {
	// Handle says who answers the questions of a kind, before any arrives.
	Handle(Kind, Handler)
	// Call asks a node.
	Call(to unkai.NodeID, c *Call)
	// Alive reports whether a node answers, judged by the connection to it.
	Alive(unkai.NodeID) bool
	// Know says where a node is believed to be. Addresses are hints: whoever
	// answers there is used only if it is that node.
	Know(id unkai.NodeID, addr string)
	// Introduce asks who is at an address, and remembers it.
	Introduce(ctx context.Context, addr string) (unkai.NodeID, error)
}
