package jobs

import (
	"slices"
	"strings"
	"testing"

	"unkai"
	"unkai/internal/core/topology"
)

// Who is asked to give something up is told whose it is.
func TestWhatIsGivenUpIsNamed(t *testing.T) {
	top := topology.New(1, 16, 1, 1, 1, topology.Node{ID: 1, Weight: 1})
	p, err := top.Plan(topology.Change{Kind: topology.KindRebalance}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.GivenUp = 3
	if w := warnings(&top, &p, nil); len(w) != 1 || !strings.HasSuffix(w[0], "while a disk or a memory that was lost may come back") {
		t.Errorf("%q", w)
	}
	p.Change.Nodes = []unkai.NodeID{7, 8}
	if w := warnings(&top, &p, nil); len(w) != 1 || !strings.HasSuffix(w[0], "while 0000000000000007 or 0000000000000008 may come back") {
		t.Errorf("%q", w)
	}
}

// A job says at any time that buckets were sent back, and that it will send them again.
func TestBucketsSentBackAreNamed(t *testing.T) {
	o := New(Config{Nodes: company{here: map[unkai.NodeID]bool{1: true, 2: true}}, Now: func() int64 { return 0 }})
	top := topology.New(1, 16, 2, 1, 2, topology.Node{ID: 1, Weight: 1})
	become := becoming(t, &top)
	waits := func() []string {
		all, _ := o.waits(&top)
		return all
	}
	said := func() bool {
		return slices.ContainsFunc(waits(), func(s string) bool { return strings.Contains(s, " buckets that were sent back ") })
	}
	become(top.Join(topology.Node{ID: 2, Weight: 1}))
	become(top.Begin(topology.Change{Kind: topology.KindAttach, Nodes: []unkai.NodeID{2}}, nil, 1))
	become(top.Proceed(nil, nil, 8, nil), nil)
	if said() {
		t.Errorf("nothing was: %q", waits())
	}
	b := unkai.Bucket(slices.IndexFunc(top.Sets, func(s topology.Set) bool { return len(s.Joining) > 0 }))
	next, _ := top.Renew([]topology.Renewal{{Bucket: b, Epoch: top.Route(b).Epoch}})
	become(next, nil)
	if !said() {
		t.Errorf("it says nothing while others move: %q", waits())
	}
	for top.Moving() > 0 {
		var all []unkai.Bucket
		for b := range unkai.Bucket(top.Buckets) {
			all = append(all, b)
		}
		become(top.Proceed(all, all, 16, nil), nil)
	}
	if !said() || !slices.ContainsFunc(waits(), func(s string) bool { return strings.Contains(s, "to forget") }) {
		t.Errorf("it says nothing when all others have arrived: %q", waits())
	}
}

// A share that is uneven afterwards is put down to zones only where there are some.
func TestUnevenSharesAreExplained(t *testing.T) {
	share := topology.Share{Node: 7, After: 4, Ideal: 10}
	top := topology.New(1, 16, 1, 1, 1, topology.Node{ID: 1, Weight: 1})
	for _, c := range []struct {
		kind  topology.Kind
		zones *topology.ZoneSpan
		why   string
	}{
		{topology.KindReplace, &topology.ZoneSpan{}, "only what the old node holds moves; unkai rebalance makes the shares even"},
		{topology.KindReplace, nil, "only what the old node holds moves; unkai rebalance makes the shares even"},
		{topology.KindWeigh, &topology.ZoneSpan{}, "the replicas of a key are in different zones, and the zones differ in weight"},
		{topology.KindWeigh, nil, "some buckets cannot move"},
	} {
		p := topology.Plan{Change: topology.Change{Kind: c.kind}, Nodes: []topology.Share{share}, Zones: c.zones}
		want := "afterwards node 0000000000000007 holds 40 % of what its weight asks for: " + c.why
		if w := warnings(&top, &p, nil); !slices.Contains(w, want) {
			t.Errorf("%s, zones %v: %q", c.kind, c.zones, w)
		}
	}
}
