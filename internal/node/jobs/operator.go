// Package jobs is what operators may ask for: it plans changes, begins jobs, steers them,
// and says how far they are and what they wait for.
package jobs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"unkai"
	"unkai/internal/admin"
	"unkai/internal/core/topology"
)

// What an operator may ask for.
const (
	MinAutoReplace = topology.MinAutoReplace * time.Millisecond
	MaxAutoReplace = 365 * 24 * time.Hour
)

// changeLimit is how long it tries to have a change decided.
const changeLimit = 10 * time.Second

// ErrNoTopology says that there are no jobs where there is no cluster.
var ErrNoTopology = errors.New("this node is not a member of a cluster yet")

// Operator does what operators ask for. Any node's can be asked: the managers decide,
// wherever they are.
type Operator struct {
	cfg      Config
	progress progress
}

// New makes one that has seen no job.
func New(cfg Config) *Operator { return &Operator{cfg: cfg} }

// change is what a wish means for the law.
func (o *Operator) change(top *topology.Topology, w admin.Wish) (topology.Change, error) {
	c := topology.Change{Kind: topology.Kind(w.Kind), Weight: w.Weight, Zone: w.Zone, GiveUp: w.GiveUpLost}
	if w.Weight < 0 || w.Weight > topology.MaxWeight {
		return c, fmt.Errorf("%w: a weight is from 1 to %d", admin.ErrBadRequest, topology.MaxWeight)
	}
	if w.Zone != nil {
		if err := topology.CheckZone(*w.Zone); err != nil {
			return c, fmt.Errorf("%w: %w", admin.ErrBadRequest, err)
		}
	}
	if len(w.Nodes) > len(top.Nodes) {
		return c, fmt.Errorf("%w: %d nodes are named, and there are %d", admin.ErrBadRequest, len(w.Nodes), len(top.Nodes))
	}
	for _, name := range w.Nodes {
		id, err := o.find(top, name)
		if err != nil {
			return c, err
		}
		c.Nodes = append(c.Nodes, id)
	}
	return c, nil
}

// Plan implements admin.Operator.
func (o *Operator) Plan(ctx context.Context, w admin.Wish) (admin.Plan, error) {
	top := o.cfg.Managers.Latest(ctx)
	if top == nil {
		return admin.Plan{}, ErrNoTopology
	}
	c, err := o.change(top, w)
	if err != nil {
		return admin.Plan{}, err
	}
	asked := o.cfg.Nodes.Loads(ctx, top)
	loads := plain(asked)
	p, err := top.Plan(c, loads)
	if err != nil {
		if why := already(top, c); why != "" {
			return alreadyPlanned(top, c, why), nil
		}
		return admin.Plan{}, refusal(top, err)
	}
	if why := idle(top, c, loads); why != "" {
		return alreadyPlanned(top, c, why), nil
	}
	out := o.describePlan(top, &p, loads)
	out.Warnings = append(out.Warnings, o.warnOfClients(top, &p, asked)...)
	out.Warnings = append(out.Warnings, warnOfStores(&p, asked)...)
	return out, nil
}

// refusal tells whether a change makes no sense, or only cannot be now.
func refusal(top *topology.Topology, err error) error {
	text := strings.TrimPrefix(err.Error(), "topology: ")
	switch j := top.Job; {
	case errors.Is(err, topology.ErrBusy), errors.Is(err, topology.ErrMoving) && j != nil:
		return fmt.Errorf("%w: job %d (%s) is running, and there is one at a time; wait for it, or end it with unkai job cancel", admin.ErrConflict, j.ID, j.Kind)
	case errors.Is(err, topology.ErrMoving), errors.Is(err, topology.ErrIdle), errors.Is(err, topology.ErrForgetting), errors.Is(err, topology.ErrUndecidable):
		return fmt.Errorf("%w: %s", admin.ErrConflict, text)
	}
	return fmt.Errorf("%w: %s", admin.ErrBadRequest, text)
}

// Begin implements admin.Operator.
func (o *Operator) Begin(ctx context.Context, w admin.Wish) (admin.Job, error) {
	top := o.cfg.Managers.Latest(ctx)
	if top == nil {
		return admin.Job{}, ErrNoTopology
	}
	c, err := o.change(top, w)
	if err != nil {
		return admin.Job{}, err
	}
	loads := plain(o.cfg.Nodes.Loads(ctx, top))
	next, err := o.decide(ctx, func(t *topology.Topology) (topology.Topology, error) {
		if w.Epoch != 0 && uint32(t.Epoch) != w.Epoch && t.Job == nil {
			return topology.Topology{}, fmt.Errorf("%w: the cluster has changed since the plan was made (epoch %d, now %d); look at a new one", admin.ErrConflict, w.Epoch, t.Epoch)
		}
		if err := harm(t, c, w, loads); err != nil {
			return topology.Topology{}, err
		}
		if idle(t, c, loads) != "" {
			return topology.Topology{}, errIdle
		}
		next, err := t.Begin(c, t.Sizes(loads), o.cfg.Now(), topology.Away(loads)...)
		if err != nil {
			err = refusal(t, err)
		}
		return next, err
	})
	if errors.Is(err, errIdle) {
		return o.alreadyBegun(top, c), nil
	}
	if err != nil {
		if top := o.cfg.Managers.Latest(ctx); already(top, c) != "" {
			return o.alreadyBegun(top, c), nil
		}
		return admin.Job{}, err
	}
	if w.GiveUpLost {
		o.cfg.Log.Warn("an operator has given up what dead nodes held: some keys may have lost what was acknowledged", "job", next.Job.ID, "nodes", ids(next.Job.Nodes))
	}
	return o.describeJob(next, next.Job), nil
}

// harm refuses what nobody can have meant, unless they say that they did.
func harm(t *topology.Topology, c topology.Change, w admin.Wish, loads []topology.Load) error {
	p, err := t.Plan(c, loads)
	switch {
	case err != nil:
		return refusal(t, err)
	case w.Force:
	case p.Stopped > 0:
		return fmt.Errorf("%w: %d buckets that are read and written now could not move: too few nodes of those they go to are alive. They would stay where they are, and the job would not end, until more are; say force if that shall be", admin.ErrConflict, p.Stopped)
	case w.Epoch == 0 && len(p.Roomless) > 0: // nobody has looked at the plan
		return fmt.Errorf("%w: node %v has too little room for what it would get; say force if that shall be", admin.ErrConflict, p.Roomless[0])
	}
	return nil
}

func (o *Operator) decide(ctx context.Context, f func(*topology.Topology) (topology.Topology, error)) (*topology.Topology, error) {
	ctx, cancel := context.WithTimeout(ctx, changeLimit)
	defer cancel()
	return o.cfg.Managers.Change(ctx, f)
}

// Jobs implements admin.Operator.
func (o *Operator) Jobs(ctx context.Context) (admin.Jobs, error) {
	top := o.cfg.Managers.Topology()
	if top == nil {
		return admin.Jobs{}, ErrNoTopology
	}
	jobs := o.Describe(top)
	if jobs.Running != nil {
		jobs.Running.Slowed = o.cfg.Nodes.Slowed(ctx, top)
	}
	return jobs, nil
}

// Steer implements admin.Operator.
func (o *Operator) Steer(ctx context.Context, order admin.Order) (admin.Jobs, error) {
	top := o.cfg.Managers.Latest(ctx)
	if top == nil {
		return admin.Jobs{}, ErrNoTopology
	}
	var away []unkai.NodeID
	for _, m := range top.Nodes {
		if !o.cfg.Nodes.Here(m.ID) {
			away = append(away, m.ID)
		}
	}
	next, err := o.decide(ctx, func(t *topology.Topology) (topology.Topology, error) {
		if order.Job != 0 && (t.Job == nil || t.Job.ID != order.Job) {
			return topology.Topology{}, fmt.Errorf("%w: job %d does not run", admin.ErrConflict, order.Job)
		}
		next, err := steer(t, order, o.cfg.Now(), away)
		if err != nil && !errors.Is(err, admin.ErrBadRequest) {
			err = fmt.Errorf("%w: %s", admin.ErrConflict, strings.TrimPrefix(err.Error(), "topology: "))
		}
		return next, err
	})
	if err != nil {
		return admin.Jobs{}, err
	}
	return o.Describe(next), nil
}

func steer(t *topology.Topology, o admin.Order, now int64, away []unkai.NodeID) (topology.Topology, error) {
	switch o.Do {
	case "pause":
		return t.Pause(now)
	case "resume":
		return t.Resume(now)
	case "cancel":
		return t.Cancel(away...)
	case "throttle":
		if o.Throttle < 0 {
			return topology.Topology{}, fmt.Errorf("%w: a throttle is in bytes a second, or 0 for none", admin.ErrBadRequest)
		}
		return t.Limit(o.Throttle)
	case "auto-replace":
		after := o.AutoReplace
		if after == nil || *after != 0 && !(*after >= MinAutoReplace.Seconds() && *after <= MaxAutoReplace.Seconds()) {
			return topology.Topology{}, fmt.Errorf("%w: a dead node is replaced after %v to %v, or never: 0", admin.ErrBadRequest, MinAutoReplace, MaxAutoReplace)
		}
		return t.ReplaceAfter(int64(*after * 1000))
	}
	return topology.Topology{}, fmt.Errorf("%w: %q is none of pause, resume, cancel, throttle, auto-replace", admin.ErrBadRequest, o.Do)
}
