package antientropy

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"unkai"
	"unkai/internal/core/quorum"
	"unkai/internal/node/replica"
)

// bringFloor has the joining replicas forget what this one has forgotten: enough of
// them, and all that are alive if that can be had. It comes last, since nothing that is
// missing below a floor can be adopted any more, only settled.
func (c *bringer) bringFloor(ctx context.Context) error {
	floor := c.Replica.Floor(c.b)
	if floor == 0 {
		return nil
	}
	members := c.route.Write.Joining.Members
	errs := make([]error, len(c.route.Members))
	var wg sync.WaitGroup
	for i, id := range c.route.Members {
		if members.Has(i) {
			wg.Go(func() { errs[i] = c.giveFloor(ctx, id, floor) })
		}
	}
	wg.Wait()
	var have quorum.Mask
	for i, err := range errs {
		if members.Has(i) && err == nil {
			have = have.With(i)
		}
	}
	if enough := (quorum.Rule{Present: c.route.Write.Joining}); !enough.Enough(have) {
		return fmt.Errorf("tell what was forgotten: %w", errors.Join(errs...))
	}
	return nil
}

// errNobody: a replica of the joining set is not known, or known to be dead.
var errNobody = errors.New("a joining replica is away")

func (c *bringer) giveFloor(ctx context.Context, to unkai.NodeID, floor unkai.Ballot) error {
	if to == c.Self {
		return nil
	}
	if to == 0 || !c.Alive(to) {
		return errNobody
	}
	reply, err := c.ask(ctx, to, u64(about(askFloor, c.b, c.route.Epoch), uint64(floor)))
	if err == nil && (len(reply) != 1 || state(reply[0]) != stateOK) {
		err = errState
	}
	return err
}

// errTooHigh: what was forgotten is higher than ballots ever become.
var errTooHigh = errors.New("that ballot is out of reach, so it cannot have been forgotten")

func (r *Repairer) serveFloor(in *reader, b unkai.Bucket) ([]byte, error) {
	floor := unkai.Ballot(in.u64())
	if err := in.end(); err != nil {
		return nil, err
	}
	if floor.Counter() > replica.HighestFloor {
		return nil, fmt.Errorf("take over the floor %v of bucket %d: %w", floor, b, errTooHigh)
	}
	if err := r.Replica.RaiseFloor(b, floor); err != nil {
		return nil, err
	}
	return []byte{byte(stateOK)}, nil
}
