package node_test

import (
	"net/http"
	"strings"
	"testing"

	"unkai/internal/admin"
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
