package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"unkai"
	"unkai/internal/core/topology"
	"unkai/internal/node/manager"
)

// recallLimit is how long a node that starts waits for what others remember of
// it. Who cannot reach them has to go on without: all may be starting.
const (
	recallLimit = time.Second
	recallPause = 50 * time.Millisecond
)

// recall asks the others what they remember of this node, and notes whether its
// directory is an older copy. A node that nobody has seen yet does not ask.
func (n *Node) recall(ctx context.Context) error {
	if _, err := os.Stat(string(n.dir.file(topologyFile))); err == nil {
		n.setState("asking other nodes what they remember of this one")
		var known, seeds []find
		for _, id := range n.others() {
			known = append(known, func(context.Context) (unkai.NodeID, error) { return id, nil })
		}
		for _, addr := range n.cfg.Join {
			seeds = append(seeds, func(ctx context.Context) (unkai.NodeID, error) { return n.network.Introduce(ctx, addr) })
		}
		if !n.recallFrom(ctx, known) { // all addresses may have changed
			n.recallFrom(ctx, seeds)
		}
		if n.restored = n.book.older(); n.restored {
			n.log.Warn("the data directory is an older copy: this node begins anew, with what the other nodes hold", "data", n.cfg.Data)
			return nil // it tells where it is when it has
		}
	}
	return n.book.tellOwn(n.peerAddress(), n.since)
}

// find finds out whom to ask.
type find func(context.Context) (unkai.NodeID, error)

// recallFrom asks some nodes and reports whether any has answered.
func (n *Node) recallFrom(ctx context.Context, nodes []find) bool {
	ctx, cancel := context.WithTimeout(ctx, recallLimit)
	defer cancel()
	var all sync.WaitGroup
	var answered atomic.Bool
	slots := make(chan struct{}, servedAtOnce)
	for _, who := range nodes {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			for !n.recallBy(ctx, who) {
				if !sleep(ctx, recallPause) {
					return
				}
			}
			answered.Store(true)
		})
	}
	all.Wait()
	return answered.Load()
}

func (n *Node) recallBy(ctx context.Context, who find) bool {
	id, err := who(ctx)
	if err != nil || id == n.id {
		return false
	}
	a, err := n.askControl(ctx, id, control{Hello: n.hello()})
	if err != nil || a.Hello == nil {
		return false // it is not there, or not yet
	}
	if err := n.book.learn(a.Hello.Book); err != nil {
		n.log.Warn("what another node knows could not be kept", "node", id.String(), "err", err)
	}
	return true
}

// others are the other nodes whose addresses are known, in the order of their ids.
func (n *Node) others() []unkai.NodeID {
	ids := slices.Sorted(maps.Keys(n.book.nodes()))
	return slices.DeleteFunc(ids, func(id unkai.NodeID) bool { return id == n.id })
}

// readmit has a node whose directory is an older copy begin a new incarnation.
// Others decide it: this node's own manager has forgotten what it promised, and
// answers nobody until it knows of that decision.
func (n *Node) readmit(ctx context.Context, m *manager.Manager) error {
	n.setState("waiting for the managers to begin a new incarnation of this node")
	for {
		var errs []error
		for _, id := range n.others() {
			err := n.readmitBy(ctx, m, id)
			if err == nil || errors.Is(err, topology.ErrRemoved) {
				return err
			}
			errs = append(errs, err)
		}
		if slices.Equal(m.Topology().Managers, []unkai.NodeID{n.id}) {
			// Nobody else can decide it. What this node decided and told is known by now.
			n.managerRef.Store(m)
			return n.reborn(ctx)
		}
		n.log.Warn("no node could have this one begin a new incarnation yet; it keeps trying", "err", errors.Join(errs...))
		if !sleep(ctx, joinRetry) {
			return ctx.Err()
		}
	}
}

func (n *Node) readmitBy(ctx context.Context, m *manager.Manager, id unkai.NodeID) error {
	ctx, cancel := context.WithTimeout(ctx, changeLimit)
	defer cancel()
	if err := m.Catch(ctx, id); err != nil {
		return err
	}
	a, err := n.askControl(ctx, id, control{Join: &join{Node: n.self(), Reborn: true}})
	switch {
	case err != nil:
		return err
	case a.Join == nil:
		return fmt.Errorf("node %v gave no answer", id)
	case a.Join.Never != "":
		return fmt.Errorf("node %v: %w", n.id, topology.ErrRemoved)
	case a.Join.Topology == nil:
		return fmt.Errorf("node %v gave no topology", id)
	}
	for m.Topology().Epoch < a.Join.Topology.Epoch {
		if err := m.Catch(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// reborn has a node that lost what it held begin a new incarnation, which holds
// nothing, before it answers for anything.
func (n *Node) reborn(ctx context.Context) error {
	if len(n.topology().Nodes) == 1 {
		return nil // nobody else relies on what it promised
	}
	n.setState("waiting for the managers to begin a new incarnation of this node")
	for {
		limited, cancel := context.WithTimeout(ctx, changeLimit)
		_, err := n.manager.Change(limited, func(t *topology.Topology) (topology.Topology, error) { return t.Reborn(n.id) })
		cancel()
		if err == nil || errors.Is(err, topology.ErrRemoved) {
			return err
		}
		n.log.Warn("the managers could not yet be told that this node has lost what it held; it keeps trying", "err", err)
		if !sleep(ctx, joinRetry) {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// disown drops what an engine holds that is of an earlier time.
func (n *Node) disown() error {
	for b := range n.manager.Topology().Buckets {
		bucket := unkai.Bucket(b)
		some := n.engine.Floor(bucket) > 0
		for range n.engine.Scan(bucket) { //nolint:errcheck // a damaged record is one too
			some = true
			break
		}
		if !some {
			continue
		}
		if err := n.engine.Drop(bucket); err != nil {
			return fmt.Errorf("drop what this node held in an earlier time: %w", err)
		}
	}
	return nil
}

// openings is the file that remembers how often the store was opened, so that a
// store that was lost, or put back from an older copy, is not taken for the one
// that made this node's promises.
type openings struct{ file atomicFile }

// count reads it; 0 for a new node.
func (o openings) count() (uint64, error) {
	if _, err := os.Stat(string(o.file)); errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	text, err := o.file.Load()
	if err != nil {
		return 0, fmt.Errorf("read how often the store was opened: %w", err)
	}
	count, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read how often the store was opened: %s: %w", string(o.file), err)
	}
	return count, nil
}

// note writes it down.
func (o openings) note(count uint64) error {
	if err := o.file.Save([]byte(strconv.FormatUint(count, 10) + "\n")); err != nil {
		return fmt.Errorf("note that the store was opened: %w", err)
	}
	return nil
}
