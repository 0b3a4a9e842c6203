package admin

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"unkai/internal/memcache"
)

var (
	sample  = regexp.MustCompile(`^([a-z_:][a-z0-9_:]*)(\{(?:[a-z_]+="(?:[^"\\]|\\.)*",?)*\})? (\S+)$`)
	comment = regexp.MustCompile(`^# (HELP|TYPE) ([a-z_:][a-z0-9_:]*) (.+)$`)
)

// parse reads the text format of metrics, strictly, into name{labels} → value.
func parse(t *testing.T, text string) (samples map[string]float64, types map[string]string) {
	t.Helper()
	samples, types = map[string]float64{}, map[string]string{}
	helped := map[string]bool{}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if m := comment.FindStringSubmatch(line); m != nil {
			if m[1] == "HELP" {
				helped[m[2]] = true
			} else {
				types[m[2]] = m[3]
			}
			continue
		}
		m := sample.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("not a line of metrics: %q", line)
		}
		v, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if _, twice := samples[m[1]+m[2]]; twice {
			t.Fatalf("%s%s comes twice", m[1], m[2])
		}
		samples[m[1]+m[2]] = v
	}
	for name := range types {
		if !helped[name] {
			t.Errorf("%s has no help", name)
		}
	}
	return samples, types
}

func TestMetrics(t *testing.T) {
	w := ask(newServer(always(serving())), "GET", "/metrics")
	if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	samples, types := parse(t, w.Body.String())
	want := map[string]float64{
		"unkai_ready": 1,
		`unkai_info{node="0000000000000abc",store="disk",sync="always",version="1.2.3"}`: 1,
		"unkai_epoch": 5, "unkai_incarnation": 4,
		"unkai_store_items": 10, "unkai_store_tombstones": 11, "unkai_store_items_bytes": 12,
		"unkai_store_used_bytes": 13, "unkai_store_limit_bytes": 14, "unkai_store_full": 0,
		"unkai_store_damaged_records_total": 15, "unkai_store_syncs_total": 16, "unkai_store_writes_total": 17,
		"unkai_store_cache_hits_total": 18, "unkai_store_cache_misses_total": 19, "unkai_store_cache_bytes": 20,
		"unkai_connections": 21, "unkai_connections_limit": 22, "unkai_connections_accepted_total": 23,
		"unkai_connections_rejected_total": 24, "unkai_received_bytes_total": 25, "unkai_sent_bytes_total": 26,
		`unkai_commands_total{command="get"}`:                55,
		`unkai_results_total{command="get",result="hit"}`:    27,
		`unkai_results_total{command="get",result="miss"}`:   28,
		`unkai_results_total{command="cas",result="exists"}`: 29,
		"unkai_connections_idle_closed_total":                34, "unkai_connections_panicked_total": 35,
		"unkai_buffers_refused_total": 36, "unkai_operations_failed_total": 37, "unkai_buffers_bytes": 38,
		"unkai_operations_shared_total": 30, "unkai_items_expired_total": 31,
		"unkai_rounds_retried_total": 32, "unkai_operations_timeout_total": 33,
		"unkai_operations_in_doubt_total": 39, "unkai_survives_writes_nodes": 40, "unkai_buckets_without_write_quorum": 41,
		"unkai_survives_reads_nodes": 42, "unkai_buckets_without_read_quorum": 43, "unkai_buckets": 44, "unkai_buckets_moving": 45,
		"unkai_nodes_away": 2, "unkai_managers": 3, "unkai_managers_alive": 46, "unkai_restart_safe": 1,
		`unkai_peer_up{peer="0000000000000def"}`: 1, `unkai_peer_round_trip_seconds{peer="0000000000000def"}`: 0.5,
		`unkai_peer_open{peer="0000000000000def"}`: 50, `unkai_peer_waiting_bytes{peer="0000000000000def"}`: 51,
		`unkai_peer_questions_total{peer="0000000000000def"}`: 52, `unkai_peer_refused_total{peer="0000000000000def"}`: 53,
		`unkai_peer_timeouts_total{peer="0000000000000def"}`: 54, `unkai_peer_lost_total{peer="0000000000000def"}`: 55,
		`unkai_peer_connects_total{peer="0000000000000def"}`: 56, `unkai_peer_received_bytes_total{peer="0000000000000def"}`: 57,
		`unkai_peer_sent_bytes_total{peer="0000000000000def"}`: 58,
		"unkai_manager": 1, "unkai_manager_lead": 1, "unkai_manager_lead_since_seconds": 60.5, "unkai_manager_rounds_total": 61,
		"unkai_topologies_total": 62, "unkai_epoch_since_seconds": 63.5,
		"unkai_operations_running": 70, "unkai_operations_refused_total": 71, "unkai_operations_sent_total": 72,
		"unkai_operations_rerouted_total": 73, "unkai_rounds_prepared_total": 74, "unkai_reads_hedged_total": 75, "unkai_moved_keys_total": 76,
		"unkai_job_running": 1, "unkai_job_planned_replicas": 80, "unkai_job_planned_bytes": 81, "unkai_job_moved_replicas": 82,
		"unkai_job_moved_bytes": 83, "unkai_job_left_seconds": 84.5, "unkai_job_bytes_per_second": 85.5,
		"unkai_copy_bytes_per_second": 110, "unkai_copy_limit_bytes_per_second": 111, "unkai_copy_strain": 1.5,
		"unkai_unreconciled": 90, "unkai_repair_oldest_seconds": 91, "unkai_repair_equal_total": 92, "unkai_repair_different_total": 93,
		"unkai_repair_adopted_total": 94, "unkai_repair_brought_total": 95, "unkai_repair_settled_total": 96, "unkai_repair_failed_total": 97,
		"unkai_repair_bytes_total": 98, "unkai_purged_total": 99, "unkai_damaged_keys": 100, "unkai_repair_healed_total": 101,
		"unkai_scrub_records_total": 102, "unkai_scrub_passes_total": 103, "unkai_scrub_damaged_total": 104,
		`unkai_tombstones_waiting{peer="a",why="away"}`: 105, `unkai_tombstones_waiting_bytes{peer="a",why="away"}`: 106,
	}
	for name, v := range want {
		if got, ok := samples[name]; !ok || got != v {
			t.Errorf("%s is %v (there: %v), want %v", name, got, ok, v)
		}
	}
	for name := range samples {
		base, _, _ := strings.Cut(name, "{")
		if !strings.HasPrefix(name, "unkai_") {
			continue
		}
		if _, ok := want[name]; !ok && samples[name] != 0 {
			t.Errorf("%s is %v and not expected", name, samples[name])
		}
		if kind := types[base]; (kind == "counter") != strings.HasSuffix(base, "_total") {
			t.Errorf("%s is a %s", base, kind)
		}
	}
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes", "process_open_fds"} {
		if samples[name] <= 0 {
			t.Errorf("%s is %v", name, samples[name])
		}
	}
}

// Whatever the front door counts has a public name, and the names mean counts
// that exist.
func TestEveryCountHasAName(t *testing.T) {
	s := serving()
	s.Clients = memcache.New(memcache.Config{Now: func() int64 { return 0 }}).Stats()
	for name := range s.Clients.Commands {
		s.Clients.Commands[name] = -1
		samples, _ := parse(t, ask(newServer(always(s)), "GET", "/metrics").Body.String())
		s.Clients.Commands[name] = 0
		found := 0
		for _, v := range samples {
			if v == -1 {
				found++
			}
		}
		if found != 1 {
			t.Errorf("%s has %d public names", name, found)
		}
	}
	for _, l := range labelled {
		if _, ok := s.Clients.Commands[l.count]; !ok {
			t.Errorf("nothing is counted as %s", l.count)
		}
	}
}

// A node that starts or stops has no figures; zeros would look like a loss.
func TestMetricsWhileStarting(t *testing.T) {
	s := serving()
	s.State = "starting"
	samples, _ := parse(t, ask(newServer(always(s)), "GET", "/metrics").Body.String())
	for name, v := range samples {
		if !strings.HasPrefix(name, "unkai_") || strings.HasPrefix(name, "unkai_info{") {
			continue
		}
		if name != "unkai_ready" || v != 0 {
			t.Errorf("%s %v", name, v)
		}
	}
	if _, ok := samples["unkai_ready"]; !ok {
		t.Error("no unkai_ready")
	}
}

// The page for operators describes every metric, and none that is not there.
func TestEveryMetricIsDescribed(t *testing.T) {
	page, err := os.ReadFile("../../docs/OPERATING.md")
	if err != nil {
		t.Fatal(err)
	}
	described := map[string]bool{}
	for line := range strings.Lines(string(page)) {
		if cells := strings.Split(line, "|"); strings.HasPrefix(line, "| `unkai_") && len(cells) == 4 {
			for _, m := range regexp.MustCompile("`(unkai_[a-z_]+)`").FindAllStringSubmatch(cells[1], -1) {
				described[m[1]] = true
			}
		}
	}
	_, types := parse(t, ask(newServer(always(serving())), "GET", "/metrics").Body.String())
	for name := range types {
		if strings.HasPrefix(name, "unkai_") && !described[name] {
			t.Errorf("docs/OPERATING.md does not describe %s", name)
		}
	}
	stats := []string{
		"unkai_epoch", "unkai_tombstones", "unkai_store_full", "unkai_store_damaged", "unkai_healed", "unkai_store_syncs", "unkai_rounds_shared",
		"unkai_timeouts", "unkai_failures", "unkai_no_memory", "unkai_in_doubt", "unkai_survives", "unkai_unavailable_buckets", "unkai_moving_buckets",
		"unkai_operations_refused", "unkai_operations_sent", "unkai_operations_rerouted",
	}
	for name := range described {
		if types[name] == "" && !slices.Contains(stats, name) {
			t.Errorf("docs/OPERATING.md describes %s, which does not exist", name)
		}
	}
}
