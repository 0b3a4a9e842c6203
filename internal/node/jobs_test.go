package node_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"unkai/internal/admin"
	"unkai/internal/node"
)

// built is a node of a cluster with settings of its own.
func built(t *testing.T, set func(*node.Config), join ...string) *node.Node {
	t.Helper()
	cfg := node.DefaultConfig()
	cfg.Data, cfg.Store, cfg.Join = t.TempDir(), node.Memory, join
	cfg.Listen, cfg.Peer, cfg.HTTP = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	cfg.Memory, cfg.Cache, cfg.Buckets, cfg.RequestTimeout = 64<<20, 8<<20, 64, unhurried
	cfg.Log = slog.New(slog.DiscardHandler)
	set(&cfg)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	n, err := node.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, n) })
	return n
}

func plain(*node.Config) {}

func manual(c *node.Config) { c.Attach = node.Manual }

// cluster is so many attached nodes with 300 keys.
func cluster(t *testing.T, size int, set func(*node.Config)) []*node.Node {
	t.Helper()
	all := []*node.Node{built(t, set)}
	for range size - 1 {
		all = append(all, built(t, set, all[0].Peer()))
	}
	settled(t, size, all...)
	dial(t, all[0]).fill(0, 300)
	return all
}

// post asks a node to do something.
func post(t *testing.T, n *node.Node, path string, v, answer any) (int, string) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post("http://"+n.HTTP().String()+path, "application/json", bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode == http.StatusOK && answer != nil {
		if err := json.Unmarshal(b, answer); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
	}
	return resp.StatusCode, string(b)
}

// asks has a client ask each node for something, over and over until the test ends: buckets
// set out by turns then.
func asks(t *testing.T, all ...*node.Node) {
	t.Helper()
	var clients sync.WaitGroup
	var conns []net.Conn
	for _, n := range all {
		c, err := net.Dial("tcp", n.Listen().String())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		clients.Go(func() {
			in := bufio.NewReader(c)
			for i := 0; ; i++ {
				if _, err := fmt.Fprintf(c, "get nothing%d\r\n", i%100); err != nil {
					return // the test has ended
				}
				if _, err := in.ReadString('\n'); err != nil {
					return
				}
				time.Sleep(5 * time.Millisecond) // other tests run beside it
			}
		})
	}
	t.Cleanup(func() {
		for _, c := range conns {
			_ = c.Close()
		}
		clients.Wait()
	})
}

// begin begins a job, after looking at its plan.
func begin(t *testing.T, n *node.Node, kind string, names ...string) (admin.Plan, admin.Job) {
	t.Helper()
	var p admin.Plan
	var j admin.Job
	w := admin.Wish{Kind: kind, Nodes: names}
	for until := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		code, text := post(t, n, "/v1/plan", w, &p)
		if code == 200 {
			w.Epoch = p.Epoch
			code, text = post(t, n, "/v1/jobs", w, &j)
		}
		if code == 200 {
			return p, j
		}
		if code != http.StatusConflict || time.Now().After(until) { // else: changing, or forgetting
			t.Fatalf("%s %v: %d %s", kind, names, code, text)
		}
		w.Epoch = 0
	}
}

func jobs(t *testing.T, n *node.Node) (j admin.Jobs) {
	t.Helper()
	resp, err := http.Get("http://" + n.HTTP().String() + "/v1/jobs")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&j); err != nil {
		t.Fatal(err)
	}
	return j
}

// awaited waits until a job has ended, or does what until says.
func awaited(t *testing.T, n *node.Node, id int, until func(admin.Job) bool) admin.Job {
	t.Helper()
	var seen admin.Jobs
	for limit := time.Now().Add(patience); time.Now().Before(limit); time.Sleep(20 * time.Millisecond) {
		seen = jobs(t, n)
		for _, j := range seen.Ended {
			if j.ID == id {
				return j
			}
		}
		if j := seen.Running; j != nil && j.ID == id && until != nil && until(*j) {
			return *j
		}
	}
	t.Fatalf("job %d does not come to its end: %+v", id, seen.Running)
	return admin.Job{}
}

func ended(t *testing.T, n *node.Node, id int) admin.Job {
	t.Helper()
	return awaited(t, n, id, nil)
}

// idOf is a node's id.
func idOf(t *testing.T, n *node.Node) string {
	t.Helper()
	for _, m := range nodes(t, n).Nodes {
		if m.Peer == n.Peer() {
			return m.ID
		}
	}
	t.Fatal("a node does not know itself")
	return ""
}

func TestAttachWaitsForTheOperator(t *testing.T) {
	t.Parallel()
	all := cluster(t, 3, plain)
	extra := []*node.Node{built(t, manual, all[0].Peer()), built(t, manual, all[0].Peer())}
	for range 60 { // longer than attaching by itself takes
		for _, m := range nodes(t, all[1]).Nodes {
			if m.Manual && m.State != "recognised" {
				t.Fatalf("%+v", m)
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	p, j := begin(t, all[2], "attach", extra[0].Peer(), idOf(t, extra[1])[:12])
	if p.Survives.Before != 1 || p.Survives.After != 1 || p.Moves.Replicas < 70 || p.Moves.Bytes == 0 || j.Planned != p.Moves || len(p.Warnings) > 0 {
		t.Errorf("%+v\n%+v", p, j)
	}
	done := ended(t, all[0], j.ID)
	if done.State != admin.JobDone || done.Moved.Replicas != p.Moves.Replicas || done.Moved.Bytes < p.Moves.Bytes/2 || done.Moved.Bytes > 2*p.Moves.Bytes {
		t.Errorf("planned %+v, and it was %+v", p.Moves, done.Moved)
	}
	all = append(all, extra...)
	settled(t, 5, all...)
	for _, n := range all {
		dial(t, n).check(300)
	}
	for _, w := range []admin.Wish{{Kind: "detach", Nodes: []string{"nobody"}}, {Kind: "dance"}, {Kind: "detach"}, {Kind: "weigh", Nodes: []string{extra[0].Peer()}, Weight: 1001}} {
		if code, text := post(t, all[0], "/v1/plan", w, nil); code != 400 {
			t.Errorf("%+v: %d %s", w, code, text)
		}
	}
}

// A node is drained while clients write, at it too, none of whom is told of an error, and
// then stops by itself; its directory is of no use any more.
func TestDetachALiveNode(t *testing.T) {
	t.Parallel()
	all := cluster(t, 4, short)
	dir := t.TempDir()
	leaver := built(t, func(c *node.Config) { c.Data, c.Store = dir, node.Disk }, all[0].Peer())
	settled(t, 5, append(all, leaver)...)
	id := idOf(t, leaver)
	p := visit(t, append(slices.Clone(all), leaver)...)
	_, j := begin(t, all[0], "detach", id)
	done := ended(t, all[2], j.ID)
	if done.State != admin.JobDone || done.Moved.Replicas != done.Planned.Replicas {
		t.Errorf("%+v", done)
	}
	select {
	case <-leaver.Done():
	case <-time.After(patience):
		t.Fatal("a removed node goes on")
	}
	if err := leaver.Err(); err == nil || !strings.Contains(err.Error(), "empty data directory") {
		t.Errorf("it stopped with %v", err)
	}
	p.stop()
	if n := p.failures.Load(); n > 0 {
		t.Errorf("%d operations of %d failed", n, p.asked.Load())
	}
	if seen := settled(t, 4, all...); len(seen.Nodes) != 4 {
		t.Errorf("%+v", seen.Nodes)
	}
	for _, n := range all {
		dial(t, n).check(300)
	}
	cfg := node.DefaultConfig()
	cfg.Data, cfg.Join, cfg.Listen, cfg.Peer, cfg.HTTP = dir, []string{all[0].Peer()}, "127.0.0.1:0", "127.0.0.1:0", ""
	cfg.Cache, cfg.Log = 8<<20, slog.New(slog.DiscardHandler)
	if n, err := node.Start(t.Context(), cfg); err == nil {
		stop(t, n)
		t.Error("a removed node was started again")
	} else if !strings.Contains(err.Error(), "removed") {
		t.Error(err)
	}
}

// What a dead node held is brought by the others; when it comes back it is told.
func TestDetachADeadNode(t *testing.T) {
	t.Parallel()
	all := cluster(t, 4, plain)
	dir := t.TempDir()
	dead := built(t, func(c *node.Config) { c.Data, c.Store, c.Peer = dir, node.Disk, lasting() }, all[0].Peer())
	settled(t, 5, append(all, dead)...)
	dial(t, all[0]).fill(0, 300)
	id, peer := idOf(t, dead), dead.Peer()
	stop(t, dead)
	for len(nodes(t, all[1]).Nodes) != 5 || nodes(t, all[1]).Survives != 0 {
		time.Sleep(20 * time.Millisecond)
	}
	p, j := begin(t, all[1], "detach", id)
	if p.Survives.Before != 0 || p.Survives.After != 1 || len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], id) {
		t.Errorf("%+v", p)
	}
	for _, f := range p.Flows {
		if f.From == id {
			t.Errorf("a dead node gives something: %+v", f)
		}
	}
	if done := ended(t, all[0], j.ID); done.State != admin.JobDone {
		t.Errorf("%+v", done)
	}
	settled(t, 4, all...)
	for _, n := range all {
		dial(t, n).check(300)
	}
	cfg := node.DefaultConfig()
	cfg.Data, cfg.Listen, cfg.Peer, cfg.HTTP = dir, "127.0.0.1:0", peer, ""
	cfg.Cache, cfg.Log = 8<<20, slog.New(slog.DiscardHandler)
	back, err := node.Start(t.Context(), cfg) // it knows only what was when it stopped
	if err == nil {
		select {
		case <-back.Done():
		case <-time.After(patience):
			t.Error("a removed node was not told")
		}
		err = back.Err()
		stop(t, back)
	}
	if err == nil || !strings.Contains(err.Error(), "removed") {
		t.Errorf("it ended with %v", err)
	}
}

func TestReplace(t *testing.T) {
	t.Parallel()
	all := cluster(t, 3, plain)
	by := built(t, manual, all[0].Peer())
	p, j := begin(t, by, "replace", idOf(t, all[1]), by.Peer())
	if p.Moves.Buckets != 64 || p.Moves.Replicas != 64 || len(p.Flows) != 3 { // all hold all, and bring what they coordinate
		t.Errorf("%+v", p)
	}
	if done := ended(t, by, j.ID); done.State != admin.JobDone {
		t.Errorf("%+v", done)
	}
	<-all[1].Done()
	settled(t, 3, all[0], by, all[2])
	dial(t, by).check(300)
	stop(t, all[0]) // the new one counts
	dial(t, by).check(300)
}

// A job that is throttled to almost nothing waits, can be paused and resumed, and
// goes on at once when the throttle is lifted; another one is refused meanwhile.
func TestPauseResumeThrottle(t *testing.T) {
	t.Parallel()
	all := cluster(t, 4, plain)
	var seen admin.Jobs
	if code, text := post(t, all[1], "/v1/job", admin.Order{Do: "throttle", Throttle: 1}, &seen); code != 200 || seen.Throttle != 1 {
		t.Fatal(code, text)
	}
	p, j := begin(t, all[0], "detach", idOf(t, all[3]))
	most, brings := int64(0), map[string]int64{}
	for _, f := range p.Flows {
		brings[f.From] += f.Bytes
		most = max(most, brings[f.From])
	}
	if p.Seconds != float64(most) || p.Throttle != 1 || p.SecondsBy != "throttle" || j.Expected != p.Seconds || most == 0 {
		t.Errorf("at 1 byte in a second it takes %v s (%s), the job says %v", p.Seconds, p.SecondsBy, j.Expected)
	}
	if code, text := post(t, all[2], "/v1/jobs", admin.Wish{Kind: "detach", Nodes: []string{idOf(t, all[2])}}, nil); code != 409 || !strings.Contains(text, fmt.Sprintf("job %d (detach) is running", j.ID)) {
		t.Errorf("another job: %d %s", code, text)
	}
	if code, text := post(t, all[2], "/v1/job", admin.Order{Do: "pause", Job: j.ID}, &seen); code != 200 || seen.Running.State != admin.JobPaused || !strings.Contains(seen.Running.Waits[0], "paused") {
		t.Fatal(code, text)
	}
	if code, text := post(t, all[2], "/v1/job", admin.Order{Do: "pause", Job: j.ID + 1}, &seen); code != 409 {
		t.Error(code, text)
	}
	post(t, all[0], "/v1/job", admin.Order{Do: "throttle"}, nil)
	if now := jobs(t, all[0]).Running; now == nil || now.State != admin.JobPaused {
		t.Errorf("%+v", now)
	}
	if code, text := post(t, all[1], "/v1/job", admin.Order{Do: "resume"}, nil); code != 200 {
		t.Fatal(code, text)
	}
	if done := ended(t, all[0], j.ID); done.State != admin.JobDone {
		t.Errorf("%+v", done)
	}
	for _, n := range all[:3] {
		dial(t, n).check(300)
	}
	if code, text := post(t, all[1], "/v1/job", admin.Order{Do: "resume"}, nil); code != 409 || !strings.Contains(text, "no job is running") {
		t.Error(code, text)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	all := cluster(t, 3, plain)
	asks(t, all...)
	post(t, all[0], "/v1/job", admin.Order{Do: "throttle", Throttle: 200}, nil)
	extra := built(t, manual, all[0].Peer())
	_, j := begin(t, all[0], "attach", extra.Peer())
	awaited(t, all[0], j.ID, func(j admin.Job) bool { return j.Moved.Buckets > 0 })
	if code, text := post(t, extra, "/v1/job", admin.Order{Do: "cancel"}, nil); code != 200 {
		t.Fatal(code, text)
	}
	done := ended(t, all[1], j.ID)
	if done.State != admin.JobCancelled || done.Moved.Buckets == 0 || done.Moved.Buckets >= done.Planned.Buckets {
		t.Errorf("%+v", done)
	}
	all = append(all, extra)
	for _, n := range all {
		dial(t, n).check(300)
	}
	post(t, all[0], "/v1/job", admin.Order{Do: "throttle"}, nil)
	_, j = begin(t, all[2], "rebalance")
	if done := ended(t, all[0], j.ID); done.State != admin.JobDone || done.Moved.Buckets == 0 {
		t.Errorf("%+v", done)
	}
	for _, m := range settled(t, 4, all...).Nodes {
		if m.Replicas != 48 {
			t.Errorf("%+v", m)
		}
	}
	for _, n := range all {
		dial(t, n).check(300)
	}
}

// Who asks for what the running job does, or for what is so already, is told that, and
// gets that job; who asks for something else is told that a job is running.
func TestWhatIsSoAlready(t *testing.T) {
	t.Parallel()
	all := cluster(t, 3, plain)
	extra := built(t, manual, all[0].Peer())
	for len(nodes(t, all[0]).Nodes) < 4 {
		time.Sleep(20 * time.Millisecond)
	}
	ask := func(kind string, n *node.Node) (code int, p admin.Plan, j admin.Job) {
		t.Helper()
		w := admin.Wish{Kind: kind, Nodes: []string{n.ID().String()}}
		if code, text := post(t, all[1], "/v1/plan", w, &p); code != http.StatusOK {
			t.Logf("%s: %d %s", kind, code, text)
			return code, p, j
		}
		w.Epoch = p.Epoch
		code, text := post(t, all[1], "/v1/jobs", w, &j)
		if code != http.StatusOK {
			t.Logf("%s: %d %s", kind, code, text)
		}
		return code, p, j
	}
	settles := func(kind string, state string) {
		t.Helper()
		post(t, all[0], "/v1/job", admin.Order{Do: "throttle", Throttle: 60}, nil)
		_, first := begin(t, all[0], kind, extra.ID().String())
		code, p, j := ask(kind, extra)
		if code != http.StatusOK || j.ID != first.ID || !strings.Contains(p.Already, fmt.Sprintf("%s already, by job %d", state, first.ID)) || p.Moves.Buckets != 0 {
			t.Errorf("%s: %d, job %d of %d: %q", kind, code, j.ID, first.ID, p.Already)
		}
		if code, _, _ := ask("detach", all[2]); code != http.StatusConflict {
			t.Errorf("another change while it runs: %d", code)
		}
		post(t, all[0], "/v1/job", admin.Order{Do: "throttle"}, nil)
		if done := ended(t, all[0], first.ID); done.State != admin.JobDone {
			t.Errorf("%+v", done)
		}
	}
	settles("attach", "being attached")
	settled(t, 4, append(slices.Clone(all), extra)...)
	if code, p, j := ask("attach", extra); code != http.StatusOK || j.ID != 0 || j.State != admin.JobDone || !strings.Contains(p.Already, "attached already, so nothing") {
		t.Errorf("%d %q %+v", code, p.Already, j)
	}
	zone := ""
	for want, w := range map[string]admin.Wish{
		"every bucket is where it belongs": {Kind: "rebalance"},
		"of weight 1 already":              {Kind: "weigh", Nodes: []string{extra.ID().String()}, Weight: 1},
		`in zone "" already`:               {Kind: "weigh", Nodes: []string{extra.ID().String()}, Zone: &zone},
	} {
		var p admin.Plan
		var j admin.Job
		before := jobs(t, all[0])
		code, text := post(t, all[1], "/v1/plan", w, &p)
		if begun, also := post(t, all[1], "/v1/jobs", w, &j); begun != http.StatusOK || code != http.StatusOK || !strings.Contains(p.Already, want) || j.ID != 0 || j.State != admin.JobDone {
			t.Errorf("%s: %d %q, %d %q", want, code, text, begun, also)
		}
		if now := jobs(t, all[0]); len(now.Ended) != len(before.Ended) || now.Epoch != before.Epoch {
			t.Errorf("%s: a job was begun: %+v", want, now)
		}
	}
	settles("detach", "being detached")
}

// Of two who ask at once one gets a job; the other is told which.
func TestTwoJobsAtOnce(t *testing.T) {
	t.Parallel()
	all := cluster(t, 4, plain)
	post(t, all[0], "/v1/job", admin.Order{Do: "throttle", Throttle: 60}, nil)
	codes := make([]int, 2)
	texts := make([]string, 2)
	begun := make([]admin.Job, 2)
	var both sync.WaitGroup
	for i := range codes {
		both.Go(func() {
			codes[i], texts[i] = post(t, all[i], "/v1/jobs", admin.Wish{Kind: "weigh", Nodes: []string{all[i].Peer()}, Weight: 2}, &begun[i])
		})
	}
	both.Wait()
	if codes[0]+codes[1] != 200+409 {
		t.Fatal(codes, texts)
	}
	post(t, all[3], "/v1/job", admin.Order{Do: "throttle"}, nil)
	if done := ended(t, all[2], max(begun[0].ID, begun[1].ID)); done.Kind != "weigh" || done.State != admin.JobDone {
		t.Errorf("%+v", done)
	}
	for _, n := range all {
		dial(t, n).check(300)
	}
}

// The steward dies in the middle of a job, with a manager's vote: another one
// goes on.
func TestTheStewardDiesDuringAJob(t *testing.T) {
	t.Parallel()
	all := cluster(t, 4, func(c *node.Config) { c.Store = node.Disk })
	var first string
	for _, m := range nodes(t, all[0]).Nodes {
		if m.Manager && first == "" {
			first = m.ID
		}
	}
	var rest []*node.Node
	var steward *node.Node
	for _, n := range all {
		if idOf(t, n) == first {
			steward = n
		} else {
			rest = append(rest, n)
		}
	}
	post(t, rest[0], "/v1/job", admin.Order{Do: "throttle", Throttle: 200}, nil)
	extra := built(t, manual, rest[0].Peer())
	_, j := begin(t, rest[0], "attach", extra.Peer())
	awaited(t, rest[0], j.ID, func(j admin.Job) bool { return j.Moved.Buckets > 0 })
	stop(t, steward)
	post(t, rest[1], "/v1/job", admin.Order{Do: "throttle"}, nil)
	if done := ended(t, rest[1], j.ID); done.State != admin.JobDone || done.Moved.Replicas != done.Planned.Replicas ||
		done.Moved.Bytes < done.Planned.Bytes*2/3 || done.Moved.Bytes > done.Planned.Bytes*3/2 {
		t.Errorf("%+v", done)
	}
	for _, n := range append(rest, extra) {
		dial(t, n).check(300)
	}
}

// A dead node is replaced by itself, if that was asked for.
func TestAutoReplace(t *testing.T) {
	t.Parallel()
	all := cluster(t, 5, func(c *node.Config) { c.AutoReplace = time.Second })
	stop(t, all[4])
	until := time.Now().Add(patience)
	for len(nodes(t, all[0]).Nodes) != 4 {
		if time.Now().After(until) {
			t.Fatalf("%+v", nodes(t, all[0]))
		}
		time.Sleep(50 * time.Millisecond)
	}
	settled(t, 4, all[:4]...)
	last := jobs(t, all[1]).Ended
	if j := last[len(last)-1]; j.Kind != "detach" || !j.Auto || j.State != admin.JobDone {
		t.Errorf("%+v", j)
	}
	dial(t, all[0]).check(300)
}

// Of two dead nodes none is replaced by itself; nor is one without which there
// would be too few for N replicas. The log says so.
func TestAutoReplaceRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		nodes, dead int
		says        string
	}{{5, 2, "an operator has to decide"}, {3, 1, "too few for 3 replicas"}} {
		var log buffer
		all := cluster(t, test.nodes, func(c *node.Config) {
			c.AutoReplace = time.Second
			c.Log = slog.New(slog.NewTextHandler(&log, nil))
		})
		for _, n := range all[test.nodes-test.dead:] {
			stop(t, n)
		}
		until := time.Now().Add(patience)
		for !strings.Contains(log.String(), test.says) {
			if time.Now().After(until) {
				t.Fatalf("the log does not say %q", test.says)
			}
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(time.Second) // and it stays so
		if seen := nodes(t, all[0]); len(seen.Nodes) != test.nodes || seen.Job != nil {
			t.Errorf("%+v", seen)
		}
	}
}

// buffer can be read while somebody writes.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
