package topology

import (
	"errors"
	"fmt"
	"slices"

	"unkai"
)

// Kind is what a change is about.
type Kind string

// The kinds of changes that move buckets.
const (
	KindAttach    Kind = "attach"
	KindDetach    Kind = "detach"
	KindReplace   Kind = "replace"
	KindWeigh     Kind = "weigh"
	KindRebalance Kind = "rebalance"
)

// Change is what somebody wants of the nodes.
type Change struct {
	Kind Kind `json:"kind"`
	// Nodes that it is about; for replace the old one and the new one.
	Nodes []unkai.NodeID `json:"nodes,omitempty"`
	// Weight and Zone of the nodes that are weighed; 0 and nil leave them.
	Weight int     `json:"weight,omitempty"`
	Zone   *string `json:"zone,omitempty"`
	// GiveUp says that what the nodes which are detached hold, and what incarnations
	// that have passed held, will never come back: buckets that have lost their
	// quorum so go on with the replicas that are left. For detach and rebalance.
	GiveUp bool `json:"give_up,omitempty"`
	// Full are nodes that have no room for more and get no bucket that they do not hold, as
	// far as others can take it.
	Full []unkai.NodeID `json:"full,omitempty"`
}

// Job is a change that is under way, or was. All that is known of it is in the
// topology, so that any steward can go on with it.
type Job struct {
	ID int `json:"id"`
	Change
	Auto    bool   `json:"auto,omitempty"` // nobody has asked for it
	Begun   int64  `json:"begun"`          // milliseconds since 1970
	Ended   int64  `json:"ended,omitempty"`
	Planned Amount `json:"planned"`
	Moved   Amount `json:"moved"` // so far
	// Expected is how many milliseconds it was thought to take, without pauses; 0:
	// nobody knew.
	Expected int64 `json:"expected,omitempty"`
	Paused   bool  `json:"paused,omitempty"`
	// Rested is for how many milliseconds it was paused, and Since when it was last.
	Rested int64 `json:"rested,omitempty"`
	Since  int64 `json:"since,omitempty"`
	// Throttled says that there was a throttle, at least for a while.
	Throttled bool    `json:"throttled,omitempty"`
	Outcome   Outcome `json:"outcome,omitempty"` // also while a cancelled job comes to its end
	// Missed are the silent nodes for which the cluster itself has cancelled it; none: an
	// operator has.
	Missed []unkai.NodeID `json:"missed,omitempty"`
	// Held says that buckets could not set out with the others, because a node
	// had yet to forget its last time in their sets.
	Held bool `json:"held,omitempty"`

	Before []Node `json:"before,omitempty"` // the nodes it is about, for Cancel
	// Passed are the seats that the new node of a replace has had since it began.
	Passed []unkai.Seat `json:"passed,omitempty"`
}

// Outcome is how a job ended.
type Outcome string

// The outcomes. A job that runs has none.
const (
	Running   Outcome = ""
	Done      Outcome = "done"
	Cancelled Outcome = "cancelled"
)

// without are the seats of a that b does not have.
func without(a, b []unkai.Seat) (out []unkai.Seat) {
	for _, s := range a {
		if !slices.Contains(b, s) {
			out = append(out, s)
		}
	}
	return out
}

// maxHistory is how many jobs that have ended are remembered.
const maxHistory = 16

// Errors of jobs.
var (
	// ErrBusy says that another job is running.
	ErrBusy = errors.New("one job at a time")
	// ErrIdle says that none is.
	ErrIdle = errors.New("topology: no job is running")
	// ErrForgetting says that a plan cannot be made yet.
	ErrForgetting = errors.New("a node that shall hold them has yet to forget what it held of them before; try again when it is alive")
)

// Apply is the topology in which what a change wants is on its way. Nodes that are
// gone, as far as somebody can tell, do not become managers while others can.
func (t *Topology) Apply(c Change, gone ...unkai.NodeID) (Topology, error) {
	from, given := t, 0
	if c.GiveUp {
		left, lost, err := t.giveUp(c, gone)
		if err != nil {
			return Topology{}, err
		}
		from, given = &left, lost
	}
	next, err := from.apply(c)
	if err == nil && c.GiveUp {
		next.given = given
		err = next.allHeld()
	}
	if err != nil || len(gone) == 0 {
		return next, err
	}
	return next, next.reelect(t.Managers, gone)
}

func (t *Topology) apply(c Change) (Topology, error) {
	from := *t
	from.full = c.Full
	t = &from
	for i, id := range c.Nodes {
		if slices.Contains(c.Nodes[:i], id) {
			return Topology{}, fmt.Errorf("topology: node %v is named twice", id)
		}
	}
	switch c.Kind {
	case KindAttach:
		return t.applyAttach(c)
	case KindDetach:
		if len(c.Nodes) > 0 {
			return t.Detach(c.Nodes...)
		}
	case KindReplace:
		if len(c.Nodes) == 2 {
			return t.Replace(c.Nodes[0], c.Nodes[1])
		}
		return Topology{}, errors.New("topology: name the node to replace, and the one that takes its place")
	case KindWeigh:
		if len(c.Nodes) > 0 {
			return t.Weigh(c)
		}
	case KindRebalance:
		return t.Rebalance()
	default:
		return Topology{}, fmt.Errorf("topology: %q is no kind of change", c.Kind)
	}
	return Topology{}, fmt.Errorf("topology: name the nodes to %s", c.Kind)
}

func (t *Topology) applyAttach(c Change) (Topology, error) {
	if len(c.Nodes) == 0 {
		return Topology{}, errors.New("topology: name the nodes to attach")
	}
	for _, id := range c.Nodes {
		if n, ok := t.Node(id); ok && n.State != Recognised {
			return Topology{}, fmt.Errorf("topology: node %v is %v already", id, n.State)
		}
	}
	return t.Attach(c.Nodes...)
}

// Begin is the topology in which a change is a job that runs. Size gives what a
// bucket is thought to hold; nil: nobody knows. For gone see Apply.
func (t *Topology) Begin(c Change, size func(unkai.Bucket) int64, now int64, gone ...unkai.NodeID) (Topology, error) {
	ending := t.Job != nil && c.GiveUp && t.Job.Outcome == Cancelled // which it may never do otherwise
	if j := t.Job; j != nil && !ending {
		return Topology{}, fmt.Errorf("topology: job %d is running (%s): %w", j.ID, j.Kind, ErrBusy)
	}
	next, err := t.Apply(c, gone...)
	if err != nil {
		return Topology{}, err
	}
	if ending {
		next.end(now)
	}
	next.Jobs++
	next.Job = &Job{ID: next.Jobs, Change: c, Begun: now, Held: next.held > 0}
	for _, id := range c.Nodes {
		if n, ok := t.Node(id); ok {
			next.Job.Before = append(next.Job.Before, n)
		}
	}
	next.plan(size)
	next.expect(size, gone)
	next.queue(t)
	return next, nil
}

// end puts the job to those that have ended.
func (t *Topology) end(now int64) {
	j := t.Job
	if j.Outcome == Running {
		j.Outcome = Done
	}
	j.rest(now)
	j.Ended, j.Paused, j.Held, j.Before, j.Passed = now, false, false, nil, nil
	t.History = append(t.History, *j)
	if more := len(t.History) - maxHistory; more > 0 {
		t.History = t.History[more:]
	}
	t.Job = nil
}

// running is a copy with the next epoch whose job runs.
func (t *Topology) running() (Topology, error) {
	if t.Job == nil {
		return Topology{}, ErrIdle
	}
	if t.Job.Outcome != Running {
		return Topology{}, fmt.Errorf("topology: job %d has been %s; what was switched before comes to its end", t.Job.ID, t.Job.Outcome)
	}
	return t.next(), nil
}

// Pause is the topology in which no more is brought for the job that runs. What
// is on its way stays so.
func (t *Topology) Pause(now int64) (Topology, error) {
	next, err := t.running()
	if err == nil && !next.Job.Paused {
		next.Job.Paused, next.Job.Since = true, now
	}
	return next, err
}

// Resume is the topology in which the job that runs goes on.
func (t *Topology) Resume(now int64) (Topology, error) {
	next, err := t.running()
	if err == nil {
		next.Job.Paused = false
		next.Job.rest(now)
	}
	return next, err
}

// Limit is the topology in which nodes bring so many bytes in a second at most;
// 0: as many as they can.
func (t *Topology) Limit(throttle int64) (Topology, error) {
	if throttle < 0 {
		return Topology{}, fmt.Errorf("topology: nothing can be brought at %d bytes in a second", throttle)
	}
	next := t.next()
	next.Throttle = throttle
	if next.Job != nil {
		next.Job.Throttled = next.Job.Throttled || throttle > 0
	}
	return next, nil
}

// ReplaceAfter is the topology in which a dead node's share is brought to others by
// itself after so many milliseconds; 0: never.
func (t *Topology) ReplaceAfter(silence int64) (Topology, error) {
	if silence != 0 && silence < MinAutoReplace {
		return Topology{}, fmt.Errorf("topology: a node is not dead after %d milliseconds; want %d at least, or 0 for never", silence, MinAutoReplace)
	}
	next := t.next()
	next.AutoReplace = silence
	return next, nil
}
