package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"unkai"
	"unkai/internal/core/topology"
	"unkai/internal/node/directory"
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
	if _, err := os.Stat(string(n.dir.Topology())); err == nil {
		n.setState("asking other nodes what they remember of this one")
		others := len(n.others()) + len(n.cfg.Join)
		asked := others == 0 || n.askAround(ctx)
		if !asked && n.cfg.Restored {
			n.log.Warn("no other node could be asked what it remembers of this one, and it goes on, as it was told to: if its data directory is an older copy, what was acknowledged since may be lost", "data", n.cfg.Data)
		} else if !asked {
			n.log.Warn("no other node could be asked what it remembers of this one: it takes part when one has answered; if none is left, start it with --restored, once", "known", others)
			n.network.waits.Store(true)
			n.book.KeepOwn()
			return nil
		}
		if n.restored = n.book.Older(); n.restored && n.cfg.Restored {
			n.log.Warn("the data directory is an older copy, and this node goes on with it, as it was told to: what was acknowledged since may be lost", "data", n.cfg.Data)
			n.restored = false
		}
		if n.restored {
			n.log.Warn("the data directory is an older copy: this node begins anew, with what the other nodes hold", "data", n.cfg.Data)
			return nil // it tells where it is when it has
		}
	}
	return n.book.TellOwn(n.peerAddress(), n.since)
}

// askAround asks the others what they remember, and reports whether any has answered.
func (n *Node) askAround(ctx context.Context) bool {
	var known, seeds []find
	for _, id := range n.others() {
		known = append(known, func(context.Context) (unkai.NodeID, error) { return id, nil })
	}
	for _, addr := range n.cfg.Join {
		seeds = append(seeds, func(ctx context.Context) (unkai.NodeID, error) { return n.network.Introduce(ctx, addr) })
	}
	return n.recallFrom(ctx, known) || n.recallFrom(ctx, seeds) // all addresses may have changed
}

// vouch has this node take part, now that another has told what it remembers of it, or
// there is no other.
func (n *Node) vouch(by unkai.NodeID) {
	if !n.network.waits.Load() {
		return
	}
	if err := n.book.TellOwn(n.peerAddress(), n.cfg.Now()); err != nil {
		n.log.Warn("that this node is there could not be noted; it will be tried again", "err", err)
		return
	}
	if n.network.waits.Swap(false) {
		n.log.Info("this node takes part in its cluster now", "asked", by.String())
	}
}

// outlived ends this node, of which another remembers a later time; unless it was told
// to go on with an older copy.
func (n *Node) outlived(err error) {
	if !n.cfg.Restored {
		n.fail(err)
		return
	}
	n.log.Warn("the data directory is an older copy, and this node goes on with it, as it was told to: what was acknowledged since may be lost", "data", n.cfg.Data)
	if err := n.book.TellOwn(n.peerAddress(), n.cfg.Now()); err != nil {
		n.log.Warn("that this node is there could not be noted; it will be tried again", "err", err)
	}
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
	if err := n.book.Learn(a.Hello.Book); err != nil {
		n.log.Warn("what another node knows could not be kept", "node", id.String(), "err", err)
	}
	return true
}

// others are the other nodes whose addresses are known, in the order of their ids.
func (n *Node) others() []unkai.NodeID {
	ids := slices.Sorted(maps.Keys(n.book.Nodes()))
	return slices.DeleteFunc(ids, func(id unkai.NodeID) bool { return id == n.id })
}

// readmit has a node whose directory is an older copy begin a new incarnation.
// Others decide it: this node's own manager has forgotten what it promised, and
// answers nobody until it knows of that decision.
func (n *Node) readmit(ctx context.Context, m *manager.Manager) error {
	n.setState("waiting for the managers to begin a new incarnation of this node")
	for {
		var errs []error
		var caught []unkai.NodeID
		for _, id := range n.others() {
			heard, err := n.readmitBy(ctx, m, id)
			if err == nil || errors.Is(err, topology.ErrRemoved) {
				return err
			}
			if heard {
				caught = append(caught, id)
			}
			errs = append(errs, err)
		}
		top := m.Topology()
		unheard := slices.ContainsFunc(top.Nodes, func(o topology.Node) bool { return o.ID != n.id && !slices.Contains(caught, o.ID) })
		if slices.Equal(top.Managers, []unkai.NodeID{n.id}) && !unheard {
			// Nobody else can decide it, and all have told what this node decided and told.
			n.managerRef.Store(m)
			return n.reborn(ctx)
		}
		n.log.Warn("no node could have this one begin a new incarnation yet; it keeps trying; if all nodes were put back from copies, start them with --restored", "err", errors.Join(errs...))
		if !sleep(ctx, joinRetry) {
			return ctx.Err()
		}
	}
}

// readmitBy asks one node. It reports also whether that has told its topology.
func (n *Node) readmitBy(ctx context.Context, m *manager.Manager, id unkai.NodeID) (heard bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, changeLimit)
	defer cancel()
	if err := m.Catch(ctx, id); err != nil {
		return false, err
	}
	a, err := n.askControl(ctx, id, control{Join: &join{Node: n.self(), Reborn: true}})
	switch {
	case err != nil:
		return true, err
	case a.Join == nil:
		return true, fmt.Errorf("node %v gave no answer", id)
	case a.Join.Never != "":
		return true, fmt.Errorf("node %v: %w", n.id, topology.ErrRemoved)
	case a.Join.Topology == nil:
		return true, fmt.Errorf("node %v gave no topology", id)
	}
	for m.Topology().Epoch < a.Join.Topology.Epoch {
		if err := m.Catch(ctx, id); err != nil {
			return true, err
		}
	}
	return true, nil
}

// reborn has a node that lost what it held begin a new incarnation, which holds
// nothing, before it answers for anything.
func (n *Node) reborn(ctx context.Context) error {
	if len(n.topology().Nodes) == 1 {
		return nil // nobody else relies on what it promised
	}
	n.setState("waiting for the managers to begin a new incarnation of this node")
	for n.network.waits.Load() { // its directory may be older, too, and its manager with it
		if !n.askAround(ctx) {
			if !sleep(ctx, joinRetry) {
				return ctx.Err()
			}
			continue
		}
		if n.book.Older() {
			return directory.ErrOlder
		}
		n.vouch(n.id)
	}
	for {
		limited, cancel := context.WithTimeout(ctx, changeLimit)
		_, err := n.manager.Change(limited, func(t *topology.Topology) (topology.Topology, error) { return t.Reborn(n.id) })
		cancel()
		if err == nil || errors.Is(err, topology.ErrRemoved) {
			return err
		}
		n.log.Warn("the managers could not yet be told that this node has lost what it held; it keeps trying", "err", err)
		if !sleep(ctx, joinRetry) {
			return errors.Join(ctx.Err(), err)
		}
	}
}

// heir says what to do when this node has just joined, and another member was last at
// its address: whose disk was lost, it seems, and who is waited for in vain.
func (n *Node) heir() {
	top := n.topology()
	if m, ok := top.Node(n.id); !ok || m.State != topology.Recognised {
		return
	}
	where := n.book.Nodes()
	for _, m := range top.Nodes {
		if m.ID != n.id && m.State == topology.Attached && where[m.ID].Peer == n.peerAddress() && !n.alive(m.ID) {
			n.log.Warn("this node is new and holds nothing, and another member was at its address before: if the disk of that one is lost, have this one take its place; if not, stop this one, and start that one with its own data directory",
				"data", n.cfg.Data, "before", m.ID.String(), "command", fmt.Sprintf("unkai replace %v %v", m.ID, n.id))
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

// stillHere notes that this node is still there, where an old copy of its store or of its
// directory will not have it.
func (n *Node) stillHere() {
	var err error
	// Others compare what they remember with what this node told before this life.
	if !n.network.waits.Load() {
		err = n.book.TellOwn(n.peerAddress(), n.cfg.Now())
	}
	if e, ok := n.engine.(directory.Marked); ok {
		err = errors.Join(err, n.dir.Mark().Set(e, e.Mark()+1))
	}
	if err != nil {
		n.log.Warn("that this node is still there could not be noted", "err", err)
	}
}
