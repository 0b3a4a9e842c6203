package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"unkai"
	"unkai/internal/admin"
	"unkai/internal/core/topology"
	"unkai/internal/node/antientropy"
	"unkai/internal/node/jobs"
)

// repair asks a node to compare buckets now, or how far it is with that. The answer
// has its account, if it remembers one.
type repair struct {
	ID      uint64               `json:"id"`
	Begin   bool                 `json:"begin,omitempty"`
	Buckets []unkai.Bucket       `json:"buckets,omitempty"` // none: all
	Account *antientropy.Account `json:"account,omitempty"`
}

func (n *Node) openedRepairer() *antientropy.Repairer {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.state != "" {
		return nil // it does not compare yet, or no more
	}
	return n.repairer
}

func (n *Node) serveRepair(q *repair) (*repair, error) {
	r := n.openedRepairer()
	if r == nil {
		return &repair{ID: q.ID}, nil
	}
	if q.Begin {
		if err := r.Demand(q.ID, q.Buckets); err != nil {
			return nil, fmt.Errorf("repair: %w", err)
		}
	}
	a := &repair{ID: q.ID}
	if account, ok := r.Account(q.ID); ok {
		a.Account = &account
	}
	return a, nil
}

// renew has buckets get a new epoch in which this node has forgotten something.
func (n *Node) renew(ctx context.Context, renewals []topology.Renewal) error {
	ctx, cancel := context.WithTimeout(ctx, changeLimit)
	defer cancel()
	next, err := n.alter(ctx, func(t *topology.Topology) (topology.Topology, error) {
		next, ok := t.Renew(renewals)
		if !ok {
			return topology.Topology{}, errNothing
		}
		return next, nil
	})
	if errors.Is(err, errNothing) {
		return nil
	}
	if err == nil {
		n.log.Warn("records of this node are damaged: their buckets have a new epoch, in which they are healed by the other replicas", "buckets", len(renewals), "epoch", next.Epoch)
	}
	return err
}

// Repair implements admin.Operator.
func (o operator) Repair(ctx context.Context, w admin.RepairWish) (admin.RepairRun, error) {
	top := o.n.topology()
	if top == nil {
		return admin.RepairRun{}, jobs.ErrNoTopology
	}
	q := repair{Begin: true}
	if w.Bucket != nil {
		if *w.Bucket < 0 || *w.Bucket >= top.Buckets {
			return admin.RepairRun{}, fmt.Errorf("%w: there are buckets 0 to %d", admin.ErrBadRequest, top.Buckets-1)
		}
		q.Buckets = []unkai.Bucket{unkai.Bucket(*w.Bucket)}
	}
	var err error
	if q.ID, err = o.n.random(); err != nil {
		return admin.RepairRun{}, fmt.Errorf("number the repair: %w", err)
	}
	q.ID |= 1 // 0 means the last one
	own := o.n.openedRepairer()
	if own == nil {
		return admin.RepairRun{}, fmt.Errorf("%w: this node does not serve", admin.ErrConflict)
	}
	if err := own.Demand(q.ID, q.Buckets); err != nil { // who takes no more stands for all
		return admin.RepairRun{}, fmt.Errorf("%w: %w", admin.ErrConflict, err)
	}
	return o.n.askRepair(ctx, top, q)
}

// Repaired implements admin.Operator.
func (o operator) Repaired(ctx context.Context, id string) (admin.RepairRun, error) {
	top := o.n.topology()
	if top == nil {
		return admin.RepairRun{}, jobs.ErrNoTopology
	}
	var q repair
	if id != "" {
		var err error
		if q.ID, err = strconv.ParseUint(id, 16, 64); err != nil || q.ID == 0 {
			return admin.RepairRun{}, fmt.Errorf("%w: %q is not the id of a repair", admin.ErrBadRequest, id)
		}
	} else if r := o.n.openedRepairer(); r != nil {
		if a, ok := r.Account(0); ok {
			q.ID = a.ID
		}
	}
	if q.ID == 0 {
		return admin.RepairRun{Unequal: []admin.Unequal{}, Silent: []admin.Silent{}}, nil
	}
	return o.n.askRepair(ctx, top, q)
}

// askRepair asks all nodes, this one too, about a repair.
func (n *Node) askRepair(ctx context.Context, top *topology.Topology, q repair) (admin.RepairRun, error) {
	ctx, cancel := context.WithTimeout(ctx, surveyLimit)
	defer cancel()
	answers, errs := make([]*antientropy.Account, len(top.Nodes)), make([]error, len(top.Nodes))
	var wg sync.WaitGroup
	for i, m := range top.Nodes {
		if m.ID != n.id && !n.here(m.ID) {
			errs[i] = errors.New("it is away")
			continue
		}
		wg.Go(func() {
			var a control
			if m.ID == n.id {
				a.Repair, errs[i] = n.serveRepair(&repair{ID: q.ID})
			} else {
				a, errs[i] = n.askControl(ctx, m.ID, control{Repair: &q})
			}
			if a.Repair != nil {
				answers[i] = a.Repair.Account
			}
		})
	}
	wg.Wait()
	return n.describeRepair(top, q.ID, answers, errs)
}

// describeRepair puts the accounts of all nodes together.
func (n *Node) describeRepair(top *topology.Topology, id uint64, answers []*antientropy.Account, errs []error) (admin.RepairRun, error) {
	out := admin.RepairRun{ID: fmt.Sprintf("%016x", id), Unequal: []admin.Unequal{}, Silent: []admin.Silent{}}
	var about *antientropy.Account
	var differed, busy antientropy.Set
	for i, m := range top.Nodes {
		a := answers[i]
		if a == nil {
			s := admin.Silent{Node: m.ID.String(), Alive: n.here(m.ID), Why: "it knows nothing of it: it was started since, or does not serve"}
			if errs[i] != nil {
				s.Why = errs[i].Error()
			}
			// Who remembers nothing will not go on, either.
			s.Alive = s.Alive && errs[i] != nil
			out.Silent = append(out.Silent, s)
			continue
		}
		if about == nil || a.Begun < about.Begun {
			about = a
		}
		out.Running = out.Running || a.Running
		out.Brought, out.Settled, out.Failed, out.Bytes = out.Brought+a.Brought, out.Settled+a.Settled, out.Failed+a.Failed, out.Bytes+a.Bytes
		for b := range unkai.Bucket(top.Buckets) {
			if a.Differed.Has(b) {
				differed.Add(b)
			}
		}
	}
	if about == nil {
		return out, fmt.Errorf("%w: no node that answers remembers a repair %s", admin.ErrBadRequest, out.ID)
	}
	out.Begun, out.Differed = about.Begun, differed.Len()
	buckets := about.Buckets
	if buckets == nil {
		for b := range unkai.Bucket(top.Buckets) {
			buckets = append(buckets, b)
		}
	}
	out.Buckets = len(buckets)
	for _, b := range buckets {
		n.describeBucket(top, b, answers, &out, &busy)
	}
	out.Busy = busy.Len()
	for _, u := range out.Unequal {
		out.Compared += u.Buckets // there is nothing more to be done about them
	}
	if out.Compared += out.Equal; out.Buckets > 0 {
		out.Progress = float64(out.Compared) / float64(out.Buckets)
	}
	if out.Running && out.Compared > 0 {
		out.Left = max(0, float64(n.cfg.Now()-out.Begun)/1000*(1-out.Progress)/out.Progress)
	}
	return out, nil
}

// describeBucket says what has become of one bucket.
func (n *Node) describeBucket(top *topology.Topology, b unkai.Bucket, answers []*antientropy.Account, out *admin.RepairRun, busy *antientropy.Set) {
	why := ""
	for _, a := range answers {
		switch {
		case a == nil:
		case a.Equal.Has(b):
			out.Equal++
			if a.Busy.Has(b) {
				busy.Add(b)
			}
			return
		default:
			if at := slices.IndexFunc(a.Unequal, func(u antientropy.Unequal) bool { return u.Buckets.Has(b) }); at >= 0 {
				why = a.Unequal[at].Why
			}
		}
	}
	if why == "" {
		if out.Running {
			return
		}
		why = "no node has compared it: the one that should have was away, or was started anew meanwhile"
		if !slices.ContainsFunc(top.Route(b).Members, n.here) {
			why = "none of its replicas is there"
		}
	}
	at := slices.IndexFunc(out.Unequal, func(u admin.Unequal) bool { return u.Why == why })
	if at < 0 {
		at = len(out.Unequal)
		out.Unequal = append(out.Unequal, admin.Unequal{Why: why})
	}
	u := &out.Unequal[at]
	if u.Buckets++; len(u.Some) < someBuckets {
		u.Some = append(u.Some, int(b))
	}
}

// someBuckets is how many buckets are named of those that could not be compared.
const someBuckets = 8
