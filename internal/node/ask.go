package node

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"unkai"
	"unkai/internal/peer"
)

// answerLimit is how long a question between nodes may take when its asker has
// set no limit.
const answerLimit = 5 * time.Second

// wait is a peer.Done for who waits.
type wait chan struct{}

// CallDone implements peer.Done.
func (w wait) CallDone(*peer.Call) { close(w) }

// ask asks another node and waits for the answer.
func (n *Node) ask(ctx context.Context, to unkai.NodeID, kind peer.Kind, body []byte) ([]byte, error) {
	timeout := answerLimit
	if until, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(until))
	}
	if timeout <= 0 {
		return nil, context.DeadlineExceeded
	}
	done := make(wait)
	c := &peer.Call{Kind: kind, Body: body, Timeout: timeout, Done: done}
	n.network.Call(to, c)
	select {
	case <-done:
		if c.Err != nil {
			return nil, fmt.Errorf("node %v: %w", to, c.Err)
		}
		return c.Reply, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("node %v: %w", to, ctx.Err())
	}
}

// askControl asks another node for a control's answer.
func (n *Node) askControl(ctx context.Context, to unkai.NodeID, q control) (control, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return control{}, fmt.Errorf("ask node %v: %w", to, err)
	}
	began := time.Now()
	reply, err := n.ask(ctx, to, peer.Control, body)
	if err != nil {
		return control{}, err
	}
	if q.Hello != nil {
		n.sight.met(to, time.Since(began))
	}
	var a control
	if err := json.Unmarshal(reply, &a); err != nil {
		return control{}, fmt.Errorf("node %v: %w", to, err)
	}
	return a, nil
}

// managers lets the manager ask other nodes.
type managers struct{ n *Node }

// Ask implements manager.Network.
func (m managers) Ask(ctx context.Context, to unkai.NodeID, question []byte) ([]byte, error) {
	return m.n.ask(ctx, to, peer.Topology, question)
}

// served runs a handler that may wait in a goroutine of its own, at most so many
// at once.
type served struct {
	answer func(from unkai.NodeID, question []byte) ([]byte, error)
	slots  chan struct{}
}

const servedAtOnce = 64

func newServed(answer func(from unkai.NodeID, question []byte) ([]byte, error)) *served {
	return &served{answer: answer, slots: make(chan struct{}, servedAtOnce)}
}

// close waits for those that run, and lets none begin.
func (s *served) close() {
	for range servedAtOnce {
		s.slots <- struct{}{}
	}
}

// Serve implements peer.Handler.
func (s *served) Serve(q *peer.Request) {
	select {
	case s.slots <- struct{}{}:
	default:
		q.Refuse("too many questions at once; ask again")
		return
	}
	go func() {
		defer func() { <-s.slots }()
		reply, err := s.answer(q.From, q.Body)
		if err != nil {
			q.Refuse(err.Error())
			return
		}
		q.Answer(reply)
	}()
}
