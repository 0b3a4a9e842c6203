package node_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"unkai/internal/admin"
	"unkai/internal/node"
)

// Of three nodes one is dead. To detach another one would stop every write, and is
// refused; to detach the dead one is not.
func TestWhatStopsWritesIsRefused(t *testing.T) {
	t.Parallel()
	all := cluster(t, 3, plain)
	dead := idOf(t, all[0])
	stop(t, all[0])
	w := admin.Wish{Kind: "detach", Nodes: []string{idOf(t, all[2])}}
	var p admin.Plan
	if code, text := post(t, all[1], "/v1/plan", w, &p); code != http.StatusOK || !strings.Contains(strings.Join(p.Warnings, "\n"), "--force") {
		t.Errorf("%d %s", code, text)
	}
	w.Epoch = p.Epoch
	if code, text := post(t, all[1], "/v1/jobs", w, nil); code != http.StatusConflict || !strings.Contains(text, "say force") {
		t.Errorf("%d %s", code, text)
	}
	var j admin.Job
	w.Force = true
	if code, text := post(t, all[1], "/v1/jobs", w, &j); code != http.StatusOK {
		t.Fatalf("%d %s", code, text)
	}
	if code, text := post(t, all[1], "/v1/job", admin.Order{Do: "cancel"}, nil); code != http.StatusOK { // living nodes decide
		t.Fatalf("%d %s", code, text)
	}
	ended(t, all[1], j.ID)
	_, j = begin(t, all[1], "detach", dead)
	if done := ended(t, all[1], j.ID); done.State != admin.JobDone {
		t.Errorf("%+v", done)
	}
	dial(t, all[1]).check(300)
}

// Two of three nodes lose their memory: no bucket has its quorum any more, until an
// operator gives up what those held. What the third one holds is read again.
func TestGiveUpWhatWasLost(t *testing.T) {
	t.Parallel()
	var dirs []string
	all := cluster(t, 3, func(c *node.Config) { dirs = append(dirs, c.Data) })
	until := time.Now().Add(patience)
	for all3 := false; !all3; time.Sleep(20 * time.Millisecond) { // else the two alone may hold some
		all3 = true
		for _, m := range nodes(t, all[0]).Nodes {
			all3 = all3 && m.Items == 300
		}
		if time.Now().After(until) {
			t.Fatalf("%+v", nodes(t, all[0]))
		}
	}
	for i := 1; i < 3; i++ {
		stop(t, all[i])
	}
	for i := 1; i < 3; i++ {
		all[i] = built(t, func(c *node.Config) { c.Data = dirs[i] }, all[0].Peer())
	}
	reborn := func(seen admin.Nodes) (n int) {
		for _, m := range seen.Nodes {
			if m.Incarnation == 2 && m.State == "attached" && m.Alive {
				n++
			}
		}
		return n
	}
	for seen := nodes(t, all[0]); seen.Unavailable != 64 || seen.Job != nil || reborn(seen) != 2; seen = nodes(t, all[0]) {
		if time.Now().After(until) {
			t.Fatalf("%+v", seen)
		}
		time.Sleep(20 * time.Millisecond)
	}
	w := admin.Wish{Kind: "rebalance", GiveUpLost: true}
	var p admin.Plan
	var j admin.Job
	for ended := false; !ended; time.Sleep(20 * time.Millisecond) {
		code, text := post(t, all[0], "/v1/plan", w, &p)
		if code == http.StatusOK {
			code, text = post(t, all[0], "/v1/jobs", w, &j)
		}
		if ended = code == http.StatusOK; !ended && (code != http.StatusConflict || time.Now().After(until)) {
			t.Fatalf("%d %s", code, text)
		}
	}
	if p.GivenUp != 64 || !strings.Contains(p.Warnings[0], "LOST FOR GOOD") {
		t.Errorf("%d buckets are given up: %q", p.GivenUp, p.Warnings)
	}
	settled(t, 3, all...)
	for _, n := range all {
		dial(t, n).check(300)
	}
}
