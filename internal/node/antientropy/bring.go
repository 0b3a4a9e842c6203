package antientropy

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"unkai"
	"unkai/internal/core/merkle"
	"unkai/internal/core/quorum"
	"unkai/internal/core/topology"
	"unkai/internal/store"
)

// bringer brings what this node holds of a bucket on its way to the replicas that
// join it; see docs/decisions/0015.
type bringer struct {
	*Repairer
	b     unkai.Bucket
	route *topology.Route
	skip  uint
	// allowed has an error when the bucket is not to be brought now; see Mover.
	allowed func() (int64, error)
	// spend waits within the throttle, and ends when the bucket is to stay.
	spend func(ctx context.Context, bytes int) error
	bytes int64 // of the keys and values that this node holds
	moved int64 // records
	// heard is what joining replicas hold after they were brought the last of it.
	heard *survey
}

const (
	// batch is how many keys are settled at once, and batchBytes with how many
	// bytes: they share round trips and syncs.
	batch      = 256
	batchBytes = 1 << 20
	// maxBrought is how many bytes of records are in a message. Each bucket has one
	// message at a time on its way to a replica.
	maxBrought = 256 << 10
	// looks is how often it is looked whether all have the same before what differs
	// is settled: what is on its way to the others has arrived by then.
	looks = 3
)

// bring sees that everything that this node holds of the bucket, or what comes after
// it, is durable at enough of the joining replicas, at all of them that were none before
// but for what a quorum took while they were away, and at all that are alive if that can
// be had.
func (c *bringer) bring(ctx context.Context) error {
	t, err := c.known(ctx, c.b, 0)
	if err != nil {
		return err
	}
	all := c.route.Write
	s, err := c.survey(ctx, c.b, c.route, all.Present.Members|all.Joining.Members, min(t.Depth, maxLevel))
	if err != nil {
		return err
	}
	if err := c.complete(s); err != nil {
		return err
	}
	differ := c.differing(s, nodesOf(s.level))
	if len(differ) == 0 && !t.Blind && !c.Replica.Tree(c.b).Blind {
		c.bytes = c.weigh() // it was brought before, by this node or another one
		return nil          // the sums know all that this node has accepted
	}
	if err := c.carry(ctx, s); err != nil {
		return err
	}
	for look := range looks {
		if len(differ) == 0 {
			return nil
		}
		// Not all buckets at one moment: their rounds would get in each other's way.
		if look > 0 && !sleep(ctx, secondLook+time.Duration(c.b)*time.Microsecond) {
			return ctx.Err()
		}
		level := s.level
		if s, err = c.surveyBut(ctx, c.b, c.route, all.Joining.Members, level, c.heard); err != nil {
			return err
		}
		c.heard = nil
		if err := c.complete(s); err != nil {
			return err
		}
		for ; level > s.level; level-- {
			for i := range differ {
				differ[i] /= 2
			}
			differ = slices.Compact(differ)
		}
		differ = c.differing(s, slices.Values(differ))
	}
	return c.settleNodes(ctx, s, differ)
}

// complete says which replica that is to be one, and was none, has not answered. A quorum
// without it would do, but it would count as a replica, and an old one would be forgotten.
func (c *bringer) complete(s *survey) error {
	for i, id := range c.route.Members {
		if s.sums[i] == nil && newcomers(c.route).Has(i) {
			return fmt.Errorf("node %v: %w", id, errNobody)
		}
	}
	return nil
}

// differing are those of some nodes below which a joining replica that is alive may
// not hold what this one does, or too few of them do.
func (c *bringer) differing(s *survey, nodes iter.Seq[uint32]) (out []uint32) {
	enough := quorum.Rule{Present: c.route.Write.Joining}
	for n := range nodes {
		if m := s.equal(n); c.lacking(s, m) != 0 || !enough.Enough(m) {
			out = append(out, n)
		}
	}
	return out
}

// lacking are the joining replicas that have answered, but for those in a mask.
func (c *bringer) lacking(s *survey, m quorum.Mask) (lack quorum.Mask) {
	for i := range s.sums {
		if s.sums[i] != nil && c.route.Write.Joining.Members.Has(i) && !m.Has(i) {
			lack = lack.With(i)
		}
	}
	return lack
}

// carry goes through all records, and brings those that are known to be chosen to
// whom they lack: which are older than the set, and below a node below which enough
// of the present replicas hold the same. It was so when the survey was made, and
// what has come to this replica since has the epoch of the bucket or, if it was
// adopted, was chosen too.
func (c *bringer) carry(ctx context.Context, s *survey) error {
	old := quorum.Rule{Present: c.route.Write.Present}
	c.heard = newSurvey(c.Self, c.route, s.level)
	p := c.parcels()
	var failed error
	err := c.Replica.Each(c.b, func(e *store.Entry) bool {
		c.bytes += int64(len(e.Key) + len(e.Record.Item.Value))
		m := s.equal(merkle.Node(e.Hash, c.skip, s.level))
		lack := c.lacking(s, m)
		if lack == 0 || e.Record.Epoch >= c.route.Since || !old.Enough(m) {
			return true
		}
		c.moved++
		if p.add(lack, e) {
			failed = p.send(ctx, false)
		}
		return failed == nil
	})
	if err == nil && failed == nil {
		failed = p.send(ctx, true)
	}
	p.done(failed)
	return errors.Join(err, failed)
}
