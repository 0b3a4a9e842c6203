// Package steward brings the topology forward by itself: it attaches nodes that have
// joined, takes each job to its end, and has others take the place of the dead.
package steward

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
	// lookEvery is how often a steward looks whether the topology should
	// change.
	lookEvery = 250 * time.Millisecond
	// lookSoon is how soon it looks again while something is on its way. When that
	// lasts, it looks less often: after a quarter of the time since the last change.
	lookSoon = 10 * time.Millisecond
	// partsAfter is after what time it does a part of what is to be done: each change
	// costs every node some work.
	partsAfter = time.Second
)

// errNothing: the topology is as it should be.
var errNothing = errors.New("nothing to change")

// changeLimit is how long it tries to have a change decided.
const changeLimit = 10 * time.Second

// Steward brings the topology forward: it attaches nodes that have joined, and
// takes each job to its end. Every node has one, and that of the first manager
// that serves works; all that it needs to know is in the topology. Should two work at
// once, for a moment or because they do not see the same nodes, the managers decide one
// change after the other all the same, each made of the one before.
type Steward struct {
	cfg     Config
	joined  map[unkai.NodeID]time.Time // recognised, and alive since
	silent  map[unkai.NodeID]time.Time // not alive since
	watched time.Time                  // last
	heeded  int                        // the job that had ended last
	refused string                     // why a dead node is not replaced; said once
	waiting string                     // why nodes that joined are not attached; said once
	chosen  chosen                     // in the place of a dead node
	replace seldom                     // whether one may be replaced
	join    seldom                     // whether they may be attached
	mend    seldom                     // whether gaps may be filled
	emptied []unkai.NodeID             // leaving nodes that hold nothing any more
	stayed  time.Time                  // since when they stay
	looked  unkai.Epoch                // whether there is something to heal
	epoch   unkai.Epoch                // that was seen last
	since   time.Time                  // when it was seen first
}

// New makes one that has seen nothing.
func New(cfg Config) *Steward {
	return &Steward{cfg: cfg, joined: map[unkai.NodeID]time.Time{}, silent: map[unkai.NodeID]time.Time{}}
}

// Run looks at the topology now and then, and works when it is this node's turn, until
// ctx ends.
func (s *Steward) Run(ctx context.Context) {
	// Never at the very moment of a greeting, which tells what it has found: in the
	// simulation either would come first now and then.
	next := time.NewTimer(lookEvery + time.Millisecond)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		top := s.cfg.Managers.Topology()
		s.watch(top)
		if top.Epoch != s.epoch || s.since.IsZero() {
			s.epoch, s.since = top.Epoch, time.Now()
		}
		works := Leader(top, s.cfg.Nodes.Serves(top), s.cfg.Nodes.Here) == s.cfg.Self
		s.cfg.Looks(top, works)
		if works {
			s.step(ctx, top)
			s.cfg.Foresees(s.foresee(s.cfg.Managers.Topology()))
		} else {
			clear(s.joined) // of which only who works keeps count
		}
		s.watched = time.Now()
		pause := lookEvery
		if works {
			pause = s.pause(s.cfg.Managers.Topology())
		}
		// From now on: this node's mover has to hear of what was decided, too.
		next.Reset(pause)
	}
}

// pause is after what time to look again.
func (s *Steward) pause(top *topology.Topology) time.Duration {
	switch {
	case top.Moving() == 0 && !top.Straying() && (top.Job == nil || top.Job.Paused):
		return lookEvery
	case top.Epoch != s.epoch: // it has just changed
		return lookSoon
	}
	return min(max(time.Since(s.since)/4, lookSoon), lookEvery)
}

// Leader is the node whose steward works, as far as is known where some serve: the first
// manager that does. One that is only connected may be opening its store for long, and has
// no steward yet. Where no manager serves it is the first that is here; 0: none is.
func Leader(top *topology.Topology, serves, here func(unkai.NodeID) bool) unkai.NodeID {
	for _, able := range []func(unkai.NodeID) bool{serves, here} {
		if i := slices.IndexFunc(top.Managers, able); i >= 0 {
			return top.Managers[i]
		}
	}
	return 0
}

func (s *Steward) step(ctx context.Context, top *topology.Topology) {
	if s.cfg.Managers.Pending() {
		ctx, cancel := context.WithTimeout(ctx, changeLimit)
		defer cancel()
		if err := s.cfg.Managers.Finish(ctx); err != nil {
			s.cfg.Log.Warn("a proposed topology could not be decided; it will be tried again", "err", err)
		}
		return
	}
	s.replaceManagers(ctx, top)
	if s.abandon(ctx, top) {
		return
	}
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
func (s *Steward) advance(ctx context.Context, top *topology.Topology) {
	next, ok := top.Advance(nil, 0)
	if !ok || next.Job == nil && s.farewell(ctx, top) {
		return // it waits
	}
	loads := plain(s.cfg.Nodes.Loads(ctx, top))
	size := top.Sizes(loads)
	s.change(ctx, top, "a job goes on", func(t *topology.Topology) (topology.Topology, error) {
		next, ok := t.Advance(size, s.cfg.Now(), topology.Away(loads)...)
		if !ok {
			return topology.Topology{}, errNothing
		}
		return next, nil
	})
}

// forget notes who has forgotten what it held of buckets that others hold now.
// It reports whether that changed anything.
func (s *Steward) forget(ctx context.Context, top *topology.Topology) bool {
	if !top.Straying() {
		return false
	}
	forgot := map[unkai.Seat][]unkai.Bucket{}
	strays := slices.DeleteFunc(slices.Clone(top.Nodes), func(m topology.Node) bool {
		return !s.cfg.Nodes.Here(m.ID) || len(top.Strayed(m.Seat)) == 0
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
	if told == 0 || told < left && time.Since(s.since) < partsAfter {
		return false
	}
	return s.change(ctx, top, "buckets were forgotten where they are held no more", func(t *topology.Topology) (topology.Topology, error) {
		return t.Forgot(forgot), nil
	})
}

// depart lets nodes leave that have nothing left.
func (s *Steward) depart(ctx context.Context, top *topology.Topology) bool {
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
func (s *Steward) begin(ctx context.Context, top *topology.Topology, c topology.Change, loads []topology.Load) bool {
	size := top.Sizes(loads)
	if len(c.Full) > 0 {
		s.cfg.Log.Info("nodes that have no room for more get nothing by the job that begins; unkai rebalance makes the shares even when they have", "change", string(c.Kind), "nodes", ids(c.Full))
	}
	return s.change(ctx, top, string(c.Kind)+" nodes", func(t *topology.Topology) (topology.Topology, error) {
		next, err := t.Begin(c, size, s.cfg.Now(), topology.Away(loads)...)
		if err == nil {
			next.Job.Auto = true
		}
		return next, err
	})
}

// change has what f makes of a topology, unless there is a newer one: then it is
// time to look again. It reports whether it was decided.
func (s *Steward) change(ctx context.Context, top *topology.Topology, what string, f func(*topology.Topology) (topology.Topology, error)) bool {
	ctx, cancel := context.WithTimeout(ctx, changeLimit)
	defer cancel()
	next, err := s.cfg.Managers.Change(ctx, func(t *topology.Topology) (topology.Topology, error) {
		if t.Epoch != top.Epoch {
			return topology.Topology{}, errNothing
		}
		return f(t)
	})
	switch {
	case errors.Is(err, errNothing):
	case err != nil:
		s.cfg.Log.Warn("the topology could not be changed; it will be tried again", "change", what, "err", err)
	default:
		level := slog.LevelDebug
		if notable(top, next) {
			level = slog.LevelInfo
		}
		s.cfg.Log.Log(ctx, level, "topology changed", "change", what, "epoch", next.Epoch, "nodes", len(next.Nodes), "moving", next.Moving(), "managers", len(next.Managers))
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
