package node

import (
	"context"

	"unkai"
	"unkai/internal/node/antientropy"
	"unkai/internal/node/coordinator"
	"unkai/internal/node/gateway"
	"unkai/internal/node/replica"
	"unkai/internal/peer"
)

// openRooms opens all between the store and the doors, and starts what runs by itself.
func (n *Node) openRooms() error {
	used := n.dir.Ballots()
	floor, err := used.Floor()
	if err != nil {
		return err
	}
	n.flushedAnew(n.manager.Topology()) // which a new replica sees to in any case
	rep := replica.New(n.engine, n.id, n.manager.Topology)
	n.coordinator = coordinator.New(coordinator.Config{
		Self: n.id, Local: rep, Topology: n.manager.Topology, Alive: n.alive, Behind: n.behind,
		Remote: func(id unkai.NodeID) coordinator.Replica { return n.remote(id) },
		Now:    n.cfg.Now, MaxValue: n.cfg.MaxValue, Timeout: n.cfg.RequestTimeout * 3 / 4, // another node's gateway waits for it
		Floor: floor, Reserve: used.Reserve, Rand: n.cfg.Rand,
	})
	pacer := n.newPacer()
	n.timed = &timed{n, &pacer.Latencies}
	n.gateway = gateway.New(gateway.Config{
		Local: n.timed, Self: n.id, Topology: n.manager.Topology, Network: &n.network,
		Timeout: n.cfg.RequestTimeout, MaxRunning: int64(n.cfg.MaxConns) * opsPerConn,
	})
	repairer := &antientropy.Repairer{
		Self: n.id, Topology: n.manager.Topology, Replica: rep, Alive: n.alive, Settle: n.coordinator.Settle, Now: n.cfg.Now, Log: n.log, Pace: pacer,
		Ask: func(ctx context.Context, to unkai.NodeID, question []byte) ([]byte, error) {
			return n.ask(ctx, to, peer.Repair, question)
		},
	}
	mover := &antientropy.Mover{Self: n.id, Topology: n.manager.Topology, Replica: rep, Repairer: repairer, Log: n.log}
	repairer.Pending = mover.Pending
	n.mu.Lock()
	n.replica, n.mover, n.repairer, n.pacer = rep, mover, repairer, pacer
	n.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	n.sweeper = &replica.Sweeper{
		Replica: n.replica, Expire: n.expire, Mine: n.coordinates, Now: n.cfg.Now,
		Level: repairer.Level, Alive: n.alive,
		Failed: func(b unkai.Bucket, err error) {
			n.log.Warn("a bucket could not be swept; it will be tried again", "bucket", b, "err", err)
		},
	}
	n.running.Go(func() { n.sweeper.Run(ctx) })
	n.running.Go(func() { n.watch(ctx) })
	n.running.Go(func() { pacer.Run(ctx) })
	n.running.Go(func() { mover.Run(ctx) })
	n.running.Go(func() { repairer.Run(ctx) })
	n.scrubber.Replica, n.scrubber.Failed = rep, func(b unkai.Bucket, err error) {
		n.log.Warn("a bucket could not be read through; it will be tried again", "bucket", b, "err", err)
	}
	healer := &antientropy.Healer{Self: n.id, Topology: n.manager.Topology, Replica: rep, Settle: n.coordinator.SettleOne, Renew: n.renew, Log: n.log}
	n.running.Go(func() { healer.Run(ctx) })
	n.running.Go(func() { n.scrubber.Run(ctx) })
	n.running.Go(func() { n.greet(ctx) })
	n.running.Go(func() { n.catchUp(ctx) })
	n.running.Go(func() { n.newSteward().Run(ctx) })
	return nil
}

// coordinates reports whether this node is the first replica of a bucket that is
// alive.
func (n *Node) coordinates(b unkai.Bucket) bool {
	for _, id := range n.manager.Topology().Route(b).Members {
		if id == n.id {
			return true
		}
		if id != 0 && n.alive(id) {
			return false
		}
	}
	return false
}

// expire reads keys that have expired, which makes them tombstones.
func (n *Node) expire(keys [][]byte) {
	var b unkai.Batch
	for _, k := range keys {
		op := b.Add()
		op.Key, op.NoValue, op.NoBump = k, true, true
	}
	for len(b.Results) < len(b.Ops) {
		n.coordinator.Do(&b)
	}
}
