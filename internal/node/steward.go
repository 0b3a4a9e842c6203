package node

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"unkai"
	"unkai/internal/core/topology"
)

const (
	// stewardLooks is how often the steward looks whether the topology should
	// change.
	stewardLooks = 250 * time.Millisecond
	// stewardSoon is how soon it looks again while something is on its way. When that
	// lasts, it looks less often: after a quarter of the time since the last change.
	stewardSoon = 10 * time.Millisecond
	// stewardParts is after what time it does a part of what is to be done: each change
	// costs every node some work.
	stewardParts = time.Second
)

// errNothing: the topology is as it should be.
var errNothing = errors.New("nothing to change")

// steward brings the topology forward: it attaches nodes that have joined, and
// takes each job to its end. Every node has one, and that of the first manager
// alive works; all that it needs to know is in the topology. Should two work at
// once, the managers decide one change after the other all the same.
type steward struct {
	n       *Node
	joined  map[unkai.NodeID]time.Time // recognised, and alive since
	silent  map[unkai.NodeID]time.Time // not alive since
	watched time.Time                  // last
	heeded  int                        // the job that had ended last
	refused string                     // why a dead node is not replaced; said once
	waiting string                     // why nodes that joined are not attached; said once
	replace seldom                     // whether one may be replaced
	join    seldom                     // whether they may be attached
	emptied []unkai.NodeID             // leaving nodes that hold nothing any more
	stayed  time.Time                  // since when they stay
	looked  unkai.Epoch                // whether there is something to heal
	epoch   unkai.Epoch                // that was seen last
	since   time.Time                  // when it was seen first
}

// pause is after what time to look again.
func (s *steward) pause(top *topology.Topology) time.Duration {
	switch {
	case top.Moving() == 0 && !top.Straying() && (top.Job == nil || top.Job.Paused):
		return stewardLooks
	case top.Epoch != s.epoch: // it has just changed
		return stewardSoon
	}
	return min(max(time.Since(s.since)/4, stewardSoon), stewardLooks)
}

func (n *Node) runSteward(ctx context.Context) {
	s := &steward{n: n, joined: map[unkai.NodeID]time.Time{}, silent: map[unkai.NodeID]time.Time{}}
	// Never at the very moment of a greeting, which tells what it has found: in the
	// simulation either would come first now and then.
	next := time.NewTimer(stewardLooks + time.Millisecond)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		top := n.topology()
		s.watch(top)
		n.progress.note(top, n.cfg.Now())
		if top.Epoch != s.epoch || s.since.IsZero() {
			s.epoch, s.since = top.Epoch, time.Now()
		}
		lead := n.isSteward(top)
		n.sight.leading(lead, n.cfg.Now())
		if lead {
			s.step(ctx, top)
			n.prospects.told(n.id, s.foresee(n.topology()))
		} else {
			clear(s.joined) // of which only who works keeps count
			s.emptied = nil
		}
		s.watched = time.Now()
		pause := stewardLooks
		if lead {
			pause = s.pause(n.topology())
		}
		// From now on: this node's mover has to hear of what was decided, too.
		next.Reset(pause)
	}
}

// isSteward reports whether this node is the first manager that is alive.
func (n *Node) isSteward(top *topology.Topology) bool {
	return n.leader(top) == n.id
}

func (s *steward) step(ctx context.Context, top *topology.Topology) {
	if s.n.manager.Pending() {
		ctx, cancel := context.WithTimeout(ctx, changeLimit)
		defer cancel()
		if err := s.n.manager.Finish(ctx); err != nil {
			s.n.log.Warn("a proposed topology could not be decided; it will be tried again", "err", err)
		}
		return
	}
	s.replaceManagers(ctx, top)
	if top.Moving() > 0 {
		s.proceed(ctx, top)
		return
	}
	switch {
	case s.forget(ctx, top):
	case top.Job != nil:
		s.advance(ctx, top)
	case s.depart(ctx, top):
	case s.attach(ctx, top):
	case s.heal(ctx, top):
	default:
		s.replaceDead(ctx, top)
	}
}

// advance takes a job of which nothing is on its way forward, which mostly is to
// its end.
func (s *steward) advance(ctx context.Context, top *topology.Topology) {
	next, ok := top.Advance(nil, 0)
	if !ok || next.Job == nil && s.farewell(ctx, top) {
		return // it waits
	}
	loads := s.n.loads(ctx, top)
	size := top.Sizes(loads)
	s.change(ctx, top, "a job goes on", func(t *topology.Topology) (topology.Topology, error) {
		next, ok := t.Advance(size, s.n.cfg.Now(), topology.Away(loads)...)
		if !ok {
			return topology.Topology{}, errNothing
		}
		return next, nil
	})
}

// forget notes who has forgotten what it held of buckets that others hold now.
// It reports whether that changed anything.
func (s *steward) forget(ctx context.Context, top *topology.Topology) bool {
	if !top.Straying() {
		return false
	}
	forgot := map[unkai.Seat][]unkai.Bucket{}
	strays := slices.DeleteFunc(slices.Clone(top.Nodes), func(m topology.Node) bool {
		return !s.n.here(m.ID) || len(top.Strayed(m.Seat)) == 0
	})
	for seat, a := range s.ask(ctx, top, strays) {
		if len(a.Forgot) > 0 {
			forgot[seat] = a.Forgot
		}
	}
	told := 0
	for _, list := range forgot {
		told += len(list)
	}
	left := 0
	for _, m := range strays {
		left += len(top.Strayed(m.Seat))
	}
	if told == 0 || told < left && time.Since(s.since) < stewardParts {
		return false
	}
	return s.change(ctx, top, "buckets were forgotten where they are held no more", func(t *topology.Topology) (topology.Topology, error) {
		return t.Forgot(forgot), nil
	})
}

// depart lets nodes leave that have nothing left.
func (s *steward) depart(ctx context.Context, top *topology.Topology) bool {
	if len(top.Departing()) == 0 || s.farewell(ctx, top) {
		return false
	}
	return s.change(ctx, top, "remove nodes", func(t *topology.Topology) (topology.Topology, error) {
		next, ok := t.Depart()
		if !ok {
			return topology.Topology{}, errNothing
		}
		return next, nil
	})
}

// begin begins a job that nobody has asked for.
func (s *steward) begin(ctx context.Context, top *topology.Topology, c topology.Change, loads []topology.Load) bool {
	size := top.Sizes(loads)
	return s.change(ctx, top, string(c.Kind)+" nodes", func(t *topology.Topology) (topology.Topology, error) {
		next, err := t.Begin(c, size, s.n.cfg.Now(), topology.Away(loads)...)
		if err == nil {
			next.Job.Auto = true
		}
		return next, err
	})
}

// change has what f makes of a topology, unless there is a newer one: then it is
// time to look again. It reports whether it was decided.
func (s *steward) change(ctx context.Context, top *topology.Topology, what string, f func(*topology.Topology) (topology.Topology, error)) bool {
	ctx, cancel := context.WithTimeout(ctx, changeLimit)
	defer cancel()
	next, err := s.n.alter(ctx, func(t *topology.Topology) (topology.Topology, error) {
		if t.Epoch != top.Epoch {
			return topology.Topology{}, errNothing
		}
		return f(t)
	})
	switch {
	case errors.Is(err, errNothing):
	case err != nil:
		s.n.log.Warn("the topology could not be changed; it will be tried again", "change", what, "err", err)
	default:
		level := slog.LevelDebug
		if notable(top, next) {
			level = slog.LevelInfo
		}
		s.n.log.Log(ctx, level, "topology changed", "change", what, "epoch", next.Epoch, "nodes", len(next.Nodes), "moving", next.Moving(), "managers", len(next.Managers))
	}
	return err == nil
}

// notable reports whether a change is of what operators know: nodes, managers, and which
// job runs. A job is many others.
func notable(before, after *topology.Topology) bool {
	job := func(t *topology.Topology) int {
		if t.Job == nil {
			return 0
		}
		return t.Job.ID
	}
	return job(before) != job(after) || !slices.Equal(before.Nodes, after.Nodes) || !slices.Equal(before.Managers, after.Managers)
}
