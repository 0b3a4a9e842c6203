package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"unkai/internal/core/topology"
	"unkai/internal/node/directory"
)

// joinRetry is how long a node waits before it asks again to be let in.
const joinRetry = 500 * time.Millisecond

// self is this node as it wants to be in the topology.
func (n *Node) self() topology.Node {
	return topology.Node{ID: n.id, Weight: n.cfg.Weight, Zone: n.cfg.Zone, Manual: n.cfg.Attach == Manual}
}

// join asks the nodes that were named to let this one in, again or as a new one,
// until one has.
func (n *Node) join(ctx context.Context, again bool) (*topology.Topology, error) {
	n.setState("joining")
	for try := 0; ; try++ {
		var errs []error
		for _, addr := range n.cfg.Join {
			top, err := n.joinAt(ctx, addr, again)
			if err == nil {
				return top, nil
			}
			errs = append(errs, fmt.Errorf("%s: %w", addr, err))
			if errors.Is(err, topology.ErrRemoved) {
				return nil, fmt.Errorf("join: %w", errors.Join(errs...))
			}
		}
		err := fmt.Errorf("join: %w", errors.Join(errs...))
		if try%20 == 0 {
			n.log.Warn("no node has let this one in yet; it keeps trying", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		case <-time.After(joinRetry):
		}
	}
}

func (n *Node) joinAt(ctx context.Context, addr string, again bool) (*topology.Topology, error) {
	ctx, cancel := context.WithTimeout(ctx, changeLimit)
	defer cancel()
	id, err := n.network.Introduce(ctx, addr)
	if err != nil {
		return nil, err
	}
	if id == n.id {
		return nil, errors.New("this is the node itself")
	}
	if a, err := n.askControl(ctx, id, control{Hello: n.hello()}); err != nil {
		return nil, err
	} else if a.Hello != nil {
		err := n.book.Learn(a.Hello.Book)
		if again && errors.Is(err, directory.ErrOlder) { // its clock was ahead; it begins anew in any case
			err = n.book.TellOwn(n.peerAddress(), n.cfg.Now())
		}
		if err != nil {
			return nil, err
		}
	}
	a, err := n.askControl(ctx, id, control{Join: &join{Node: n.self(), Reborn: again}})
	if err != nil {
		return nil, err
	}
	switch {
	case a.Join == nil:
		return nil, errors.New("it gave no answer")
	case a.Join.Never != "":
		return nil, fmt.Errorf("node %v: %w", n.id, topology.ErrRemoved)
	case a.Join.Topology == nil:
		return nil, errors.New("it gave no topology")
	}
	top := a.Join.Topology
	if err := top.Seal(); err != nil {
		return nil, err
	}
	if _, ok := top.Node(n.id); !ok {
		return nil, errors.New("it gave a topology without this node")
	}
	return top, nil
}
