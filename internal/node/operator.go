package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"unkai"
	"unkai/internal/admin"
	"unkai/internal/core/topology"
)

// operator is what the side door may ask for. Any node can be asked: the managers
// decide, wherever they are.
type operator struct{ n *Node }

// Operator is what the side door may ask for, without the door.
func (n *Node) Operator() admin.Operator { return operator{n} }

// askLoads asks all nodes how they are, in the order of the topology; nil for one
// that does not answer.
func (n *Node) askLoads(ctx context.Context, top *topology.Topology) []*load {
	ctx, cancel := context.WithTimeout(ctx, surveyLimit)
	defer cancel()
	out := make([]*load, len(top.Nodes))
	var wg sync.WaitGroup
	for i, m := range top.Nodes {
		if m.ID == n.id {
			out[i] = n.load()
			continue
		}
		wg.Go(func() {
			if a, err := n.askControl(ctx, m.ID, control{Load: &load{}}); err == nil {
				out[i] = a.Load
			}
		})
	}
	wg.Wait()
	return out
}

// loads is what a plan needs to know of the nodes.
func (n *Node) loads(ctx context.Context, top *topology.Topology) []topology.Load {
	return loadsOf(top, n.askLoads(ctx, top))
}

// loadsOf is that part of what all nodes have said.
func loadsOf(top *topology.Topology, said []*load) []topology.Load {
	out := make([]topology.Load, len(top.Nodes))
	for i, l := range said {
		out[i] = topology.Load{Node: top.Nodes[i].ID}
		if l != nil {
			out[i].Alive, out[i].Bytes, out[i].Used, out[i].Limit = true, l.Bytes, l.Used, l.Limit
		}
	}
	return out
}

// find is the node that an operator means: by its id, a unique beginning of it,
// or its address for other nodes.
func (n *Node) find(top *topology.Topology, name string) (unkai.NodeID, error) {
	var found, there []unkai.NodeID
	where := n.book.nodes()
	for _, m := range top.Nodes {
		switch id := m.ID.String(); {
		case name == "":
		case id == name:
			return m.ID, nil
		case where[m.ID].Peer == name:
			there = append(there, m.ID)
		case strings.HasPrefix(id, name):
			found = append(found, m.ID)
		}
	}
	switch {
	case len(there) == 1:
		return there[0], nil
	case len(there) > 1: // one may have come in the place of another
		return 0, fmt.Errorf("%w: %d nodes were last seen at %s: give the id, which is one of %s", admin.ErrBadRequest, len(there), name, strings.Join(ids(there), ", "))
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return 0, fmt.Errorf("%w: the ids of %d nodes begin with %q", admin.ErrBadRequest, len(found), name)
	}
	if id, err := unkai.ParseNodeID(name); err == nil {
		for _, gone := range top.Removed {
			if gone == id {
				return 0, fmt.Errorf("%w: node %s is not a member any more: it was removed", admin.ErrBadRequest, name)
			}
		}
	}
	return 0, fmt.Errorf("%w: no node has the id, or a peer address, %q; unkai nodes shows them", admin.ErrBadRequest, name)
}

// change is what a wish means for the law.
func (n *Node) change(top *topology.Topology, w admin.Wish) (topology.Change, error) {
	c := topology.Change{Kind: topology.Kind(w.Kind), Weight: w.Weight, Zone: w.Zone, GiveUp: w.GiveUpLost}
	if w.Weight < 0 || w.Weight > maxWeight {
		return c, fmt.Errorf("%w: a weight is from 1 to %d", admin.ErrBadRequest, maxWeight)
	}
	if w.Zone != nil && len(*w.Zone) > maxZone {
		return c, fmt.Errorf("%w: a zone has at most %d bytes", admin.ErrBadRequest, maxZone)
	}
	if len(w.Nodes) > len(top.Nodes) {
		return c, fmt.Errorf("%w: %d nodes are named, and there are %d", admin.ErrBadRequest, len(w.Nodes), len(top.Nodes))
	}
	for _, name := range w.Nodes {
		id, err := n.find(top, name)
		if err != nil {
			return c, err
		}
		c.Nodes = append(c.Nodes, id)
	}
	return c, nil
}

// latest is the newest topology that this node and the managers know, as far as
// they answer: an operator at one node must not be told what is over, or not begun,
// because it has not heard of what was decided at another. Nil before there is one.
func (n *Node) latest(ctx context.Context) *topology.Topology {
	top := n.topology()
	if top == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, surveyLimit)
	defer cancel()
	var wg sync.WaitGroup
	for _, id := range top.Managers {
		if id != n.id && n.alive(id) {
			wg.Go(func() {
				if err := n.managerRef.Load().Catch(ctx, id); err != nil {
					n.log.Debug("a manager did not tell its topology", "node", id.String(), "err", err)
				}
			})
		}
	}
	wg.Wait()
	return n.topology()
}

// Plan implements admin.Operator.
func (o operator) Plan(ctx context.Context, w admin.Wish) (admin.Plan, error) {
	top := o.n.latest(ctx)
	if top == nil {
		return admin.Plan{}, errNoTopology
	}
	c, err := o.n.change(top, w)
	if err != nil {
		return admin.Plan{}, err
	}
	asked := o.n.askLoads(ctx, top)
	loads := loadsOf(top, asked)
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
	out := o.n.describePlan(top, &p, loads)
	out.Warnings = append(out.Warnings, o.n.warnOfClients(top, &p, asked)...)
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
func (o operator) Begin(ctx context.Context, w admin.Wish) (admin.Job, error) {
	top := o.n.latest(ctx)
	if top == nil {
		return admin.Job{}, errNoTopology
	}
	c, err := o.n.change(top, w)
	if err != nil {
		return admin.Job{}, err
	}
	loads := o.n.loads(ctx, top)
	next, err := o.n.decide(ctx, func(t *topology.Topology) (topology.Topology, error) {
		if w.Epoch != 0 && uint32(t.Epoch) != w.Epoch && t.Job == nil {
			return topology.Topology{}, fmt.Errorf("%w: the cluster has changed since the plan was made (epoch %d, now %d); look at a new one", admin.ErrConflict, w.Epoch, t.Epoch)
		}
		if err := harm(t, c, w, loads); err != nil {
			return topology.Topology{}, err
		}
		if idle(t, c, loads) != "" {
			return topology.Topology{}, errIdle
		}
		next, err := t.Begin(c, t.Sizes(loads), o.n.cfg.Now(), topology.Away(loads)...)
		if err != nil {
			err = refusal(t, err)
		}
		return next, err
	})
	if errors.Is(err, errIdle) {
		return o.n.alreadyBegun(top, c), nil
	}
	if err != nil {
		if top := o.n.latest(ctx); already(top, c) != "" {
			return o.n.alreadyBegun(top, c), nil
		}
		return admin.Job{}, err
	}
	if w.GiveUpLost {
		o.n.log.Warn("an operator has given up what dead nodes held: some keys may have lost what was acknowledged", "job", next.Job.ID, "nodes", ids(next.Job.Nodes))
	}
	return o.n.describeJob(next, next.Job), nil
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

func (n *Node) decide(ctx context.Context, f func(*topology.Topology) (topology.Topology, error)) (*topology.Topology, error) {
	ctx, cancel := context.WithTimeout(ctx, changeLimit)
	defer cancel()
	return n.alter(ctx, f)
}

// Jobs implements admin.Operator.
func (o operator) Jobs(ctx context.Context) (admin.Jobs, error) {
	top := o.n.topology()
	if top == nil {
		return admin.Jobs{}, errNoTopology
	}
	jobs := o.n.describeJobs(top)
	if jobs.Running != nil {
		jobs.Running.Slowed = o.n.slowed(ctx, top)
	}
	return jobs, nil
}

// Steer implements admin.Operator.
func (o operator) Steer(ctx context.Context, order admin.Order) (admin.Jobs, error) {
	top := o.n.latest(ctx)
	if top == nil {
		return admin.Jobs{}, errNoTopology
	}
	var away []unkai.NodeID
	for _, m := range top.Nodes {
		if !o.n.here(m.ID) {
			away = append(away, m.ID)
		}
	}
	next, err := o.n.decide(ctx, func(t *topology.Topology) (topology.Topology, error) {
		if order.Job != 0 && (t.Job == nil || t.Job.ID != order.Job) {
			return topology.Topology{}, fmt.Errorf("%w: job %d does not run", admin.ErrConflict, order.Job)
		}
		next, err := steer(t, order, o.n.cfg.Now(), away)
		if err != nil && !errors.Is(err, admin.ErrBadRequest) {
			err = fmt.Errorf("%w: %s", admin.ErrConflict, strings.TrimPrefix(err.Error(), "topology: "))
		}
		return next, err
	})
	if err != nil {
		return admin.Jobs{}, err
	}
	return o.n.describeJobs(next), nil
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
		if after == nil || *after != 0 && !(*after >= minAutoReplace.Seconds() && *after <= maxAutoReplace.Seconds()) {
			return topology.Topology{}, fmt.Errorf("%w: a dead node is replaced after %v to %v, or never: 0", admin.ErrBadRequest, minAutoReplace, maxAutoReplace)
		}
		return t.ReplaceAfter(int64(*after * 1000))
	}
	return topology.Topology{}, fmt.Errorf("%w: %q is none of pause, resume, cancel, throttle, auto-replace", admin.ErrBadRequest, o.Do)
}
