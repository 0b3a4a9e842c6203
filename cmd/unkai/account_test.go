package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// A plan has addresses, what was before, what the stores take, and one bucket in the
// singular; who knows not how long it takes says why.
func TestPlanInWords(t *testing.T) {
	const page = `{"kind":"replace","nodes":["00000000000000aa","00000000000000bb"],"peers":["10.0.0.1:11011",""],
"moves":{"buckets":1,"replicas":1,"bytes":10},
"flows":[{"from":"00000000000000aa","from_peer":"10.0.0.1:11011","to":"00000000000000bb","to_peer":"10.0.0.2:11011","buckets":1,"bytes":10}],
"shares":[{"node":"00000000000000aa","state":"attached","replicas_before":12,"replicas_ideal_before":10,"replicas_after":6,"replicas_ideal":5,"bytes":{"before":1024,"peak":4096,"after":2048},"store":{"before":5120,"peak":7168,"after":6144}},
{"node":"00000000000000bb","state":"attached","replicas_after":5,"replicas_ideal":5}],
"survives":{"before":-1,"during":0,"after":2}`
	for more, want := range map[string]string{
		`}`: "nobody knows: there is no throttle (unkai job throttle), and no job",
		`,"throttle":1048576,"seconds":90,"seconds_by":"throttle"}`: "about 1m30s, at the throttle: 1.0 MiB a second for each node",
		`,"seconds":90,"seconds_by":"last"}`:                        "about 1m30s, if it is as fast as the last job without a throttle",
		`,"seconds":1e20,"seconds_by":"throttle","throttle":1}`:     "about 277777h47m0s",
	} {
		f := fake(t, func(string, string, int) (int, string) { return 200, page + more })
		s := newStage()
		if code := s.run("plan", "rebalance", "--http", f.at); code != 0 {
			t.Errorf("exit code %d: %s", code, s.err.String())
		}
		has(t, "stdout", s.out.String(), want, "replace 00000000000000aa (10.0.0.1:11011) by 00000000000000bb: 1 bucket moves, as 1 new replica, about 10 B",
			"00000000000000aa (10.0.0.1:11011)  00000000000000bb (10.0.0.2:11011)  1", "120.0 % → 120.0 %", "- → 100.0 %", "KEYS AND VALUES", "1.0 KiB → 2.0 KiB", "5.0 KiB → 6.0 KiB  7.0 KiB",
			"may fail:  no node (some keys cannot be read and written even so) before, no node while it runs, any 2 nodes after")
	}
	f := fake(t, func(string, string, int) (int, string) { return 200, `{"kind":"rebalance","moves":{}}` })
	s := newStage()
	s.run("plan", "rebalance", "--http", f.at)
	has(t, "stdout", s.out.String(), "rebalance: 0 buckets move", "time:      a moment")
}

// The account of a job has what it was thought to take beside what it took, without its
// pauses; after a cancel it says what can be done.
func TestPredictedAgainstActual(t *testing.T) {
	const ended = `"planned":{"replicas":12,"bytes":3072},"moved":{"replicas":12,"bytes":3000},"seconds_expected":75,"begun":1700000000000,"ended":1700003660000,"seconds_paused":3600}`
	s := newStage()
	s.run("jobs", "--http", door(t, "/v1/jobs", 200, `{"ended":[{"id":3,"kind":"detach","nodes":["00000000000000aa"],"peers":["10.0.0.1:11011"],"state":"done",`+ended+`]}`))
	has(t, "stdout", s.out.String(), "detach 00000000000000aa (10.0.0.1:11011)", "1m0s and 1h0m0s paused", "12 replicas, 3.0 KiB, about 1m15s", "12 replicas, 2.9 KiB")
	s = newStage()
	s.run("jobs", "--http", door(t, "/v1/jobs", 200, `{"running":{"id":4,"kind":"attach","nodes":["00000000000000aa"],"peers":["10.0.0.1:11011"],"state":"running","seconds_expected":75,"planned":{"replicas":1}}}`))
	has(t, "stdout", s.out.String(), "attach 00000000000000aa (10.0.0.1:11011)", "0 of 1 replica, 0 B (planned: about 1m15s in all)")
	f := fake(t, func(path, body string, before int) (int, string) {
		if path == "GET /v1/jobs" {
			return 200, `{"ended":[{"id":4,"state":"cancelled",` + ended + `]}`
		}
		return willing(path, body, before)
	})
	s = newStage()
	if code := s.run("detach", "bb", "--yes", "--wait", "--http", f.at); code != 1 {
		t.Errorf("exit code %d", code)
	}
	has(t, "stdout", s.out.String(), "job 4 is cancelled after 1m0s and 1h0m0s paused: planned 12 replicas, 3.0 KiB, about 1m15s, moved 12 replicas, 2.9 KiB", "Next: unkai rebalance")
	f = fake(t, func(string, string, int) (int, string) { return 200, jobsPage })
	for _, do := range []string{"cancel", "pause"} {
		s = newStage()
		if s.run("job", do, "4", "--http", f.at); strings.Contains(s.out.String(), "Next: unkai rebalance") != (do == "cancel") {
			t.Errorf("%s: %s", do, s.out.String())
		}
	}
}

// A job that runs is watched until it has ended, with all that it waits for, on so many
// lines as that takes; when none runs there is nothing to wait for.
func TestJobsWait(t *testing.T) {
	for _, test := range []struct {
		args, state, out, not string
		code                  int
	}{
		{"jobs --wait", "done", "job 4 is done after 4s", "Next:", 0},
		{"jobs --wait", "cancelled", "Next: unkai rebalance", "", 1},
		{"jobs --wait --json", "done", `"id": 4`, "job 4 is", 0},
	} {
		f := fake(t, func(path, body string, before int) (int, string) {
			code, text := willing(path, body, before-1)
			return code, strings.Replace(text, `"detach","state":"done"`, `"detach","state":"`+test.state+`"`, 1)
		})
		s := newStage()
		s.terminal = true
		if code := s.run(append(strings.Fields(test.args), "--http", f.at)...); code != test.code {
			t.Errorf("%s, %s: exit code %d: %s", test.args, test.state, code, s.err.String())
		}
		has(t, "stdout", s.out.String(), test.out)
		if test.not != "" && strings.Contains(s.out.String(), test.not) || strings.Contains(test.args, "json") && !json.Valid([]byte(s.out.String())) {
			t.Errorf("%s: %s", test.args, s.out.String())
		}
		has(t, "stderr", s.err.String(), "job 4, running: detach 00000000000000bb", "50 %", "1m30s left", "\n  waits for 5 buckets", "\n  slowed: node 00000000000000dd", "\x1b[5A\r\x1b[J")
	}
	s := newStage()
	if code := s.run("jobs", "--wait", "--http", door(t, "/v1/jobs", 200, `{"ended":[]}`)); code != 0 || s.out.String() != "no job is running\n" {
		t.Errorf("%d %s", code, s.out.String())
	}
}

// What went wrong while a job was watched has a line of its own.
func TestFailureOfAWatch(t *testing.T) {
	f := fake(t, func(path, body string, before int) (int, string) {
		if path == "GET /v1/jobs" && before > 2 {
			return 200, `{"ended":[{"id":90}]}`
		}
		return willing(path, body, before-1)
	})
	s := newStage()
	s.terminal = true
	if code := s.run("jobs", "--wait", "--http", f.at); code != 1 {
		t.Errorf("exit code %d", code)
	}
	has(t, "stderr", s.err.String(), "job 4, running", "\r\x1b[J\x1b[?7l\x1b[?7hunkai jobs: job 4 has ended, and so many others since")
}
