package node_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"unkai/internal/admin"
	"unkai/internal/node"
)

// page is what a node's side door answers.
func page(t *testing.T, n *node.Node, path string) string {
	t.Helper()
	resp, err := http.Get("http://" + n.HTTP().String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// told waits until a node's status is as it should be, and gives it with its words.
func told(t *testing.T, n *node.Node, want func(*admin.Status) bool) (s admin.Status, words string) {
	t.Helper()
	for until := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		s = admin.Status{}
		if err := json.Unmarshal([]byte(page(t, n, "/v1/status")), &s); err != nil {
			t.Fatal(err)
		}
		if s.Survival != nil && want(&s) {
			for _, l := range s.Survival.Say() {
				words += l[0] + ": " + l[1] + "\n"
			}
			return s, words
		}
		if time.Now().After(until) {
			t.Fatalf("it does not come to that: %+v", s.Survival)
		}
	}
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q is not in\n%s", p, text)
		}
	}
}

// Nodes stop one after the other and come back: what the status says, its words,
// the metrics and the rows of stats follow.
func TestStatusFollowsTheCluster(t *testing.T) {
	t.Parallel()
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	open := func(i int, join ...string) *node.Node {
		return built(t, func(c *node.Config) { c.Data, c.Store, c.Zone = dirs[i], node.Disk, []string{"a", "b", "c"}[i] }, join...)
	}
	first := open(0)
	all := []*node.Node{first, open(1, first.Peer()), open(2, first.Peer())}
	settled(t, 3, all...)
	ids := []string{idOf(t, all[0]), idOf(t, all[1]), idOf(t, all[2])}

	s, words := told(t, first, func(s *admin.Status) bool {
		return s.Survival.Worst() == 1 && s.Survival.Managers.Spare == 1 && len(s.Links) == 2 && s.Links[0].RoundTrip > 0 && s.Links[1].RoundTrip > 0
	})
	contains(t, words, "any one node", "any 1 of 3 may fail at once", "safe, one node at a time", "3 of 3 answer; 1 may fail")
	if s.Zone != "a" || s.Addresses.Peer != all[0].Peer() {
		t.Errorf("it says that it is at %q, in zone %q", s.Addresses.Peer, s.Zone)
	}
	if v := s.Survival; !v.Restart || v.Unavailable != 0 || len(v.Away) != 0 || *v.Writes.Zones != 1 || v.Buckets != 64 {
		t.Errorf("%+v", v)
	}
	if l := s.Links[0]; !l.Up || l.Calls == 0 || l.Connects == 0 || l.BytesIn == 0 || l.RoundTrip > 5 {
		t.Errorf("%+v", l)
	}
	for _, m := range nodes(t, first).Nodes {
		if m.Present != 64 || m.Ideal != 64 || m.Joining+m.Leaving != 0 || m.Replicas != 64 || (m.Link == nil) != (m.ID == ids[0]) {
			t.Errorf("%+v", m)
		}
	}

	stop(t, all[2])
	_, words = told(t, first, func(s *admin.Status) bool { return len(s.Survival.Away) == 1 })
	contains(t, words, "away: "+ids[2], "no node may fail", "none of the 2 may fail", "not safe: each node that answers is needed", "without one more")
	if strings.Contains(words, "NO QUORUM") {
		t.Error(words)
	}
	contains(t, page(t, first, "/metrics"), "unkai_survives_writes_nodes 0\n", "unkai_nodes_away 1\n", "unkai_restart_safe 0\n",
		`unkai_peer_up{peer="`+ids[2]+`"} 0`, `unkai_peer_up{peer="`+ids[1]+`"} 1`)
	dial(t, first).set("still", "served")

	stop(t, all[1])
	s, words = told(t, first, func(s *admin.Status) bool { return s.Survival.Unavailable > 0 })
	contains(t, words, "64 of 64 buckets cannot be written now", "64 of 64 buckets cannot be read now", "bring back first",
		"bring back: node "+ids[1]+": that alone mends 64 buckets", "bring back: node "+ids[2]+": that alone mends 64 buckets", "the topology cannot be changed")
	if v := s.Survival; v.Worst() != -1 || v.Lost != 0 || len(v.Writes.Buckets) != 16 || v.Managers.Alive != 1 {
		t.Errorf("%+v", v)
	}
	if n := nodes(t, first); n.Unavailable != 64 || n.Survives != -1 {
		t.Errorf("%d buckets are unavailable, survives %d", n.Unavailable, n.Survives)
	}
	c := dial(t, first)
	rows := c.line("stats cluster\r\n")
	for !strings.HasSuffix(rows, "END") {
		rows += "\n" + c.line("")
	}
	contains(t, rows, "buckets_without_write_quorum 64", "survives_reads_nodes -1", "managers_alive 1")
	rows = c.line("stats peers\r\n")
	for !strings.HasSuffix(rows, "END") {
		rows += "\n" + c.line("")
	}
	contains(t, rows, ids[1]+":up 0", ids[2]+":up 0", ids[1]+":refused ")

	open(1, first.Peer())
	open(2, first.Peer())
	_, words = told(t, first, func(s *admin.Status) bool { return s.Survival.Worst() == 1 && s.Survival.Restart })
	contains(t, words, "any one node", "safe, one node at a time")
}

// What is on its way is seen while a job runs, and is not when it has ended.
func TestStatusShowsAJob(t *testing.T) {
	t.Parallel()
	all := cluster(t, 4, plain)
	if code, text := post(t, all[1], "/v1/job", admin.Order{Do: "throttle", Throttle: 1}, nil); code != 200 {
		t.Fatal(code, text)
	}
	_, j := begin(t, all[0], "detach", idOf(t, all[3]))
	s, words := told(t, all[1], func(s *admin.Status) bool { return s.Job != nil && s.Job.ID == j.ID && s.Survival.Moving > 0 })
	contains(t, words, "moving: ", "of 64 buckets are on their way to other replicas")
	if s.Job.Planned.Replicas == 0 || s.Survival.Unavailable != 0 {
		t.Errorf("%+v %+v", s.Job, s.Survival)
	}
	contains(t, page(t, all[1], "/metrics"), "unkai_job_running 1\n")
	joining, present := 0, 0
	for _, m := range nodes(t, all[1]).Nodes {
		joining += m.Joining
		present += m.Present
		if leaves := m.State == "leaving"; leaves != (m.Ideal == 0) {
			t.Errorf("%+v", m)
		}
	}
	if joining == 0 || present != 3*64 {
		t.Errorf("%d replicas, and %d come", present, joining)
	}
	if code, text := post(t, all[1], "/v1/job", admin.Order{Do: "throttle"}, nil); code != 200 {
		t.Fatal(code, text)
	}
	ended(t, all[1], j.ID)
	_, words = told(t, all[1], func(s *admin.Status) bool { return s.Job == nil && s.Survival.Moving == 0 && s.Survival.Nodes == 3 })
	if strings.Contains(words, "moving") {
		t.Error(words)
	}
	contains(t, page(t, all[1], "/metrics"), "unkai_job_running 0\n", "unkai_buckets_moving 0\n")
}
