package topology_test

import (
	"strings"
	"testing"

	"unkai"
	"unkai/internal/core/topology"
)

// A plan tells how many zones may fail, and whose share zones make uneven.
func TestPlanTellsOfZones(t *testing.T) {
	node := func(id unkai.NodeID, zone string) topology.Node { return topology.Node{ID: id, Weight: 1, Zone: zone} }
	top := topology.New(1, 64, 3, 2, 2, node(10, "a"))
	for _, n := range []topology.Node{node(11, "b"), node(12, "c"), node(13, "a")} {
		top = joined(t, top, n)
	}
	top = ended(t, begun(t, top, attach(11, 12, 13)), nil)
	loads := []topology.Load{{Node: 10, Alive: true}, {Node: 11, Alive: true}, {Node: 12, Alive: true}, {Node: 13, Alive: true}}
	zone, same := "d", "c"
	for _, c := range []struct {
		name   string
		change topology.Change
		zones  topology.ZoneSpan
		uneven []unkai.NodeID
	}{
		{"a zone of its own", topology.Change{Kind: topology.KindWeigh, Nodes: []unkai.NodeID{13}, Zone: &zone}, topology.ZoneSpan{Before: 1, During: 1, After: 1}, nil},
		{"two others in one", topology.Change{Kind: topology.KindWeigh, Nodes: []unkai.NodeID{13}, Zone: &same}, topology.ZoneSpan{Before: 1, During: 0, After: 1}, []unkai.NodeID{10, 11, 12, 13}},
		{"one zone less", detach(12), topology.ZoneSpan{Before: 1, During: 0, After: 0}, nil},
	} {
		plan, err := top.Plan(c.change, loads)
		if err != nil {
			t.Fatal(c.name, err)
		}
		if plan.Zones == nil || *plan.Zones != c.zones {
			t.Errorf("%s: zones that may fail: %+v", c.name, plan.Zones)
		}
		uneven := plan.Uneven()
		if len(uneven) != len(c.uneven) {
			t.Errorf("%s: uneven are %+v of %+v", c.name, uneven, plan.Nodes)
			continue
		}
		for i, s := range uneven {
			if s.Node != c.uneven[i] {
				t.Errorf("%s: %v is uneven, not %v", c.name, s.Node, c.uneven[i])
			}
		}
	}
	loads[1].Alive = false
	if plan, err := top.Plan(detach(10), loads); err != nil || plan.Zones == nil || plan.Zones.Before != 0 {
		t.Errorf("with a node of b away: %+v, %v", plan.Zones, err)
	}
	plain := grown(t, first(t, 3, 2, 2), 11, 12)
	if plan, err := plain.Plan(detach(12), nil); err != nil || plan.Zones != nil {
		t.Errorf("without zones: %+v, %v", plan.Zones, err)
	}
}

// The name of a zone is one that people can read in a line; one that is not can be changed.
func TestNamesOfZones(t *testing.T) {
	for _, good := range []string{"", "rack 7", "Köln-1", "東京", strings.Repeat("z", topology.MaxZone)} {
		if err := topology.CheckZone(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"a\nb", "a\tb", "\x00", "a\x1b[2Jb", "a\u202eb", "\u200b", "\u2028", "\xff", strings.Repeat("z", topology.MaxZone+1)} {
		if err := topology.CheckZone(bad); err == nil || topology.CheckZone(err.Error()[:min(len(err.Error()), topology.MaxZone)]) != nil {
			t.Errorf("%q: %v", bad, err)
		}
	}
	top := joined(t, grown(t, first(t, 2, 1, 2), 11), topology.Node{ID: 12, Weight: 1, Zone: "a\nb"})
	if err := top.Seal(); err != nil {
		t.Fatal(err)
	}
	read, err := topology.Decode(top.Encode())
	if err != nil {
		t.Fatal(err)
	}
	zone := "ab"
	next, err := read.Weigh(topology.Change{Kind: topology.KindWeigh, Nodes: []unkai.NodeID{12}, Zone: &zone})
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := next.Node(12); n.Zone != zone {
		t.Errorf("%+v", n)
	}
}
