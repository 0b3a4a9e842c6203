package node

import (
	"context"
	"fmt"

	"unkai"
	"unkai/internal/store/disk"
	"unkai/internal/store/memory"
)

// openStore opens what holds the records, and begins anew when that is not what it was.
func (n *Node) openStore(ctx context.Context) (err error) {
	if n.cfg.Store == Memory && !n.dir.Created() && !n.restored { // what the memory promised before is forgotten
		if err := n.reborn(ctx); err != nil {
			return err
		}
	}
	top := n.manager.Topology()
	switch {
	case n.cfg.Engine != nil:
		n.engine = n.cfg.Engine
	case n.cfg.Store == Memory:
		n.engine, err = memory.Open(memory.Config{Buckets: top.Buckets, Limit: n.cfg.Memory, Now: n.cfg.Now})
	default:
		err = n.openDisk(ctx, top.Buckets)
	}
	if err != nil {
		return fmt.Errorf("open the store: %w", err)
	}
	if n.restored {
		if err := n.disown(); err != nil {
			return err
		}
		return n.book.TellOwn(n.peerAddress(), n.cfg.Now())
	}
	return nil
}

func (n *Node) openDisk(ctx context.Context, buckets int) error {
	policy, err := disk.ParseSync(n.cfg.Sync)
	if err != nil {
		return err
	}
	engine, err := disk.Open(disk.Config{
		Dir: n.dir.Store(), Buckets: buckets, Sync: policy,
		Cache: n.cfg.Cache, Log: n.log, Failed: n.fail, Now: n.cfg.Now,
	})
	if err != nil {
		return err
	}
	n.engine = engine
	file := n.dir.Mark()
	last, err := file.Last()
	if err != nil {
		return err
	}
	if engine.Mark() < last && !n.restored {
		switch alone := len(n.manager.Topology().Nodes) == 1; {
		case !engine.Fresh() && policy != disk.Always:
			// A power cut took what was not synced, here and maybe everywhere. That is
			// what was asked for; all beginning anew would lose the rest, too.
			n.log.Warn("the store has lost what was not synced when the power failed", "sync", n.cfg.Sync)
		case alone:
			return fmt.Errorf("%s is empty or an older copy, while the rest of %s is not: mount or restore the right one; to begin anew, name another directory with --data", n.dir.Store(), n.cfg.Data)
		default:
			n.log.Warn("the store is empty or an older copy: this node begins anew, with what the other nodes hold", "data", n.cfg.Data)
			if err := n.reborn(ctx); err != nil {
				return err
			}
			if err := n.disown(); err != nil {
				return err
			}
		}
	}
	return file.Set(engine, max(engine.Mark(), last)+1)
}

// disown drops what an engine holds that is of an earlier time.
func (n *Node) disown() error {
	for b := range n.manager.Topology().Buckets {
		if err := n.engine.Drop(unkai.Bucket(b)); err != nil {
			return fmt.Errorf("drop what this node held in an earlier time: %w", err)
		}
	}
	return nil
}
