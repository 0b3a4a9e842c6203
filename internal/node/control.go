package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"unkai"
	"unkai/internal/admin"
	"unkai/internal/core/topology"
	"unkai/internal/node/antientropy"
	"unkai/internal/node/directory"
	"unkai/internal/node/steward"
)

// control is a question between nodes that is not about data, or its answer:
// one field is set.
type control struct {
	Hello   *hello           `json:"hello,omitempty"`
	Join    *join            `json:"join,omitempty"`
	Settled *steward.Settled `json:"settled,omitempty"`
	Load    *load            `json:"load,omitempty"`
	Repair  *repair          `json:"repair,omitempty"`
	Pace    *paced           `json:"pace,omitempty"`
}

// hello tells what a node knows of where the others are and which topology is
// the newest. The answer is the other's.
type hello struct {
	Epoch unkai.Epoch                  `json:"epoch"`
	Book  map[string]directory.Address `json:"book"`
	Full  bool                         `json:"full,omitempty"` // its store refuses growth
	// Run is of its process, and Serves whether that serves already, and still; nil: it is
	// of an earlier build, which does not say.
	Run    uint64 `json:"run,omitempty"`
	Serves *bool  `json:"serves,omitempty"`
	// Prospects are what it will do by itself, if it is the steward.
	Prospects []admin.Prospect `json:"prospects,omitempty"`
	// Clients are connected to it.
	Clients int64 `json:"clients,omitempty"`
}

// join asks to be recognised as a member, or as a new incarnation of one. The
// answer holds the topology in which the node is, or why it never will be.
type join struct {
	Node     topology.Node      `json:"node"`
	Reborn   bool               `json:"reborn,omitempty"`
	Topology *topology.Topology `json:"topology,omitempty"`
	Never    string             `json:"never,omitempty"`
}

// settled is what this node has settled at an epoch, and forgotten.
func (n *Node) settled(e unkai.Epoch, m *antientropy.Mover) *steward.Settled {
	s := &steward.Settled{Epoch: e, Forgot: m.Forgot(), Clients: n.crowded()}
	s.Buckets, s.Bytes = m.Settled()
	return s
}

// changeLimit is how long a node tries to have a change of the topology decided.
const changeLimit = 10 * time.Second

// errNothing: the topology is as it should be.
var errNothing = errors.New("nothing to change")

// serveControl answers another node.
func (n *Node) serveControl(from unkai.NodeID, question []byte) ([]byte, error) {
	var q, a control
	if err := json.Unmarshal(question, &q); err != nil {
		return nil, fmt.Errorf("not understood: %w", err)
	}
	switch {
	case q.Hello != nil:
		if err := n.greeted(from, q.Hello); errors.Is(err, directory.ErrOlder) {
			n.outlived(err)
		} else if err != nil {
			return nil, err
		}
		a.Hello = n.hello()
	case q.Join != nil:
		if q.Join.Node.ID != from {
			return nil, fmt.Errorf("node %v asks in the name of another", from)
		}
		top, err := n.admit(q.Join)
		a.Join = &join{Node: q.Join.Node, Topology: top}
		switch {
		case errors.Is(err, topology.ErrRemoved):
			a.Join.Never = err.Error()
		case err != nil:
			return nil, err
		}
	case q.Settled != nil:
		top, mover := n.topology(), n.openedMover()
		if top == nil || mover == nil || top.Epoch < q.Settled.Epoch {
			return nil, fmt.Errorf("this node has not come to epoch %d yet", q.Settled.Epoch)
		}
		a.Settled = n.settled(top.Epoch, mover)
	case q.Load != nil:
		a.Load = n.load()
	case q.Repair != nil:
		r, err := n.serveRepair(q.Repair)
		if err != nil {
			return nil, err
		}
		a.Repair = r
	case q.Pace != nil:
		a.Pace = n.paced()
	default:
		return nil, fmt.Errorf("not understood")
	}
	return json.Marshal(a)
}

// admit has a node recognised.
func (n *Node) admit(j *join) (*topology.Topology, error) {
	node := j.Node
	if node.ID == 0 || node.Weight < 1 || node.Weight > maxWeight {
		return nil, fmt.Errorf("a node that joins needs an id, and a weight from 1 to %d", maxWeight)
	}
	if err := topology.CheckZone(node.Zone); err != nil {
		return nil, fmt.Errorf("a node that joins: %w", err)
	}
	if top := n.topology(); top == nil {
		return nil, fmt.Errorf("this node is not a member itself yet")
	}
	// Not for longer than the node that asks waits for an answer.
	ctx, cancel := context.WithTimeout(context.Background(), answerLimit)
	defer cancel()
	top, err := n.alter(ctx, func(t *topology.Topology) (topology.Topology, error) {
		if _, ok := t.Node(node.ID); ok && j.Reborn {
			return t.Reborn(node.ID)
		}
		if m, ok := t.Node(node.ID); ok && m.Weight == node.Weight && m.Zone == node.Zone {
			return topology.Topology{}, errNothing // its first answer was lost
		}
		return t.Join(node)
	})
	if errors.Is(err, errNothing) {
		return n.topology(), nil
	}
	return top, err
}

func (n *Node) hello() *hello {
	serves := n.ready()
	h := &hello{Book: n.book.All(), Full: n.isFull(n.id), Run: n.network.Run(n.id), Serves: &serves, Clients: n.guestsOf(n.id)}
	if top := n.topology(); top != nil {
		maps.DeleteFunc(h.Book, func(id string, _ directory.Address) bool { return strange(top, n.id, id) })
		h.Epoch, h.Prospects = top.Epoch, n.prospects.of(n.id)
	}
	return h
}

// strange reports whether an address is of a node that is no member, or not any more:
// nobody need dial it.
func strange(top *topology.Topology, self unkai.NodeID, name string) bool {
	id, err := unkai.ParseNodeID(name)
	if err != nil || id == self {
		return err != nil
	}
	_, member := top.Node(id)
	return !member
}

// isFull reports whether a node's store refuses growth, as far as it has told.
func (n *Node) isFull(id unkai.NodeID) bool {
	_, full := n.full.Load(id)
	return full
}

func (n *Node) noteFull(id unkai.NodeID, full bool) {
	if full {
		n.full.Store(id, struct{}{})
	} else {
		n.full.Delete(id)
	}
}

// greeted learns from another node's hello.
func (n *Node) greeted(from unkai.NodeID, h *hello) error {
	n.noteFull(from, h.Full)
	n.sight.said(from, h.word(n.network.Run(from)))
	n.foretell(from, h.Prospects)
	n.noteGuests(from, h.Clients)
	if top := n.topology(); top != nil && h.Epoch > top.Epoch {
		n.behind(from)
	}
	return n.book.Learn(h.Book)
}
