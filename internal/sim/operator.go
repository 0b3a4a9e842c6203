package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"unkai"
	"unkai/internal/admin"
	"unkai/internal/core/topology"
)

// How long the operator rests at most: while nothing runs, when a node is dead, after a
// job was begun or steered, and before a job that was paused goes on.
const (
	idle     = 12 * time.Second
	worried  = 3 * time.Second
	watching = 500 * time.Millisecond
	pausing  = 6 * time.Second
)

// operate has an operator give orders, now and then.
func (w *World) operate(rest time.Duration) {
	w.before(w.upTo(rest), "operator", func() {
		w.tally()
		next := idle
		top := w.newest()
		if top != nil && (top.Job != nil || rest != watching) {
			w.order(top)
			next = watching
		} else if top != nil && slices.ContainsFunc(top.Attached(), func(n topology.Node) bool { return w.endpointOf(n.ID) == nil }) {
			next = worried
		}
		w.operate(next)
	})
}

func (w *World) upTo(d time.Duration) time.Duration {
	return time.Duration(w.bus.rng.Int64N(int64(d)))
}

// order steers the job that runs, mostly, and begins one if none does.
func (w *World) order(top *topology.Topology) {
	r := w.bus.rng
	switch what := r.IntN(100); {
	case top.Job == nil && what < 8:
		w.repair()
	case top.Job == nil && what < 20:
		w.join(true) // a spare, for when it is needed
	case top.Job == nil:
		w.begin(w.draw(top))
	case what < 10:
		lead := w.leader(top)
		w.give(admin.Order{Do: "pause"})
		w.before(w.upTo(watching), "depose", func() { w.depose(lead) })
		w.bus.after(w.upTo(pausing), &event{name: "go on", do: func() { w.resume(lead) }})
	case what < 13:
		w.give(admin.Order{Do: "cancel"})
	case what < 22:
		w.give(admin.Order{Do: "throttle", Throttle: int64(r.IntN(3)) << 8})
	case what < 30:
		w.begin(w.draw(top))
	}
}

// resume lets a job that is paused go on, and comes back until it does. It was paused
// while a node led it.
func (w *World) resume(lead unkai.NodeID) {
	top := w.newest()
	if top != nil && (top.Job == nil || !top.Job.Paused) {
		return
	}
	if top != nil && lead != 0 && w.leader(top) != lead {
		w.did("paused across a change of lead")
		lead = 0 // it is noted
	}
	w.give(admin.Order{Do: "resume"})
	w.bus.after(watching, &event{name: "go on", do: func() { w.resume(lead) }})
}

// intent is a job as an operator thinks of it: its name, and one of each of these nodes.
type intent struct {
	name  string
	share int // of all that are drawn
	wish  admin.Wish
	of    [][]topology.Node
}

// draw is a job that makes sense as the cluster is.
func (w *World) draw(top *topology.Topology) intent {
	r := w.bus.rng
	var living, dead, without, manual []topology.Node
	for _, n := range top.Nodes {
		switch up := w.endpointOf(n.ID) != nil; {
		case n.State == topology.Attached && up:
			living = append(living, n)
		case n.State == topology.Attached:
			dead = append(dead, n)
		case n.State == topology.Recognised && up:
			without = append(without, n)
			if n.Manual {
				manual = append(manual, n)
			}
		}
	}
	wish := func(k topology.Kind) admin.Wish { return admin.Wish{Kind: string(k)} }
	heavy, elsewhere := wish(topology.KindWeigh), wish(topology.KindWeigh)
	heavy.Weight, elsewhere.Zone = 1+r.IntN(4), new(zone(r.IntN(max(w.cfg.Zones, 1))))
	intents := []intent{
		{"nothing", 8, admin.Wish{}, nil},
		{"attach", 15, wish(topology.KindAttach), [][]topology.Node{without}},
		{"detach", 10 + 80*min(len(dead), 1), wish(topology.KindDetach), [][]topology.Node{living}},
		{"detach dead", 30, wish(topology.KindDetach), [][]topology.Node{dead}},
		{"replace", 30, wish(topology.KindReplace), [][]topology.Node{living, manual}},
		{"replace dead", 60, wish(topology.KindReplace), [][]topology.Node{dead, manual}},
		{"weigh", 4, heavy, [][]topology.Node{top.Nodes}},
		{"rebalance", 4, wish(topology.KindRebalance), nil},
		{"rezone", 10, elsewhere, [][]topology.Node{top.Nodes}},
	}
	all := 0
	for i := range intents {
		in := &intents[i]
		for _, nodes := range in.of {
			if len(nodes) == 0 {
				in.share = 0
			}
		}
		switch n := len(top.History); {
		case in.name == "rebalance" && n > 0 && top.History[n-1].Outcome == topology.Cancelled:
			in.share *= 10 // shares are as they fell
		case in.name == "detach" && len(living) <= 3, in.name == "detach dead" && len(living) < 2, in.name == "rezone" && w.cfg.Zones == 0:
			in.share = 0 // a crash must not be the last straw
		}
		all += in.share
	}
	at := r.IntN(all)
	for _, in := range intents {
		if at -= in.share; at < 0 {
			for _, nodes := range in.of {
				in.wish.Nodes = append(in.wish.Nodes, nodes[r.IntN(len(nodes))].ID.String())
			}
			return in
		}
	}
	panic("the shares do not add up")
}

// asked has an operator at some node that runs do something, and is told what came of it,
// unless that node crashed meanwhile.
func (w *World) asked(what any, do func(context.Context, admin.Operator) error, told func(error)) {
	for _, i := range w.bus.rng.Perm(len(w.hosts)) {
		n, gone := w.hosts[i].running()
		if n == nil {
			continue
		}
		w.logf("ORDER at host %d: %+v", i, what)
		w.orders.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			err := do(ctx, n.Operator())
			w.logf("ORDER at host %d: %+v: %v", i, what, err)
			select {
			case <-gone:
			default:
				told(err)
			}
		})
		return
	}
}

// begin asks for a job. That a second one is refused is of interest, too.
func (w *World) begin(in intent) {
	if in.wish.Kind == "" {
		return
	}
	in.wish.Force = w.chance(500) // what goes to a node that is down waits for it
	var job admin.Job
	dead := slices.ContainsFunc(w.newest().Attached(), func(n topology.Node) bool { return w.endpointOf(n.ID) == nil })
	w.asked(in.wish, func(ctx context.Context, o admin.Operator) (err error) {
		job, err = o.Begin(ctx, in.wish)
		return err
	}, func(err error) {
		switch {
		case err == nil && job.ID != 0:
			w.mu.Lock()
			w.names[job.ID] = in.name
			w.mu.Unlock()
			if in.name == "detach" && dead {
				w.did("drain while a node is down")
			}
		case errors.Is(err, admin.ErrConflict) && strings.Contains(err.Error(), "one at a time"):
			w.did("refused, as one runs")
		}
	})
}

// give steers the job that runs.
func (w *World) give(o admin.Order) {
	w.asked(o, func(ctx context.Context, op admin.Operator) error {
		_, err := op.Steer(ctx, o)
		return err
	}, func(err error) {
		if err == nil {
			w.did(o.Do)
		}
	})
}

// repair asks for all replicas to be compared now, or for those of one bucket.
func (w *World) repair() {
	var wish admin.RepairWish
	if w.chance(500) {
		wish.Bucket = new(w.bus.rng.IntN(buckets))
	}
	w.asked(wish, func(ctx context.Context, o admin.Operator) error {
		_, err := o.Repair(ctx, wish)
		return err
	}, func(err error) {
		if err == nil {
			w.did("repair")
		}
	})
}

// zone is the name of one.
func zone(n int) string { return string(rune('a' + n)) }

func (w *World) did(what string) {
	w.mu.Lock()
	w.result.Did[what]++
	w.mu.Unlock()
}

// tally notes the jobs that have ended; the cluster remembers the last ones only.
func (w *World) tally() {
	if top := w.newest(); top != nil {
		for _, j := range top.History {
			w.ended[j.ID] = j
		}
	}
}

// name counts the jobs that have ended by what they are called.
func (w *World) name() {
	for id, j := range w.ended {
		name := w.names[id]
		switch {
		case j.Auto:
			name = string(j.Kind) + " by itself"
		case name == "":
			name = string(j.Kind)
		}
		w.did(fmt.Sprintf("%s: %s", name, j.Outcome))
		if len(j.Missed) > 0 {
			w.did("given up for a node's silence")
		}
	}
}
