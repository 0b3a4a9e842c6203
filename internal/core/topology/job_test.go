package topology_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"unkai"
	"unkai/internal/core/topology"
)

func begun(t interface{ Fatal(...any) }, top topology.Topology, c topology.Change) topology.Topology {
	next, err := top.Begin(c, nil, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// sent is the topology in which all buckets that have to wait for their turn have set out.
func sent(top topology.Topology) topology.Topology { return top.Proceed(nil, nil, top.Buckets, nil) }

// ended is the topology in which its job has come to its end.
func ended(t interface{ Fatal(...any) }, top topology.Topology, size func(unkai.Bucket) int64) topology.Topology {
	for range 100 {
		if err := top.Seal(); err != nil {
			t.Fatal(err)
		}
		if top.Moving() > 0 {
			top = top.Proceed(all(top), all(top), top.Buckets/3, size)
			continue
		}
		top = forgotten(top)
		if top.Job == nil {
			return top
		}
		next, ok := top.Advance(size, 2000)
		if !ok {
			t.Fatal("a job waits for nothing")
		}
		top = next
	}
	t.Fatal("a job does not come to its end")
	return top
}

func detach(ids ...unkai.NodeID) topology.Change {
	return topology.Change{Kind: topology.KindDetach, Nodes: ids}
}

func attach(ids ...unkai.NodeID) topology.Change {
	return topology.Change{Kind: topology.KindAttach, Nodes: ids}
}

func TestOneJobAtATime(t *testing.T) {
	top := begun(t, forgotten(grown(t, first(t, 3, 2, 2), 11, 12, 13)), detach(11))
	if top.Job.ID != 1 || top.Job.Begun != 1000 || top.Job.Planned.Buckets != top.Moving() || top.Job.Planned.Replicas == 0 {
		t.Fatalf("%+v", top.Job)
	}
	if _, err := top.Begin(detach(12), nil, 1); !errors.Is(err, topology.ErrBusy) {
		t.Error(err)
	}
	if _, ok := top.Advance(nil, 1); ok {
		t.Error("a job ended while its buckets were on their way")
	}
	planned := top.Job.Planned
	top = ended(t, top, nil)
	h := top.History
	if len(h) != 1 || h[0].Outcome != topology.Done || h[0].Moved != planned || h[0].Ended != 2000 || len(top.Nodes) != 3 {
		t.Errorf("%+v", h)
	}
	for _, f := range []func() (topology.Topology, error){func() (topology.Topology, error) { return top.Pause(1) }, func() (topology.Topology, error) { return top.Resume(1) }, func() (topology.Topology, error) { return top.Cancel() }} {
		if _, err := f(); !errors.Is(err, topology.ErrIdle) {
			t.Error(err)
		}
	}
	for _, c := range []topology.Change{{}, {Kind: "dance"}, detach(), attach(), attach(10), attach(99), {Kind: topology.KindReplace, Nodes: []unkai.NodeID{10}}, {Kind: topology.KindWeigh}, {Kind: topology.KindWeigh, Nodes: []unkai.NodeID{10}}, {Kind: topology.KindWeigh, Nodes: []unkai.NodeID{10}, Weight: 1001}, {Kind: topology.KindWeigh, Nodes: []unkai.NodeID{10, 12, 10}, Weight: 2}, detach(12, 12)} {
		if _, err := top.Begin(c, nil, 1); err == nil {
			t.Errorf("%+v", c)
		}
	}
	for i := range 20 {
		id := unkai.NodeID(20 + i)
		top = ended(t, begun(t, joined(t, top, topology.Node{ID: id, Weight: 1}), attach(id)), nil)
		top = ended(t, begun(t, top, detach(id)), nil)
	}
	if len(top.History) != 16 || top.History[15].ID != 41 {
		t.Errorf("%d jobs are remembered", len(top.History))
	}
}

func TestPauseAndThrottle(t *testing.T) {
	top := begun(t, grown(t, first(t, 3, 2, 2), 11, 12, 13), detach(11))
	next, err := top.Pause(1)
	if err != nil || !next.Job.Paused || top.Job.Paused || next.Moving() != top.Moving() {
		t.Fatal(next.Job, err)
	}
	if next, err = next.Resume(2); err != nil || next.Job.Paused {
		t.Fatal(next.Job, err)
	}
	if next, err = next.Limit(1 << 20); err != nil || next.Throttle != 1<<20 {
		t.Fatal(next.Throttle, err)
	}
	if _, err := next.Limit(-1); err == nil {
		t.Error("a throttle below nothing")
	}
}

// A job that is cancelled before anything was switched leaves no trace but what
// the nodes have to forget.
func TestCancelBeforeTheSwitch(t *testing.T) {
	start := grown(t, first(t, 3, 2, 2), 11, 12, 13)
	start = joined(t, forgotten(start), topology.Node{ID: 14, Weight: 2})
	for _, c := range []topology.Change{
		detach(11), attach(14),
		{Kind: topology.KindReplace, Nodes: []unkai.NodeID{12, 14}},
		{Kind: topology.KindWeigh, Nodes: []unkai.NodeID{12}, Weight: 3},
	} {
		top := sent(begun(t, start, c))
		next, err := top.Cancel()
		if err != nil {
			t.Fatal(err)
		}
		if next.Moving() != 0 {
			t.Errorf("%s: %d buckets are on their way still", c.Kind, next.Moving())
		}
		for b := range next.Sets {
			if !slices.Equal(sorted(next.Sets[b].Replicas), sorted(start.Sets[b].Replicas)) {
				t.Fatalf("%s: bucket %d: %+v", c.Kind, b, next.Sets[b])
			}
			if moved := len(top.Sets[b].Joining) > 0; moved != (next.Sets[b].Epoch == next.Epoch) {
				t.Fatalf("%s: bucket %d has epoch %d", c.Kind, b, next.Sets[b].Epoch)
			}
		}
		for i, n := range next.Nodes {
			want := start.Nodes[i]
			want.Manual = n.ID == 14 && c.Kind != topology.KindDetach && c.Kind != topology.KindWeigh
			if n != want {
				t.Errorf("%s: %+v, want %+v", c.Kind, n, want)
			}
		}
		if _, err := next.Cancel(); err == nil {
			t.Error("cancelled twice")
		}
		if next = ended(t, next, nil); next.History[0].Outcome != topology.Cancelled || next.History[0].Moved.Buckets != 0 {
			t.Errorf("%+v", next.History)
		}
	}
}

// sorted is without the order, which says who coordinates.
func sorted(seats []unkai.Seat) []unkai.Seat { return slices.Sorted(slices.Values(seats)) }

// Who was to join a cancelled bucket has to forget it, and who had something to
// forget before still has; until then a job holds back what they shall hold.
func TestCancelLeavesStrays(t *testing.T) {
	top := forgotten(grown(t, first(t, 3, 2, 2), 11, 12))
	top = sent(begun(t, joined(t, top, topology.Node{ID: 13, Weight: 1}), attach(13)))
	var moving []unkai.Bucket
	for b := range top.Sets {
		if len(top.Sets[b].Joining) > 0 {
			moving = append(moving, unkai.Bucket(b))
		}
	}
	for range 2 {
		next, err := top.Cancel()
		if err != nil {
			t.Fatal(err)
		}
		n13, _ := next.Node(13)
		if got := next.Strayed(n13.Seat); !slices.Equal(got, moving) {
			t.Fatalf("node 13 has %v to forget, want %v", got, moving)
		}
		next, ok := next.Advance(nil, 1)
		if !ok {
			t.Fatal("a cancelled job does not end")
		}
		top = begun(t, next, attach(13))
		if !top.Job.Held || top.Moving() > 0 {
			t.Fatalf("%d buckets set out to a node that has not forgotten them", top.Moving())
		}
		if _, ok := top.Advance(nil, 1); ok {
			t.Fatal("the job does not wait")
		}
	}
	n13, _ := top.Node(13)
	some := len(moving) / 2
	next := top.Forgot(map[unkai.Seat][]unkai.Bucket{n13.Seat: moving[:some]})
	next, ok := next.Advance(nil, 1)
	if !ok || next.Moving() != some || !next.Job.Held {
		t.Fatalf("%d of %d buckets set out, %+v", next.Moving(), some, next.Job)
	}
	if next = ended(t, next, nil); next.History[len(next.History)-1].Moved.Buckets != len(moving) {
		t.Errorf("%+v", next.History)
	}
}

// Other moves of a bucket do not let anybody off forgetting it.
func TestStraysOutlastOtherMoves(t *testing.T) {
	top := forgotten(grown(t, first(t, 3, 2, 2), 11, 12))
	top = sent(begun(t, joined(t, top, topology.Node{ID: 13, Weight: 1}), attach(13)))
	next, err := top.Cancel()
	if err != nil {
		t.Fatal(err)
	}
	n13, _ := next.Node(13)
	want := next.Strayed(n13.Seat)
	next, _ = next.Advance(nil, 1)
	next = sent(begun(t, joined(t, next, topology.Node{ID: 14, Weight: 5}), attach(14)))
	if next.Moving() == 0 {
		t.Fatal("nothing moves")
	}
	next = next.Proceed(all(next), nil, 1<<16, nil)
	next = next.Proceed(nil, all(next), 1<<16, nil)
	if got := next.Strayed(n13.Seat); !slices.Equal(got, want) {
		t.Errorf("node 13 has %v to forget, want %v", got, want)
	}
}

// Maps with a history are the hard ones for a placement: still nothing moves that
// need not.
func TestNothingMovesWithoutNeed(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		top := topology.New(3, 256, 3, 2, 2, topology.Node{ID: 1, Weight: 1})
		last := unkai.NodeID(1)
		for range 12 {
			some := top.Nodes[r.IntN(len(top.Nodes))].ID
			c := detach(some)
			switch {
			case len(top.Nodes) < 5 || r.IntN(3) == 0:
				last++
				top = joined(t, top, topology.Node{ID: last, Weight: 1 + r.IntN(2)})
				c = attach(last)
			case r.IntN(2) == 0:
				c = topology.Change{Kind: topology.KindWeigh, Nodes: []unkai.NodeID{some}, Weight: 1 + r.IntN(2)}
			}
			before := top
			top = ended(t, begun(t, top, c), nil)
			if moved, least := top.History[len(top.History)-1].Moved.Replicas, least(before, top); moved != least {
				t.Errorf("%+v: %d replicas moved, at least %d have to", c, moved, least)
			}
		}
	}
}

// What was switched stays where it went; a node that has got something by then
// stays attached, and a later job makes the shares even.
func TestCancelInTheMiddle(t *testing.T) {
	top := forgotten(grown(t, first(t, 3, 2, 2), 11, 12))
	top = sent(begun(t, joined(t, top, topology.Node{ID: 13, Weight: 1}), attach(13)))
	var some []unkai.Bucket
	for b := range top.Sets {
		if len(top.Sets[b].Joining) > 0 && len(some) < 3 {
			some = append(some, unkai.Bucket(b))
		}
	}
	next := top.Proceed(some, nil, 0, func(unkai.Bucket) int64 { return 10 })
	next, err := next.Cancel()
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := next.Node(13); n.State != topology.Attached || holds(next, n.Seat) == 0 || next.Moving() != 3 {
		t.Fatalf("%+v, %d on their way", n, next.Moving())
	}
	next = ended(t, next, nil)
	if h := next.History[0]; h.Outcome != topology.Cancelled || h.Moved.Buckets != 3 || h.Moved.Bytes != 10*int64(h.Moved.Replicas) {
		t.Errorf("%+v", h)
	}
	next = ended(t, begun(t, next, topology.Change{Kind: topology.KindRebalance}), nil)
	if n, _ := next.Node(13); holds(next, n.Seat) != 12 {
		t.Errorf("node 13 holds %d buckets of 16", holds(next, n.Seat))
	}
}

// A plan is what the job then does; it moves little, survives what it says, and
// leaves the shares even. Some jobs are cancelled or meet a new incarnation.
func TestAPlanIsWhatHappens(t *testing.T) {
	worst := 1.0
	defer func() { t.Logf("at most %.3f times the least possible moved", worst) }()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 3).Draw(t, "n")
		top := topology.New(1, 256, n, n/2+1, n/2+1, topology.Node{ID: 1, Weight: 1})
		last := unkai.NodeID(1)
		for range rapid.IntRange(1, 10).Draw(t, "jobs") {
			c := change(t, &top, &last)
			loads := []topology.Load{}
			for _, m := range top.Nodes {
				loads = append(loads, topology.Load{Node: m.ID, Alive: rapid.IntRange(0, 9).Draw(t, "dead") > 0, Bytes: int64(rapid.IntRange(0, 1<<20).Draw(t, "bytes"))})
			}
			plan, err := top.Plan(c, loads)
			size := top.Sizes(loads)
			next, berr := top.Begin(c, size, 5, topology.Away(loads)...)
			if (err == nil) != (berr == nil) {
				t.Fatalf("%+v: the plan says %v, the job %v", c, err, berr)
			}
			if err != nil {
				continue
			}
			sum := topology.Amount{Buckets: plan.Amount.Buckets}
			for _, f := range plan.Flows {
				sum.Replicas, sum.Bytes = sum.Replicas+f.Amount.Replicas, sum.Bytes+f.Amount.Bytes
			}
			if sum != plan.Amount || plan.Amount != next.Job.Planned {
				t.Fatalf("flows %+v, plan %+v, job %+v", sum, plan.Amount, next.Job.Planned)
			}
			if rapid.IntRange(0, 5).Draw(t, "cancel") == 0 {
				cancelled(t, &top, next)
				continue
			}
			before := top
			top = ended(t, next, size)
			if got := top.History[len(top.History)-1]; got.Moved != plan.Amount {
				t.Fatalf("planned %+v, moved %+v", plan.Amount, got.Moved)
			}
			for _, s := range plan.Nodes {
				m, ok := top.Node(s.Node)
				if !ok != (s.State == topology.Leaving) || ok && holds(top, m.Seat) != s.After {
					t.Fatalf("%+v, and it is %+v", s, m)
				}
				was, _ := before.Node(s.Node)
				if holds(before, was.Seat) != s.Before || s.BytesPeak < max(s.BytesBefore, s.BytesAfter) {
					t.Fatalf("%+v", s)
				}
				if d := math.Abs(float64(s.After) - s.Ideal); d > 1 && d > s.Ideal/20 {
					t.Fatalf("%+v", s)
				}
			}
			if got, least := plan.Amount.Replicas, least(before, top); float64(got) > 1.1*float64(least)+1 {
				t.Fatalf("%s moves %v replicas, at least %d have to", c.Kind, got, least)
			} else if least > 0 {
				worst = max(worst, float64(got)/float64(least))
			}
		}
	})
}

// change draws what could be asked for.
func change(t *rapid.T, top *topology.Topology, last *unkai.NodeID) topology.Change {
	pick := func(what string) unkai.NodeID {
		return top.Nodes[rapid.IntRange(0, len(top.Nodes)-1).Draw(t, what)].ID
	}
	fresh := func() unkai.NodeID {
		*last++
		*top = joined(t, *top, topology.Node{ID: *last, Weight: 1})
		return *last
	}
	switch rapid.IntRange(0, 5).Draw(t, "kind") {
	case 0:
		return attach(fresh())
	case 1:
		return attach(fresh(), fresh())
	case 2:
		return detach(pick("gone"))
	case 3:
		return topology.Change{Kind: topology.KindReplace, Nodes: []unkai.NodeID{pick("old"), fresh()}}
	case 4:
		return topology.Change{Kind: topology.KindWeigh, Nodes: []unkai.NodeID{pick("weighed")}, Weight: rapid.IntRange(1, 2).Draw(t, "weight")}
	}
	return topology.Change{Kind: topology.KindRebalance}
}

// cancelled cancels a job after some buckets were switched, and then has the
// shares made even.
func cancelled(t *rapid.T, top *topology.Topology, next topology.Topology) {
	next = next.Proceed(nil, nil, rapid.IntRange(0, next.Buckets).Draw(t, "sent"), nil)
	next = next.Proceed(all(next)[:rapid.IntRange(0, next.Buckets).Draw(t, "switched")], nil, 0, nil)
	next, err := next.Cancel()
	if err != nil {
		t.Fatal(err)
	}
	next = ended(t, next, nil)
	for _, m := range next.Nodes {
		if m.State == topology.Leaving || m.State == topology.Recognised && holds(next, m.Seat) > 0 {
			t.Fatalf("%+v holds %d buckets", m, holds(next, m.Seat))
		}
	}
	*top = ended(t, begun(t, next, topology.Change{Kind: topology.KindRebalance}), nil)
}

func TestPlanTellsOfDanger(t *testing.T) {
	top := grown(t, first(t, 3, 2, 2), 11, 12)
	top, err := top.Limit(100)
	if err != nil {
		t.Fatal(err)
	}
	loads := []topology.Load{{Node: 10, Alive: true, Bytes: 1600, Used: 3200, Limit: 3300}, {Node: 11, Alive: true, Bytes: 1600}, {Node: 12}}
	plan, err := top.Plan(detach(12), loads)
	if err != nil {
		t.Fatal(err)
	}
	if plan.Before != 0 || plan.During != 0 || plan.After != 0 || plan.Waiting != 0 || plan.Amount.Replicas != 0 || plan.Milliseconds != 0 {
		t.Errorf("two of three: %+v", plan)
	}
	loads[1].Alive = false
	if plan, err = top.Plan(detach(12), loads); err != nil || plan.Waiting != 16 || plan.During != -1 {
		t.Errorf("one of three: %+v, %v", plan, err)
	}
	loads[1].Alive, loads[2].Alive = true, true
	top = joined(t, top, topology.Node{ID: 13, Weight: 1})
	top = begun(t, top, attach(13))
	top = ended(t, top, nil)
	loads = append(loads, topology.Load{Node: 13, Alive: true, Bytes: 1200})
	plan, err = top.Plan(detach(11), loads)
	if err != nil || !reflect.DeepEqual(plan.Roomless, []unkai.NodeID{10}) || plan.Before != 1 || plan.After != 1 {
		t.Errorf("%+v, %v", plan, err)
	}
}

// Cancel takes back what the job did, and nothing else.
func TestCancelTakesBackItsOwnOnly(t *testing.T) {
	start := joined(t, forgotten(grown(t, first(t, 3, 2, 2), 11, 12)), topology.Node{ID: 14, Weight: 2})
	zone := "z"
	top := begun(t, start, topology.Change{Kind: topology.KindWeigh, Nodes: []unkai.NodeID{11, 12, 14}, Weight: 3, Zone: &zone})
	for i := range top.Nodes {
		if top.Nodes[i].ID == 12 {
			top.Nodes[i].Weight, top.Nodes[i].Zone = 5, "y" // it has said so itself meanwhile
		}
	}
	next, err := top.Cancel()
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range start.Nodes {
		if want.ID == 12 {
			want.Weight, want.Zone = 5, "y"
		}
		if next.Nodes[i] != want {
			t.Errorf("%+v, want %+v", next.Nodes[i], want)
		}
	}
}

func TestReplaceAfter(t *testing.T) {
	top := first(t, 3, 2, 2)
	next, err := top.ReplaceAfter(topology.MinAutoReplace)
	if err != nil || next.AutoReplace != topology.MinAutoReplace || next.Epoch != top.Epoch+1 || next.Seal() != nil {
		t.Errorf("%+v, %v", next.AutoReplace, err)
	}
	if got, err := topology.Decode(next.Encode()); err != nil || got.AutoReplace != topology.MinAutoReplace {
		t.Errorf("it arrives as %+v, %v", got, err)
	}
	if next, err = next.ReplaceAfter(0); err != nil || next.AutoReplace != 0 {
		t.Errorf("%+v, %v", next.AutoReplace, err)
	}
	for _, silence := range []int64{-1, topology.MinAutoReplace - 1} {
		if _, err := top.ReplaceAfter(silence); err == nil {
			t.Errorf("%d milliseconds", silence)
		}
		spoiled := next
		if spoiled.AutoReplace = silence; spoiled.Seal() == nil {
			t.Errorf("sealed with %d milliseconds", silence)
		}
	}
}
