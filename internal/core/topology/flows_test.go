package topology_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"unkai"
	"unkai/internal/core/topology"
)

// Who brings what, by the plan, is who does: the first living present replica in the
// routes of the job that begins, by which every mover goes.
func TestThePlanNamesWhoBrings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 3).Draw(t, "n")
		top := topology.New(1, 64, n, n/2+1, n/2+1, topology.Node{ID: 1, Weight: 1})
		last := unkai.NodeID(1)
		for range rapid.IntRange(1, 6).Draw(t, "jobs") {
			c := change(t, &top, &last)
			var loads []topology.Load
			for _, m := range top.Nodes {
				loads = append(loads, topology.Load{Node: m.ID, Alive: rapid.IntRange(0, 9).Draw(t, "dead") > 0, Bytes: 64 * 100})
			}
			size := top.Sizes(loads)
			plan, err := top.Plan(c, loads)
			if err != nil {
				continue
			}
			job, err := top.Begin(c, size, 1000, topology.Away(loads)...)
			if err != nil {
				t.Fatal(err)
			}
			gone := topology.Away(loads)
			on := sent(job)
			if err := on.Seal(); err != nil {
				t.Fatal(err)
			}
			brings := map[[2]unkai.NodeID]int64{}
			for b := range unkai.Bucket(on.Buckets) {
				r := on.Route(b)
				if !r.Joining {
					continue
				}
				present := r.Members[:r.Write.Present.Members.Count()]
				first, _ := topology.Sender(present, func(id unkai.NodeID) bool { return id != 0 && !slices.Contains(gone, id) })
				for _, to := range r.Members[len(present):] {
					brings[[2]unkai.NodeID{first, to}] += size(b)
				}
			}
			if len(plan.Flows) != len(brings) {
				t.Fatalf("%+v, and it is %v", plan.Flows, brings)
			}
			for _, f := range plan.Flows {
				if got, ok := brings[[2]unkai.NodeID{f.From, f.To}]; !ok || got != f.Amount.Bytes {
					t.Fatalf("%+v, and it is %v", f, brings)
				}
			}
			top = ended(t, job, size)
		}
	})
}

// How long a job takes is how long who brings most has to bring it at the throttle, or
// all at the speed of the last job that could tell; the job remembers it.
func TestHowLongAJobTakes(t *testing.T) {
	const each = 1 << 20
	size := func(unkai.Bucket) int64 { return each }
	loads := func(top topology.Topology) (out []topology.Load) {
		for i, s := range top.Shares() {
			out = append(out, topology.Load{Node: top.Nodes[i].ID, Alive: true, Bytes: int64(s.Present) * each})
		}
		return out
	}
	top := joined(t, forgotten(grown(t, first(t, 3, 2, 2), 11, 12)), topology.Node{ID: 13, Weight: 1})
	top.History = nil
	plan := func(c topology.Change) (topology.Plan, int64) {
		t.Helper()
		p, err := top.Plan(c, loads(top))
		if err != nil {
			t.Fatal(err)
		}
		job, err := top.Begin(c, top.Sizes(loads(top)), 1000)
		if err != nil {
			t.Fatal(err)
		}
		if job.Job.Expected != p.Milliseconds {
			t.Errorf("the plan says %d ms, the job %d", p.Milliseconds, job.Job.Expected)
		}
		most, by := int64(0), map[unkai.NodeID]int64{}
		for _, f := range p.Flows {
			by[f.From] += f.Amount.Bytes
			most = max(most, by[f.From])
		}
		return p, most
	}
	if p, _ := plan(attach(13)); p.Milliseconds != 0 || p.Pace != topology.PaceUnknown {
		t.Errorf("nobody knows, and it says %d ms by %q", p.Milliseconds, p.Pace)
	}
	free := top
	top, _ = top.Limit(each)
	p, most := plan(attach(13))
	if p.Milliseconds != most/each*1000 || p.Pace != topology.PaceThrottle || most == 0 || most == p.Amount.Bytes {
		t.Errorf("%d ms by %q, and one node brings %d of %d", p.Milliseconds, p.Pace, most, p.Amount.Bytes)
	}
	job := begun(t, top, attach(13))
	if top = ended(t, job, size); top.History[0].Worked() != 1000 || !top.History[0].Throttled {
		t.Fatalf("%+v", top.History)
	}
	if top, _ = top.Limit(0); top.Speed() != 0 {
		t.Error("what was throttled tells how fast it is without")
	}
	top = free
	tiny := ended(t, begun(t, top, attach(13)), func(unkai.Bucket) int64 { return 10 })
	if tiny.Speed() != 0 {
		t.Error("a job that moved next to nothing tells how fast others are")
	}
	job = begun(t, top, attach(13))
	job, _ = job.Pause(1100)
	job, _ = job.Pause(1200) // twice
	job, _ = job.Resume(1600)
	job, _ = job.Resume(1700)
	top = ended(t, job, size)
	j := top.History[0]
	if j.Rested != 500 || j.Worked() != 500 || j.Throttled || j.Since != 0 {
		t.Fatalf("%+v", j)
	}
	p, _ = plan(detach(13))
	if want := p.Amount.Bytes * 500 / j.Moved.Bytes; p.Pace != topology.PaceLast || p.Milliseconds < want || p.Milliseconds > want+1 {
		t.Errorf("%d ms by %q, want %d", p.Milliseconds, p.Pace, want)
	}
	job = begun(t, top, detach(13))
	job, _ = job.Limit(7)
	if job, _ = job.Limit(0); !job.Job.Throttled {
		t.Error("that it was throttled for a while is forgotten")
	}
}

// What nobody has counted is taken for as much as the plan has in the mean.
func TestWhatNobodyCounted(t *testing.T) {
	top := joined(t, forgotten(grown(t, first(t, 3, 2, 2), 11, 12)), topology.Node{ID: 13, Weight: 1})
	job, err := top.Begin(attach(13), func(unkai.Bucket) int64 { return 100 }, 1000)
	if err != nil {
		t.Fatal(err)
	}
	some := 0
	top = ended(t, job, func(b unkai.Bucket) int64 {
		if b%2 == 0 {
			return -1
		}
		if b%3 == 0 {
			return 0
		}
		return 10
	})
	for b, s := range job.Sets {
		switch {
		case len(s.Due) == 0:
		case b%2 == 0:
			some += 100
		case b%3 != 0:
			some += 10
		}
	}
	if got := top.History[len(top.History)-1].Moved.Bytes; got != int64(some) {
		t.Errorf("%d bytes have moved, want %d", got, some)
	}
}

// The store's bytes follow from what it takes now; of who has too little to tell, from
// what the others take.
func TestPlanTellsOfTheStore(t *testing.T) {
	top := joined(t, forgotten(grown(t, first(t, 2, 1, 2), 11)), topology.Node{ID: 12, Weight: 1})
	loads := []topology.Load{{Node: 10, Alive: true, Bytes: 16 << 20, Used: 32 << 20}, {Node: 11, Alive: true, Bytes: 16 << 20, Used: 64 << 20}, {Node: 12, Alive: true, Used: 5, Limit: 1 << 20}}
	p, err := top.Plan(attach(12), loads)
	if err != nil {
		t.Fatal(err)
	}
	for i, each := range []float64{2, 4, 3} {
		s := p.Nodes[i]
		after := loads[i].Used + int64(each*float64(s.BytesAfter-s.BytesBefore))
		peak := loads[i].Used + int64(each*float64(s.BytesPeak-s.BytesBefore))
		if s.UsedBefore != loads[i].Used || s.UsedAfter != after || s.UsedPeak != peak || s.BytesAfter == s.BytesBefore {
			t.Errorf("%+v, want %d and at most %d", s, after, peak)
		}
	}
	if s := p.Nodes[0]; s.IdealBefore != 16 || s.Ideal >= 16 || p.Nodes[2].IdealBefore != 0 {
		t.Errorf("%+v %+v", s, p.Nodes[2])
	}
	if !slices.Equal(p.Roomless, []unkai.NodeID{12}) {
		t.Errorf("%v have too little room", p.Roomless)
	}
	for _, test := range []struct {
		bytes int64
		limit int64
		full  bool
		want  []unkai.NodeID
	}{
		{16 << 20, 0, false, nil}, // no limit is known
		{16 << 20, 0, true, []unkai.NodeID{12}},
		{16 << 20, 1 << 40, true, []unkai.NodeID{12}},
		{0, 0, true, []unkai.NodeID{12}}, // which takes what comes later
	} {
		loads := []topology.Load{{Node: 10, Alive: true, Bytes: test.bytes, Full: true}, {Node: 11, Alive: true, Bytes: test.bytes}, {Node: 12, Alive: true, Limit: test.limit, Full: test.full}}
		if p, err = top.Plan(attach(12), loads); err != nil || !slices.Equal(p.Roomless, test.want) {
			t.Errorf("%+v: %v have too little room, %v", test, p.Roomless, err)
		}
	}
}
