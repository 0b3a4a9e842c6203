package sim

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"unkai"
	"unkai/internal/admin"
	"unkai/internal/core/topology"
	"unkai/internal/peer"
)

// HandOver is a job, and what happens at one step of it.
type HandOver struct {
	Job  string // one of Moves; "": whichever comes
	Step string // one of Steps
	Deed string // one of Deeds
}

// Moves are the jobs that may be asked for.
var Moves = []string{"attach", "detach", "replace", "weigh"}

// Steps of a hand-over, in their order: the moments at which they are seen first.
var Steps = []string{
	"decided",   // some node knows of the joining epoch
	"known",     // all do
	"compared",  // a present replica asks for sums
	"carried",   // the first records arrive
	"reported",  // a present replica says that it has settled a bucket
	"switched",  // some node reads at the new set
	"followed",  // all do
	"released",  // some node knows that the old set is left
	"dropped",   // somebody has dropped the old copy
	"forgotten", // all have, and that is decided
}

// Deeds are what may happen at a step.
var Deeds = []string{
	"crash steward", "crash manager", "crash leaving", "crash joining", "crash staying",
	"power cut", "half", "stall steward", "stall leaving", "isolate steward", "another job", "cancel",
}

// handOver watches for the step.
type handOver struct {
	HandOver
	came  map[string]bool
	done  bool
	drops int
	job   int // that it is about, where any will do
}

// Numbers of questions between nodes, as internal/node/antientropy has them. Were they
// others, the steps would not be seen, which a test notices.
const (
	askSurvey = 8
	askBring  = 9
)

var reported = regexp.MustCompile(`"settled":\{"epoch":\d+,"buckets":\[\d`)

// handOver has the step watched for from now on, and the job begin some time later.
func (w *World) handOver() {
	if w.cfg.HandOver.Step == "" {
		return
	}
	w.hand = &handOver{HandOver: w.cfg.HandOver, came: map[string]bool{}}
	if w.hand.Job == "" {
		return
	}
	if w.hand.Job == "replace" {
		w.join(true)
	}
	w.bus.after(5*time.Second, &event{name: "hand over", do: func() {
		if w.hand.Job == "attach" {
			w.join(false)
			return
		}
		top := w.newest()
		held := top.Attached()
		wish := admin.Wish{Kind: w.hand.Job, Nodes: []string{held[w.bus.rng.IntN(len(held))].ID.String()}}
		switch w.hand.Job {
		case "replace":
			i := slices.IndexFunc(top.Nodes, func(n topology.Node) bool { return n.State == topology.Recognised })
			if i < 0 {
				w.fail(errors.New("no node has joined that could take the place of another"))
				return
			}
			wish.Nodes = append(wish.Nodes, top.Nodes[i].ID.String())
		case "weigh":
			wish.Weight = 4
		}
		w.ask(false, wish)
	}})
}

// watch sees to it that the deed is done when the step has come.
func (w *World) watch(e *event) {
	h := w.hand
	if h == nil || h.done && h.Job != "" {
		return
	}
	top := w.newest()
	if top == nil {
		return
	}
	if h.Job == "" && top.Job != nil && top.Job.ID != h.job {
		w.again(h, top.Job.ID)
	}
	if h.done {
		return
	}
	any, all := set{}, set{joining: true, leaving: true}
	for _, o := range w.hosts {
		if n, _ := o.running(); n != nil {
			s := look(n.Topology())
			any, all = set{any.joining || s.joining, any.leaving || s.leaving, any.strays || s.strays}, set{all.joining && s.joining, all.leaving && s.leaving, false}
		}
	}
	came := func(step string, yes bool) {
		if yes && !h.came[step] {
			h.came[step] = true
			w.note("step " + step)
			w.logf("STEP %s at epoch %d", step, top.Epoch)
			if step == h.Step {
				h.done = true
				w.note("deed " + h.Deed)
				w.do(h.Deed, top)
			}
		}
	}
	question := e.name == "question" && len(e.body) > 0 && (e.kind == peer.Copy || e.kind == peer.Repair)
	job := top.Job != nil
	came("decided", job && any.joining)
	came("known", job && all.joining)
	came("compared", job && any.joining && question && e.body[0] == askSurvey)
	came("carried", job && question && e.body[0] == askBring)
	came("reported", job && e.name == "answer" && reported.Match(e.body))
	came("switched", job && any.leaving)
	came("followed", job && all.leaving)
	came("released", h.came["switched"] && any.strays)
	came("dropped", h.came["released"] && w.drops() > h.drops)
	came("forgotten", h.came["released"] && !any.strays)
	if !h.came["switched"] {
		h.drops = w.drops()
	}
}

// again has another deed done at another step, of a job that has just begun.
func (w *World) again(h *handOver, job int) {
	if h.done {
		h.Step, h.Deed, h.done = Steps[w.bus.rng.IntN(len(Steps))], Deeds[w.bus.rng.IntN(len(Deeds))], false
	}
	h.job = job
	clear(h.came)
}

// set is in which steps buckets are, as far as a node knows.
type set struct{ joining, leaving, strays bool }

func look(t *topology.Topology) (s set) {
	for i := range t.Sets {
		s.joining = s.joining || len(t.Sets[i].Joining) > 0
		s.leaving = s.leaving || len(t.Sets[i].Leaving) > 0
		s.strays = s.strays || len(t.Sets[i].Strays) > 0
	}
	return s
}

// drops is how often hosts have dropped a bucket.
func (w *World) drops() (n int) {
	for _, h := range w.hosts {
		if h.endpoint != nil {
			n += h.engine.drops()
		}
	}
	return n
}

// do does a deed.
func (w *World) do(deed string, top *topology.Topology) {
	w.logf("DEED %s", deed)
	victim := w.victim(deed, top)
	switch deed {
	case "power cut":
		w.powerCut()
	case "half":
		w.half()
	case "cancel":
		w.steer(w.bus.rng.IntN(len(w.hosts)), admin.Order{Do: "cancel"})
	case "another job":
		w.ask(w.hand.Step != "forgotten", admin.Wish{Kind: string(topology.KindRebalance)})
	case "stall steward":
		w.stall(victim, 10*time.Second)
	case "stall leaving": // so that what it has sent arrives when others have gone on
		w.stall(victim, 2*time.Second)
	case "isolate steward":
		w.isolate(victim)
		w.bus.after(5*time.Second, &event{name: "heal", do: w.mend})
	default:
		w.crash(victim)
		w.restart(victim, 10*time.Second)
	}
}

// victim is the host of the node that a deed is about; any, if there is none.
func (w *World) victim(deed string, top *topology.Topology) *host {
	var ids []unkai.NodeID
	for _, id := range top.Managers {
		if w.endpointOf(id) != nil {
			ids = append(ids, id)
		}
	}
	switch {
	case len(ids) > 1 && deed == "crash manager":
		return w.endpointOf(ids[1]).host
	case len(ids) > 0 && (deed == "crash steward" || deed == "stall steward" || deed == "isolate steward"):
		return w.endpointOf(ids[0]).host
	}
	for i := range top.Sets {
		s := &top.Sets[i]
		old, next := s.Replicas, s.Joining
		if len(s.Leaving) > 0 {
			old, next = s.Leaving, s.Replicas
		}
		if len(next) == 0 {
			old, next = slices.Concat(s.Strays, s.Replicas), s.Replicas
		}
		for _, seat := range slices.Concat(old, next) {
			n, ok := top.Seated(seat)
			was, will := slices.Contains(old, seat), slices.Contains(next, seat)
			role := (deed == "crash leaving" || deed == "stall leaving") && !will || deed == "crash joining" && !was || deed == "crash staying" && was && will
			if e := w.endpointOf(n.ID); ok && role && e != nil {
				return e.host
			}
		}
	}
	return w.hosts[w.bus.rng.IntN(len(w.hosts))]
}

// errUnclean: an operator who asked for a second job was told something else than that
// one is running.
var errUnclean = errors.New("a second job was not refused as it should be")

// ask has an operator ask for a job, at a node that runs. While another runs, and nothing
// else goes wrong, it has to be refused.
func (w *World) ask(running bool, wish admin.Wish) {
	for _, i := range w.bus.rng.Perm(len(w.hosts)) {
		n, gone := w.hosts[i].running()
		if n == nil {
			continue
		}
		w.logf("ORDER %+v", wish)
		w.orders.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			job, err := n.Operator().Begin(ctx, wish)
			w.logf("ORDER %+v: %v", wish, err)
			select {
			case <-gone:
				return
			default:
			}
			switch {
			case !w.cfg.Calm:
			case running && err == nil && n.Topology().Job == nil: // it had ended when that was decided
			case running && !errors.Is(err, admin.ErrConflict):
				w.fail(errors.Join(fmt.Errorf("%w: it is job %d", errUnclean, job.ID), err))
			case !running && w.hand.done && errors.Is(err, admin.ErrConflict): // it may just have ended
			case !running && err != nil:
				w.fail(fmt.Errorf("the job was not begun: %w", err))
			}
		})
		return
	}
}

// steer has an operator give an order at the first node that runs, from one on.
func (w *World) steer(from int, order admin.Order) {
	for i := range w.hosts {
		n, _ := w.hosts[(from+i)%len(w.hosts)].running()
		if n == nil {
			continue
		}
		w.orders.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			_, err := n.Operator().Steer(ctx, order)
			w.logf("ORDER %+v: %v", order, err)
		})
		return
	}
}
