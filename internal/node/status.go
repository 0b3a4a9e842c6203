package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"unkai/internal/admin"
	"unkai/internal/node/jobs"
	"unkai/internal/node/replica"
)

// openAdmin opens the side door, if there is to be one.
func (n *Node) openAdmin() {
	if n.http == nil {
		return
	}
	n.admin = admin.New(admin.Config{Snapshot: n.snapshot, Cluster: survey{n}, Operator: n.Operator(), Listen: n.cfg.HTTP, Log: n.log})
	n.side.Go(func() {
		if err := n.admin.Serve(n.http); err != nil {
			n.fail(fmt.Errorf("serve administration: %w", err))
		}
	})
}

// adminStop is how long the side door waits for whoever is asking.
const adminStop = 2 * time.Second

func (n *Node) closeAdmin() error {
	if n.admin == nil {
		if n.http != nil {
			return n.http.Close()
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), adminStop)
	defer cancel()
	err := n.admin.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil // a profile that somebody was taking was cut off
	}
	n.side.Wait()
	return err
}

// unready is why the node does not serve, or "". The node's lock is held.
func (n *Node) unready() string {
	if n.state == "" && n.network.waits.Load() {
		return errUnvouched.Error()
	}
	return n.state
}

// snapshot is what the node says of itself. While it is starting or stopping,
// the rooms may not be there.
func (n *Node) snapshot() admin.Snapshot {
	s := admin.Snapshot{
		Version: n.cfg.Version, Uptime: time.Duration(n.cfg.Now()-n.since) * time.Millisecond, Node: n.id,
		Listen: addrOf(n.listen), Peer: n.peerAddress(), HTTP: addrOf(n.http), Kind: n.cfg.Store, Sync: n.cfg.Sync,
	}
	var foretold []admin.Prospect
	if top := n.topology(); top != nil {
		foretold = n.foretold(top)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if s.State = n.unready(); s.State != "" {
		return s
	}
	s.Problem = n.problem()
	top := n.manager.Topology()
	self, _ := top.Node(n.id)
	s.Zone = self.Zone
	s.Incarnation, s.Epoch, s.Buckets = self.Incarnation, top.Epoch, top.Buckets
	s.N, s.R, s.W = top.Quorum()
	all := n.jobs.Describe(top)
	s.Job, s.AutoReplace, s.Prospects = all.Running, all.AutoReplace, foretold
	s.Store = n.engine.Stats()
	s.Clients, s.MaxConns = n.memcache.Stats(), n.cfg.MaxConns
	c := n.coordinator.Stats()
	s.Survival, s.Links = admin.NewSurvival(top, n.serves(top), n.isFull), n.links(top)
	s.Deciding, s.Operations = n.deciding(top), n.operationCounts()
	s.Rounds = admin.Rounds{Shared: c.Shared, Expired: c.Expired, Retried: c.Retried, Timeouts: c.Timeouts}
	s.Repair = n.repaired()
	p := n.pacer.State()
	s.Copying = admin.Copying{Speed: p.Speed, Limit: p.Rate, Strain: p.Strain}
	if s.Job != nil && p.Rate > 0 {
		s.Job.Slowed = []admin.Slowed{{Node: n.id.String(), Rate: p.Rate, Strain: p.Strain, Disk: p.Slow && len(jobs.Crammed(top, n.isFull)) == 0}}
	}
	return s
}

// repaired is what comparing replicas has come to.
func (n *Node) repaired() admin.Repair {
	r := n.repairer.Stats()
	out := admin.Repair{
		Unreconciled: r.Unreconciled, Compared: r.Compared, Differed: r.Differed, Adopted: r.Adopted, Brought: r.Brought,
		Settled: r.Settled, Failed: r.Failed, Bytes: r.Sent + r.Received, Purged: n.replica.Stats().Purged,
		Wounds: n.replica.Wounded(), Healed: n.replica.Healed(), Waits: waits(n.sweeper.Waiting()),
	}
	scrub := n.scrubber.Stats()
	out.Scrubbed, out.Scrubs, out.ScrubDamaged = scrub.Records, scrub.Passes, scrub.Damaged
	if r.Oldest != 0 {
		bucket := int(r.Bucket)
		out.Bucket = &bucket
		out.Oldest = max(0, time.Duration(n.cfg.Now()-r.Oldest)*time.Millisecond)
	}
	return out
}

// waits names what tombstones wait for.
func waits(all []replica.Waits) (out []admin.Waits) {
	for _, w := range all {
		why := map[replica.Held]string{
			replica.HeldAway: "away", replica.HeldSilent: "silent", replica.HeldOther: "different", replica.HeldMove: "moving", replica.HeldLost: "lost", replica.HeldSoon: "due",
		}[w.Held]
		to := admin.Waits{Why: why, Items: w.Items, Bytes: w.Bytes}
		if w.Node != 0 {
			to.Node = w.Node.String()
		}
		out = append(out, to)
	}
	return out
}
