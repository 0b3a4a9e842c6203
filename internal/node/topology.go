package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"unkai/internal/core/topology"
	"unkai/internal/node/directory"
	"unkai/internal/node/manager"
	"unkai/internal/node/steward"
)

// openManager finds the topology: on disk, or by joining a cluster, or as the first of one.
func (n *Node) openManager(ctx context.Context) error {
	file := n.dir.Topology()
	first := n.firstTopology
	if _, err := os.Stat(string(file)); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(n.dir.Store()); err == nil {
			return fmt.Errorf("%s has a store but no file %s, without which its keys cannot be found; restore the directory from a copy", n.cfg.Data, filepath.Base(string(file)))
		}
		if len(n.cfg.Join) > 0 {
			// Who is no new node has lost what it held and decided, if it was a member.
			top, err := n.join(ctx, !n.dir.Created())
			if err != nil {
				return err
			}
			first = func() (topology.Topology, error) { return *top, nil }
		}
	}
	m, err := manager.Open(manager.Config{
		Self: n.id, Topology: managed{file}, Decree: managed{n.dir.Decree()}, Network: managers{n},
		Now: n.cfg.Now, Log: n.log, Changed: n.topologyChanged, Rand: n.cfg.Rand, Timeout: time.Second,
	}, first)
	if err != nil {
		return err
	}
	n.manager = m
	if n.restored {
		if err := n.readmit(ctx, m); err != nil {
			return err
		}
	}
	n.managerRef.Store(m)
	top := m.Topology()
	if _, ok := top.Node(n.id); !ok {
		return fmt.Errorf("%s: node %v: %w", n.cfg.Data, n.id, topology.ErrRemoved)
	}
	n.drained.note(top, n.id)
	if top.Buckets != n.cfg.Buckets {
		n.log.Warn("the number of buckets is fixed when a cluster begins; --buckets is ignored", "buckets", top.Buckets)
	}
	if after := n.cfg.AutoReplace; after != 0 && after.Milliseconds() != top.AutoReplace {
		n.log.Warn("--auto-replace is for a new cluster only, and is ignored; unkai auto-replace changes it", "after", steward.Patience(top))
	}
	return n.configure(ctx, top)
}

// firstTopology is that of a new cluster of this node.
func (n *Node) firstTopology() (topology.Topology, error) {
	seed, err := n.random()
	if err != nil {
		return topology.Topology{}, fmt.Errorf("choose a cluster id: %w", err)
	}
	c := n.cfg
	top := topology.New(seed|1, c.Buckets, c.N, c.R, c.W, n.self())
	top.AutoReplace = c.AutoReplace.Milliseconds()
	return top, nil
}

// configure brings N:R:W to what was asked for, where that is possible.
func (n *Node) configure(ctx context.Context, top *topology.Topology) error {
	if top.N == n.cfg.N && top.R == n.cfg.R && top.W == n.cfg.W {
		return nil
	}
	if len(top.Nodes) > 1 {
		n.log.Warn("N:R:W are fixed once a cluster has two nodes; --n, --r and --w are ignored", "n", top.N, "r", top.R, "w", top.W)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, changeLimit)
	defer cancel()
	_, err := n.manager.Change(ctx, func(t *topology.Topology) (topology.Topology, error) {
		return t.Configure(n.cfg.N, n.cfg.R, n.cfg.W)
	})
	return err
}

// topologyChanged hears of every change after the first topology.
func (n *Node) topologyChanged() {
	n.mu.Lock()
	r, m := n.replica, n.mover // a flush that was due may come before the rooms are open
	n.mu.Unlock()
	top := n.topology()
	if r != nil && top != nil && n.flushedAnew(top) {
		r.Flushed()
	}
	if m != nil {
		m.Changed()
	}
	if top := n.topology(); top != nil {
		n.belongs(top)
	}
}

// topology is the present one; nil before there is one.
func (n *Node) topology() *topology.Topology {
	if m := n.managerRef.Load(); m != nil {
		return m.Topology()
	}
	return nil
}

// managed is a file of the manager's, which has a word of its own for what may not have
// been saved.
type managed struct{ directory.File }

// Save implements manager.File.
func (m managed) Save(b []byte) error { return translated(m.File.Save(b)) }

func translated(err error) error {
	if errors.Is(err, directory.ErrUncertain) {
		return uncertain{err}
	}
	return err
}

// uncertain is manager.ErrUncertain, and what it wraps.
type uncertain struct{ error }

func (u uncertain) Is(target error) bool { return target == manager.ErrUncertain }

func (u uncertain) Unwrap() error { return u.error }
