package node_test

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"unkai/internal/admin"
	"unkai/internal/node"
)

func status(t *testing.T, n *node.Node) (s admin.Status) {
	t.Helper()
	if err := json.Unmarshal([]byte(page(t, n, "/v1/status")), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// A node without a disk of its own starts anew again and again, each time as
// another one. It takes a share once, and no other life of it does while that one
// is away: the nodes that stay hold a quorum of everything.
func TestACrashLoopEatsNoQuorum(t *testing.T) {
	t.Parallel()
	var log buffer
	all := cluster(t, 3, func(c *node.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	life := built(t, plain, all[0].Peer())
	settled(t, 4, append(all, life)...)
	stop(t, life)
	life = built(t, plain, all[0].Peer())
	for until := time.Now().Add(patience); !strings.Contains(log.String(), "not attached by themselves"); time.Sleep(20 * time.Millisecond) {
		for _, m := range nodes(t, all[0]).Nodes {
			if m.ID == idOf(t, life) && m.State == "attached" {
				t.Fatal("its second life is attached too, while the first holds a share")
			}
		}
		if time.Now().After(until) {
			t.Fatalf("nothing is said of it: %s", log.String())
		}
	}
	stop(t, life)
	dial(t, all[1]).check(300)
}

// In a cluster of exactly N nodes one is dead, and another has come. Every node that is
// asked says why nothing happens; once dead nodes are to be replaced, the new one takes
// the place of the dead one.
func TestASpareTakesThePlaceOfTheDead(t *testing.T) {
	t.Parallel()
	all := cluster(t, 3, plain)
	dead := idOf(t, all[2])
	stop(t, all[2])
	spare := built(t, plain, all[0].Peer())
	all[2] = spare
	id := idOf(t, spare)
	eventually := func(what string, of string, holds func(*admin.Prospect) bool) {
		t.Helper()
		for until := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
			told := 0
			for _, n := range all {
				for _, m := range nodes(t, n).Nodes {
					if m.ID == of && holds(m.Prospect) {
						told++
					}
				}
				for _, p := range status(t, n).Prospects {
					if p.Node == of && holds(&p) {
						told++
					}
				}
			}
			if told == 2*len(all) {
				return
			}
			if time.Now().After(until) {
				t.Fatalf("%s: told in %d of %d places: %+v", what, told, 2*len(all), nodes(t, all[1]).Nodes)
			}
		}
	}
	eventually("why it waits", id, func(p *admin.Prospect) bool { return p != nil && strings.Contains(p.Why, dead+" is away") })
	after := 3600.0
	post(t, all[1], "/v1/job", admin.Order{Do: "auto-replace", AutoReplace: &after}, nil)
	eventually("when it is replaced", dead, func(p *admin.Prospect) bool {
		return p != nil && p.Do == "replace" && p.By == id && p.Seconds > 3000 && p.Why == ""
	})
	for _, n := range all {
		if s := status(t, n); *s.AutoReplace != after || nodes(t, n).AutoReplace != after || jobs(t, n).AutoReplace != after {
			t.Errorf("after %v", *s.AutoReplace)
		}
	}
	after = 1
	post(t, all[0], "/v1/job", admin.Order{Do: "auto-replace", AutoReplace: &after}, nil)
	for until := time.Now().Add(patience); len(nodes(t, all[0]).Nodes) != 3; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("%+v", nodes(t, all[0]))
		}
	}
	settled(t, 3, all...)
	last := jobs(t, all[1]).Ended
	if j := last[len(last)-1]; j.Kind != "replace" || !j.Auto || j.State != admin.JobDone || j.Nodes[0] != dead || j.Nodes[1] != id {
		t.Errorf("%+v", j)
	}
	for _, wrong := range []float64{-1, 0.5, 1e12} {
		if code, text := post(t, all[0], "/v1/job", admin.Order{Do: "auto-replace", AutoReplace: &wrong}, nil); code != 400 {
			t.Errorf("after %v: %d %s", wrong, code, text)
		}
	}
	if code, text := post(t, all[0], "/v1/job", admin.Order{Do: "auto-replace"}, nil); code != 400 {
		t.Errorf("%d %s", code, text)
	}
	for _, n := range all {
		dial(t, n).check(300)
	}
}

// A node that joins is told where the members are, and dials nobody else: one that was
// removed is not looked for.
func TestNobodyDialsWhoWasRemoved(t *testing.T) {
	t.Parallel()
	all := cluster(t, 4, plain)
	gone := idOf(t, all[3])
	stop(t, all[3])
	_, j := begin(t, all[0], "detach", gone)
	ended(t, all[0], j.ID)
	settled(t, 3, all[:3]...)
	var log buffer
	fresh := built(t, func(c *node.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) }, all[0].Peer())
	settled(t, 4, all[0], all[1], all[2], fresh)
	if strings.Contains(log.String(), gone) {
		t.Error(log.String())
	}
}
