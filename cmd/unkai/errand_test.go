package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

const planPage = `{"kind":"detach","nodes":["00000000000000bb"],"epoch":9,
"quorum":{"before":{"n":3,"r":2,"w":2},"after":{"n":2,"r":2,"w":2}},
"moves":{"buckets":10,"replicas":12,"bytes":3072},
"flows":[{"from":"00000000000000bb","to":"00000000000000aa","buckets":10,"bytes":2048},{"from":"","to":"00000000000000cc","buckets":2,"bytes":1024}],
"shares":[{"node":"00000000000000aa","peer":"10.0.0.1:11011","state":"attached","weight":1,"replicas_before":10,"replicas_after":16,"replicas_ideal":16,"bytes":{"before":1024,"peak":4096,"after":4096}},
{"node":"00000000000000bb","peer":"10.0.0.2:11011","state":"removed","weight":1,"replicas_before":10,"replicas_after":0,"replicas_ideal":0,"bytes":{"before":1024,"peak":1024,"after":0}}],
"survives":{"before":1,"during":0,"after":0},"survives_zones":{"before":2,"during":1,"after":0},"throttle":1048576,"seconds":75,"warnings":["afterwards 0 nodes may fail, instead of 1"]}`

const jobsPage = `{"epoch":9,"throttle":1048576,
"running":{"id":4,"kind":"detach","nodes":["00000000000000bb"],"state":"running","begun":1700000000000,"planned":{"buckets":10,"replicas":12,"bytes":3072},"moved":{"buckets":5,"replicas":6,"bytes":1536},"progress":0.5,"seconds_left":90,"waits":["5 buckets to be brought to their new replicas"],
"slowed":[{"node":"00000000000000cc","bytes_per_second":4194304,"strain":2.31},{"node":"00000000000000dd","bytes_per_second":1048576,"strain":0,"disk":true},{"node":"00000000000000ee","bytes_per_second":1048576,"strain":0.9}]},
"ended":[{"id":3,"kind":"weigh","nodes":["00000000000000aa"],"weight":3,"auto":true,"state":"done","begun":1700000000000,"ended":1700000004000,"planned":{"buckets":1,"replicas":1,"bytes":10},"moved":{"buckets":1,"replicas":1,"bytes":11},"progress":1}]}`

// fakeNode answers what a script says, and keeps what was sent to it.
type fakeNode struct {
	mu   sync.Mutex
	sent []string
	at   string
}

func fake(t *testing.T, answer func(path, body string, before int) (int, string)) *fakeNode {
	t.Helper()
	f := &fakeNode{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if r.Method == http.MethodPost && r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: content type %q", r.URL.Path, r.Header.Get("Content-Type"))
		}
		f.mu.Lock()
		before := 0
		for _, s := range f.sent {
			if strings.HasPrefix(s, r.Method+" "+r.URL.Path+" ") {
				before++
			}
		}
		f.sent = append(f.sent, r.Method+" "+r.URL.Path+" "+string(b))
		f.mu.Unlock()
		code, text := answer(r.Method+" "+r.URL.Path, string(b), before)
		w.WriteHeader(code)
		_, _ = w.Write([]byte(text)) // the command under test sees what came
	}))
	t.Cleanup(s.Close)
	f.at = strings.TrimPrefix(s.URL, "http://")
	return f
}

func (f *fakeNode) asked(what string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.sent {
		if strings.HasPrefix(s, what) {
			n++
		}
	}
	return n
}

func willing(path, _ string, before int) (int, string) {
	switch path {
	case "POST /v1/plan":
		return 200, planPage
	case "POST /v1/jobs":
		return 200, `{"id":4,"kind":"detach","state":"running"}`
	case "GET /v1/jobs":
		if before < 2 {
			return 200, jobsPage
		}
		return 200, `{"ended":[{"id":4,"kind":"detach","state":"done","begun":1700000000000,"ended":1700000004000,"planned":{"replicas":12,"bytes":3072},"moved":{"replicas":12,"bytes":3000}}]}`
	}
	return 404, "no such page"
}

func TestPlanShowsEverything(t *testing.T) {
	f := fake(t, willing)
	s := newStage()
	if code := s.run("plan", "detach", "bb", "--http", f.at); code != 0 {
		t.Errorf("exit code %d: %s", code, s.err.String())
	}
	has(t, "stdout", s.out.String(), "detach 00000000000000bb: 10 buckets move, as 12 new replicas, about 3.0 KiB (estimated", "nobody alive",
		"10 → 16", "100.0 %", "removed", "any 1 node before, no node while it runs, no node after", "any 2 zones before, any 1 zone while it runs, no zone after", "3:2:2 before, 2:2:2 after",
		"about 1m15s, at the throttle: 1.0 MiB a second", "WARNING:   afterwards 0 nodes may fail")
	if f.asked("POST /v1/jobs") > 0 {
		t.Error("a plan began a job")
	}
	if want := `POST /v1/plan {"kind":"detach","nodes":["bb"]}`; f.sent[0] != want {
		t.Errorf("%s, want %s", f.sent[0], want)
	}
}

func TestWishes(t *testing.T) {
	for args, want := range map[string]string{
		"attach a b":    `{"kind":"attach","nodes":["a","b"]}`,
		"replace a b":   `{"kind":"replace","nodes":["a","b"]}`,
		"weigh a 3":     `{"kind":"weigh","nodes":["a"],"weight":3}`,
		"rezone a z1":   `{"kind":"weigh","nodes":["a"],"zone":"z1"}`,
		"rebalance":     `{"kind":"rebalance"}`,
		"weigh a 0":     "",
		"weigh a":       "",
		"replace a":     "",
		"attach":        "",
		"rebalance now": "",
	} {
		f := fake(t, willing)
		s := newStage()
		code := s.run(append(append([]string{"plan"}, strings.Fields(args)...), "--http", f.at)...)
		if want == "" {
			if code != 2 {
				t.Errorf("%s: exit code %d", args, code)
			}
		} else if code != 0 || f.sent[0] != "POST /v1/plan "+want {
			t.Errorf("%s: %d %v", args, code, f.sent)
		}
	}
}

func TestErrandsAskFirst(t *testing.T) {
	for _, test := range []struct {
		in       string
		terminal bool
		args     string
		code     int
		begun    int
		says     string
	}{
		{"y\n", true, "", 0, 1, "Begin?"},
		{"n\n", true, "", 1, 0, "nothing was done"},
		{"", true, "", 1, 0, "nothing was done"},
		{"y\n", false, "", 2, 0, "--yes"},
		{"", false, "--yes", 0, 1, ""},
		{"", false, "--json", 2, 0, "--yes"},
		{"", false, "--json --yes", 0, 1, ""},
		{"", false, "--yes --wait", 0, 1, ""},
		{"", true, "--yes --wait", 0, 1, "50 %"},
		{"", true, "--yes --wait", 0, 1, "waits for 5 buckets"},
	} {
		f := fake(t, willing)
		s := newStage()
		s.in, s.terminal = test.in, test.terminal
		code := s.run(append([]string{"detach", "bb", "--http", f.at}, strings.Fields(test.args)...)...)
		if code != test.code || f.asked("POST /v1/jobs") != test.begun {
			t.Errorf("%+v: exit code %d, %v\n%s", test, code, f.sent, s.err.String())
		}
		has(t, "stderr", s.err.String(), test.says)
		if strings.Contains(test.args, "json") && code == 0 {
			var j map[string]any
			if err := json.Unmarshal([]byte(s.out.String()), &j); err != nil || j["id"] != 4.0 {
				t.Errorf("%s: %v", s.out.String(), err)
			}
		}
		if strings.Contains(test.args, "wait") {
			has(t, "stdout", s.out.String(), "job 4 is done after 4s: planned 12 replicas, 3.0 KiB, moved 12 replicas, 2.9 KiB")
		}
		if test.begun == 1 && !strings.Contains(f.sent[1], `"epoch":9`) {
			t.Errorf("the job is not that of the plan: %s", f.sent[1])
		}
	}
}

func TestErrandsThatCannotBe(t *testing.T) {
	for _, test := range []struct {
		name     string
		at       string
		code     int
		says     string
		exit     int
		attempts int
	}{
		{"busy", "POST /v1/jobs", 409, "not now: job 3 (attach) is running", 3, 1},
		{"changed", "POST /v1/jobs", 409, "not now: the cluster has changed", 3, begins},
		{"nonsense", "POST /v1/plan", 400, "no node has the id", 2, 0},
		{"no managers", "POST /v1/jobs", 503, "2 of 3 managers did not agree", 1, 1},
	} {
		f := fake(t, func(path, body string, before int) (int, string) {
			if path == test.at {
				return test.code, test.says + "\n"
			}
			return willing(path, body, before)
		})
		s := newStage()
		if code := s.run("detach", "bb", "--yes", "--http", f.at); code != test.exit || f.asked("POST /v1/jobs") != test.attempts {
			t.Errorf("%s: exit code %d, %v", test.name, code, f.sent)
		}
		has(t, "stderr", s.err.String(), test.says)
	}
	// A job that was cancelled while somebody waited did not do what they wanted.
	f := fake(t, func(path, body string, before int) (int, string) {
		if path == "GET /v1/jobs" {
			return 200, `{"ended":[{"id":4,"state":"cancelled"}]}`
		}
		return willing(path, body, before)
	})
	s := newStage()
	if code := s.run("detach", "bb", "--yes", "--wait", "--http", f.at); code != 1 {
		t.Errorf("exit code %d", code)
	}
	has(t, "stderr", s.err.String(), "job 4 was cancelled")
}

func TestJobs(t *testing.T) {
	s := newStage()
	if code := s.run("jobs", "--http", door(t, "/v1/jobs", 200, jobsPage)); code != 0 {
		t.Errorf("exit code %d: %s", code, s.err.String())
	}
	has(t, "stdout", s.out.String(), "throttle: 1.0 MiB a second", "job 4, running: detach 00000000000000bb", "50 %", "6 of 12 replicas", "1m30s left",
		"slowed: node 00000000000000cc may bring 4.0 MiB a second: clients wait 2.3 times as long", "node 00000000000000dd may bring 1.0 MiB a second: the disk",
		"node 00000000000000ee may bring 1.0 MiB a second: it tries",
		"waits for 5 buckets", "let 00000000000000aa weigh 3", "4s", "1 replica, 10 B", "1 replica, 11 B", "done, by itself")
	given := strings.Replace(jobsPage, `"state":"done"`, `"missed":["00000000000000ff (10.0.0.9:11011)"],"state":"cancelled"`, 1)
	s = newStage()
	if code := s.run("jobs", "--http", door(t, "/v1/jobs", 200, given)); code != 0 {
		t.Errorf("exit code %d: %s", code, s.err.String())
	}
	has(t, "stdout", s.out.String(), "cancelled by itself: 00000000000000ff (10.0.0.9:11011) silent")
	s = newStage()
	if code := s.run("jobs", "--http", door(t, "/v1/jobs", 200, `{"ended":[]}`)); code != 0 || s.out.String() != "no job is running\n" {
		t.Errorf("%d %s", code, s.out.String())
	}
	for args, want := range map[string]string{
		"pause": `{"do":"pause","job":4,"throttle":0}`, "resume": `{"do":"resume","job":4,"throttle":0}`, "cancel": `{"do":"cancel","job":4,"throttle":0}`, "cancel 3": `{"do":"cancel","job":3,"throttle":0}`,
		"throttle 20MiB": fmt.Sprintf(`{"do":"throttle","throttle":%d}`, 20<<20), "throttle 0": `{"do":"throttle","throttle":0}`,
		"throttle fast": "", "throttle": "", "pause x": "", "cancel 0": "", "cancel 3 4": "",
	} {
		f := fake(t, func(string, string, int) (int, string) { return 200, jobsPage })
		s := newStage()
		code := s.run(append(append([]string{"job"}, strings.Fields(args)...), "--http", f.at)...)
		if want == "" {
			if code != 2 || len(f.sent) > 0 {
				t.Errorf("%s: exit code %d", args, code)
			}
		} else if code != 0 || f.sent[len(f.sent)-1] != "POST /v1/job "+want {
			t.Errorf("%s: %d %v", args, code, f.sent)
		}
	}
}

func TestPlacementSimulate(t *testing.T) {
	s := newStage()
	if code := s.run("placement", "simulate", "--nodes", "5", "--add", "1", "--remove", "1"); code != 0 {
		t.Errorf("exit code %d: %s", code, s.err.String())
	}
	has(t, "stdout", s.out.String(), "5 nodes: any 1 node may fail", "add 1:", "remove 1:", "1.000 times that", "100.0 %")
	s = newStage()
	if code := s.run("placement", "simulate", "--nodes", "4", "--zones", "2", "--weights", "1,3", "--json"); code != 0 {
		t.Errorf("exit code %d: %s", code, s.err.String())
	}
	var steps []simulated
	if err := json.Unmarshal([]byte(s.out.String()), &steps); err != nil || len(steps) != 1 || len(steps[0].Nodes) != 4 || steps[0].Nodes[1].Zone == "" {
		t.Errorf("%s: %v", s.out.String(), err)
	}
	for _, args := range []string{"--nodes 0", "--nodes 3 --remove 3", "--buckets 100", "--weights 1,0", "--n 17"} {
		if code := newStage().run(append([]string{"placement", "simulate"}, strings.Fields(args)...)...); code != 2 {
			t.Errorf("%s: exit code %d", args, code)
		}
	}
}

// The job is about the nodes of the plan that was shown, whatever the name that was
// typed may mean by then.
func TestTheJobIsAboutTheNodesShown(t *testing.T) {
	f := fake(t, willing)
	s := newStage()
	if code := s.run("detach", "10.0.0.2:11011", "--yes", "--http", f.at); code != 0 {
		t.Fatalf("exit code %d: %s", code, s.err.String())
	}
	if f.asked(`POST /v1/plan {"kind":"detach","nodes":["10.0.0.2:11011"]}`) != 1 || f.asked(`POST /v1/jobs {"kind":"detach","nodes":["00000000000000bb"],"epoch":9}`) != 1 {
		t.Errorf("%q", f.sent)
	}
}

// Who asks for what is so already, or is under way, is told so and has made no mistake;
// nobody is asked whether to begin.
func TestWhatIsSoAlready(t *testing.T) {
	const plan = `{"kind":"attach","nodes":["00000000000000bb"],"epoch":9,"already":"node 00000000000000bb: being attached already, by job 4","flows":[],"shares":[],"warnings":[]}`
	const none = `{"id":0,"kind":"attach","state":"done"}`
	for _, test := range []struct{ args, job, says string }{
		{"", "", "being attached already, by job 4\n"},
		{"--yes", none, "being attached already, by job 4\n"},
		{"--yes --wait", "", "being attached already, by job 4\njob 4 is done"},
		{"--yes --wait", none, "being attached already, by job 4\n"},
		{"--yes --json", "", `"id": 4`},
	} {
		f := fake(t, func(path, body string, before int) (int, string) {
			switch {
			case path == "POST /v1/plan":
				return 200, plan
			case path == "POST /v1/jobs" && test.job != "":
				return 200, test.job
			}
			return willing(path, body, before)
		})
		s := newStage()
		s.terminal = true
		if code := s.run(append([]string{"attach", "bb", "--http", f.at}, strings.Fields(test.args)...)...); code != 0 {
			t.Errorf("%+v: exit code %d: %s", test, code, s.err.String())
		}
		out := s.out.String()
		if has(t, "stdout", out, test.says); strings.Contains(out+s.err.String(), "Begin?") || strings.Contains(out, "has begun") || strings.Contains(out, "may fail") {
			t.Errorf("%+v:\n%s%s", test, out, s.err.String())
		}
	}
}

// What was planned came to be before somebody agreed to it: there is no job to name.
func TestWhatWasDoneMeanwhile(t *testing.T) {
	f := fake(t, func(path, body string, before int) (int, string) {
		if path == "POST /v1/jobs" {
			return 200, `{"id":0,"kind":"attach","state":"done"}`
		}
		return willing(path, body, before)
	})
	s := newStage()
	if code := s.run("attach", "bb", "--http", f.at, "--yes"); code != 0 {
		t.Errorf("exit code %d: %s", code, s.err.String())
	}
	if out := s.out.String(); strings.Contains(out, "job 0") || !strings.Contains(out, "done already") {
		t.Error(out)
	}
}

// A job that nobody has named is shown before it is touched, and at a terminal
// somebody has to agree.
func TestCancelAsksWhichJob(t *testing.T) {
	for _, test := range []struct {
		in       string
		terminal bool
		page     string
		code     int
		sent     string
		says     string
	}{
		{"y\n", true, jobsPage, 0, `POST /v1/job {"do":"cancel","job":4,"throttle":0}`, "Cancel job 4, detach 00000000000000bb?"},
		{"\n", true, jobsPage, 1, "GET /v1/jobs ", "nothing was done"},
		{"", false, jobsPage, 0, `POST /v1/job {"do":"cancel","job":4,"throttle":0}`, "cancel job 4, detach 00000000000000bb"},
		{"", false, strings.Replace(jobsPage, `"state":"running"`, `"auto":true,"state":"running"`, 1), 0, `POST /v1/job {"do":"cancel","job":4,"throttle":0}`, "which has begun by itself"},
		{"y\n", true, `{"ended":[]}`, 3, "GET /v1/jobs ", "no job is running"},
	} {
		f := fake(t, func(string, string, int) (int, string) { return 200, test.page })
		s := newStage()
		s.in, s.terminal = test.in, test.terminal
		code := s.run("job", "cancel", "--http", f.at)
		if said := s.out.String() + s.err.String(); code != test.code || f.sent[len(f.sent)-1] != test.sent || !strings.Contains(said, test.says) {
			t.Errorf("%+v: %d %q %s", test, code, f.sent, said)
		}
	}
}

// What gives up data says so in the wish, and only where it means something.
func TestGiveUpLost(t *testing.T) {
	for args, want := range map[string]string{
		"plan detach a --give-up-lost":     `POST /v1/plan {"kind":"detach","nodes":["a"],"give_up_lost":true}`,
		"detach a --yes --give-up-lost":    `POST /v1/jobs {"kind":"detach","nodes":["00000000000000bb"],"epoch":9,"give_up_lost":true}`,
		"rebalance --yes --give-up-lost":   `POST /v1/plan {"kind":"rebalance","give_up_lost":true}`,
		"detach a --yes --force":           `POST /v1/jobs {"kind":"detach","nodes":["00000000000000bb"],"epoch":9,"force":true}`,
		"attach a --yes --give-up-lost":    "",
		"plan weigh a 3 --give-up-lost":    "",
		"replace a b --yes --give-up-lost": "",
	} {
		f := fake(t, willing)
		s := newStage()
		code := s.run(append(strings.Fields(args), "--http", f.at)...)
		if want == "" && code != 2 || want != "" && (code != 0 || f.asked(want) != 1) {
			t.Errorf("%s: %d %q", args, code, f.sent)
		}
	}
}
