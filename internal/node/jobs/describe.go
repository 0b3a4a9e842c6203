package jobs

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"unkai"
	"unkai/internal/admin"
	"unkai/internal/core/topology"
)

func ids(list []unkai.NodeID) []string {
	out := make([]string, len(list))
	for i, id := range list {
		out[i] = id.String()
	}
	return out
}

func (o *Operator) describePlan(top *topology.Topology, p *topology.Plan, loads []topology.Load) admin.Plan {
	out := admin.Plan{
		Kind: string(p.Kind), Nodes: ids(p.Change.Nodes), Peers: o.peers(p.Change.Nodes), Weight: p.Weight, Zone: p.Zone, Epoch: uint32(p.Epoch),
		Moves: admin.Amount(p.Amount), Throttle: top.Throttle, Seconds: float64(p.Milliseconds) / 1000, SecondsBy: string(p.Pace), GivenUp: p.GivenUp,
		Flows: make([]admin.Flow, len(p.Flows)), Shares: make([]admin.Share, len(p.Nodes)),
	}
	q := &out.Quorum
	q.Before.N, q.Before.R, q.Before.W = top.Quorum()
	q.After.N, q.After.R, q.After.W = p.Quorum()
	out.Survives = admin.Survived{Before: p.Before, During: p.During, After: p.After}
	out.SurvivesZones = (*admin.Survived)(p.Zones)
	for i, f := range p.Flows {
		out.Flows[i] = admin.Flow{To: f.To.String(), ToPeer: o.cfg.Nodes.Peer(f.To), Buckets: f.Amount.Buckets, Bytes: f.Amount.Bytes}
		if f.From != 0 {
			out.Flows[i].From, out.Flows[i].FromPeer = f.From.String(), o.cfg.Nodes.Peer(f.From)
		}
	}
	for i, s := range p.Nodes {
		to := &out.Shares[i]
		*to = admin.Share{
			Node: s.Node.String(), Peer: o.cfg.Nodes.Peer(s.Node), State: s.State.String(), Weight: s.Weight,
			Before: s.Before, After: s.After, Ideal: s.Ideal, IdealBefore: s.IdealBefore,
			Bytes: admin.Volume{Before: s.BytesBefore, Peak: s.BytesPeak, After: s.BytesAfter},
			Store: admin.Volume{Before: s.UsedBefore, Peak: s.UsedPeak, After: s.UsedAfter},
		}
		if s.State == topology.Leaving {
			to.State = "removed"
		}
	}
	out.Warnings = warnings(top, p, loads)
	return out
}

// whose replicas a plan gives up.
func whose(p *topology.Plan) string {
	if len(p.Change.Nodes) == 0 {
		return "a disk or a memory that was lost"
	}
	return strings.Join(ids(p.Change.Nodes), " or ")
}

// whyUneven is why nodes do not have the share that their weights ask for.
func whyUneven(p *topology.Plan) string {
	switch {
	case p.Kind == topology.KindReplace:
		return "only what the old node holds moves; unkai rebalance makes the shares even"
	case p.Zones != nil:
		return "the replicas of a key are in different zones, and the zones differ in weight"
	}
	return "some buckets cannot move"
}

// warnings are what somebody should know before they agree to a plan.
func warnings(top *topology.Topology, p *topology.Plan, loads []topology.Load) []string {
	out := []string{}
	warn := func(when bool, format string, args ...any) {
		if when {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	before, _, _ := top.Quorum()
	after, _, _ := p.Quorum()
	warn(p.GivenUp > 0, "%d of %d buckets GIVE UP the replicas that they have lost: writes that were acknowledged and are on no other replica ARE LOST FOR GOOD; never do this while %s may come back", p.GivenUp, top.Buckets, whose(p))
	lost := top.Lost()
	warn(lost > 0 && !p.GiveUp, "%d buckets have lost their quorum for good and stay where they are; unkai rebalance --give-up-lost lets them go on with what is left", lost)
	warn(after < before, "fewer than %d nodes are left: each key will have %d replicas instead of %d", top.N, after, before)
	warn(p.After < p.Before, "afterwards %d nodes may fail, instead of %d", max(p.After, 0), max(p.Before, 0))
	warn(p.During < p.Before, "while it runs %d nodes may fail, instead of %d", max(p.During, 0), max(p.Before, 0))
	if z := p.Zones; z != nil {
		warn(z.After < z.Before, "afterwards %d zones may fail, instead of %d", max(z.After, 0), max(z.Before, 0))
	}
	for _, s := range p.Uneven() {
		zone := ""
		if s.Zone != "" {
			zone = fmt.Sprintf(" of zone %q", s.Zone)
		}
		warn(true, "afterwards node %v%s holds %.0f %% of what its weight asks for: %s", s.Node, zone, 100*float64(s.After)/s.Ideal, whyUneven(p))
	}
	warn(p.Waiting > 0, "%d buckets have too few replicas that are alive; they wait until more are", p.Waiting)
	warn(p.Stopped > 0, "%d buckets that are read and written now stay where they are until more nodes of those they go to are alive, and it does not end before that; it does not begin without --force", p.Stopped)
	for _, id := range p.Roomless {
		full := ""
		if slices.ContainsFunc(loads, func(l topology.Load) bool { return l.Node == id && l.Full }) {
			full = "is full and "
		}
		warn(true, "node %v %shas too little room for what it would get", id, full)
	}
	for _, l := range loads {
		warn(!l.Alive, "node %v does not answer; what it holds is guessed", l.Node)
	}
	return out
}

// Describe tells of all jobs that a topology knows of.
func (o *Operator) Describe(top *topology.Topology) admin.Jobs {
	out := admin.Jobs{Epoch: uint32(top.Epoch), Throttle: top.Throttle, AutoReplace: patience(top).Seconds(), Ended: make([]admin.Job, len(top.History))}
	if top.Job != nil {
		j := o.describeJob(top, top.Job)
		out.Running = &j
	}
	for i := range top.History {
		out.Ended[i] = o.describeJob(top, &top.History[i])
	}
	return out
}

func (o *Operator) describeJob(top *topology.Topology, j *topology.Job) admin.Job {
	out := admin.Job{
		ID: j.ID, Kind: string(j.Kind), Nodes: ids(j.Nodes), Peers: o.peers(j.Nodes), Weight: j.Weight, Zone: j.Zone, Auto: j.Auto, State: admin.JobRunning,
		Begun: j.Begun, Ended: j.Ended, Planned: admin.Amount(j.Planned), Moved: admin.Amount(j.Moved),
		Expected: float64(j.Expected) / 1000, Rested: float64(j.Rested) / 1000,
	}
	for _, id := range j.Missed {
		out.Missed = append(out.Missed, o.called(id))
	}
	switch {
	case j.Ended != 0 && j.Outcome == topology.Cancelled:
		out.State = admin.JobCancelled
	case j.Ended != 0:
		out.State, out.Progress = admin.JobDone, 1
		return out
	case j.Outcome == topology.Cancelled:
		out.State = admin.JobCancelling
	case j.Paused:
		out.State = admin.JobPaused
	}
	switch moved, planned := work(j); {
	case planned > 0:
		out.Progress = min(1, float64(moved)/float64(planned))
	case !j.Held:
		out.Progress = 1 // nothing moves
	}
	if j.Ended != 0 {
		return out
	}
	now := o.cfg.Now()
	if j.Since != 0 {
		out.Rested += float64(max(0, now-j.Since)) / 1000
	}
	var stuck bool
	out.Waits, stuck = o.waits(top)
	o.progress.note(top, now)
	speed, bytes := o.progress.speed(j, now)
	out.Rate = bytes * 1000
	if out.State == admin.JobRunning && !stuck && speed > 0 {
		moved, planned := work(j)
		out.Left = float64(planned-moved) / speed / 1000
	}
	return out
}

// waits is what the running job waits for. It is stuck when that is somebody, and not
// only some time.
func (o *Operator) waits(top *topology.Topology) (out []string, stuck bool) {
	wait := func(when bool, format string, args ...any) {
		if when {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	alive := 0
	for _, id := range top.Managers {
		if o.cfg.Nodes.Here(id) {
			alive++
		}
	}
	stuckFor := func(when bool, format string, args ...any) {
		wait(when, format, args...)
		stuck = stuck || when
	}
	stuckFor(2*alive <= len(top.Managers), "more managers: %d of %d are alive", alive, len(top.Managers))
	stuckFor(top.Job.Paused, "an operator: it is paused")
	lost := top.Lost()
	wait(lost > 0, "%d buckets that have lost their quorum for good: see --give-up-lost of unkai detach", lost)
	full := Crammed(top, o.cfg.Nodes.Full)
	for _, id := range full {
		stuckFor(true, "room at node %s, which is full (make room there, or unkai job cancel)", o.called(id))
	}
	var short, joining, leaving, due, refused, fewer int
	for b := range top.Buckets {
		r := top.Route(unkai.Bucket(b))
		switch {
		case len(top.Sets[b].Due) > 0:
			due++
			continue
		case !r.Moving:
			continue
		case !r.Joining:
			leaving++
			continue
		}
		joining++
		present, other := 0, 0
		for i, id := range r.Members {
			if o.cfg.Nodes.Here(id) && r.Write.Present.Members.Has(i) {
				present++
			}
			if o.cfg.Nodes.Here(id) && r.Write.Joining.Members.Has(i) {
				other++
			}
		}
		newcomers := r.Members[r.Write.Present.Members.Count():]
		absent := slices.ContainsFunc(newcomers, func(id unkai.NodeID) bool { return !o.cfg.Nodes.Here(id) })
		if absent || present < r.Write.Present.Need || other < r.Write.Joining.Need {
			short++
		} else if slices.ContainsFunc(newcomers, func(id unkai.NodeID) bool { return slices.Contains(full, id) }) {
			refused++
		} else if r.Write.Joining.Members&^r.Write.Present.Members == 0 {
			fewer++
		}
	}
	var gone []unkai.NodeID
	for _, m := range top.Nodes {
		if !o.cfg.Nodes.Here(m.ID) {
			gone = append(gone, m.ID)
		}
	}
	away := make([]string, len(gone))
	for i, id := range gone {
		away[i] = o.called(id)
	}
	stay := 0 // though their turn has come
	if !top.Job.Paused {
		stay = due - len(top.Turn(2*top.Buckets, gone...))
	}
	stuckFor(short+stay > 0, "replicas of %d buckets that are away: %s%s", short+stay, strings.Join(away, ", "), forbears(top, gone))
	brought := joining - short - refused - fewer
	wait(brought > 0, "%d buckets to be brought to their new replicas", brought)
	wait(fewer > 0, "%d buckets whose replicas are compared before some of them go", fewer)
	wait(due > stay, "the turn of %d more buckets", due-stay)
	back := top.Back(gone...)
	wait(back > 0, "%d buckets that were sent back to set out again, when the others have arrived", back)
	wait(leaving > 0, "old replicas to hear that %d buckets are read elsewhere now", leaving)
	if top.Job.Held && top.Moving() == 0 {
		strays := slices.DeleteFunc(slices.Clone(top.Nodes), func(m topology.Node) bool { return len(top.Strayed(m.Seat)) == 0 })
		for _, m := range strays {
			wait(true, "node %s to forget what it held before of %d buckets%s", o.called(m.ID), len(top.Strayed(m.Seat)), forbears(top, gone))
		}
	}
	return append(out, o.farewells(top)...), stuck
}

// forbears says for how long the running job waits for newcomers that are gone, when it is
// cancelled by itself after that.
func forbears(top *topology.Topology, gone []unkai.NodeID) string {
	missed := func(id unkai.NodeID) bool { return slices.Contains(gone, id) }
	if j := top.Job; !j.Auto || j.Paused || j.Outcome != topology.Running || !slices.ContainsFunc(top.Awaited(), missed) {
		return ""
	}
	return fmt.Sprintf("; it is cancelled by itself when one that gets buckets has been silent for %v", time.Duration(top.Forbearance())*time.Millisecond)
}

// patience is how long a node may be silent before it counts as dead.
func patience(top *topology.Topology) time.Duration {
	return time.Duration(top.AutoReplace) * time.Millisecond
}
