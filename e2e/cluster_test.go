package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"unkai/internal/verify"
)

// member is one node of a cluster of real processes.
type member struct {
	*process
	dir, peer string
	manual    bool     // it is attached by hand
	inside    []string // the words that have it run on a host of its own, if it does
}

// cluster is some of them.
type cluster struct {
	t       *testing.T
	members []*member
	hurried bool // operations have the time that they have by default
}

// grow starts as many nodes as are missing to n, and waits until all are
// attached.
func (c *cluster) grow(n int) {
	c.t.Helper()
	for i := len(c.members); i < n; i++ {
		c.members = append(c.members, &member{dir: filepath.Join(c.t.TempDir(), "data")})
		c.run(i, c.members[0].peer)
	}
	c.settled(n)
}

// run starts a node's process, at new addresses unless it has some.
func (c *cluster) run(i int, join string) {
	c.t.Helper()
	m := c.members[i]
	addr, web := freeAddr(c.t), freeAddr(c.t)
	if m.process != nil {
		addr, web = m.addr, m.http
	}
	if m.peer == "" {
		m.peer = freeAddr(c.t)
	}
	program, err := binary()
	if err != nil {
		c.t.Fatal(err)
	}
	args := []string{"serve", "--data", m.dir, "--listen", addr, "--peer", m.peer, "--http", web, "--cache", "16MiB", "--log-level", "debug"}
	if join != "" && join != m.peer {
		args = append(args, "--join", join)
	}
	if m.manual {
		args = append(args, "--attach", "manual")
	}
	if !c.hurried {
		args = append(args, unhurriedly)
	}
	command := append(slices.Clone(m.inside), program)
	m.process = launch(c.t, fmt.Sprint("node ", i+1), command[0], append(command[1:], args...)...)
	m.addr, m.http = addr, web
	m.awaitServing(c.t)
}

// layout is what a test needs of /v1/nodes.
type layout struct {
	Epoch    int `json:"epoch"`
	Moving   int `json:"moving"`
	Survives int `json:"survives"`
	Nodes    []struct {
		State    string `json:"state"`
		Replicas int    `json:"replicas"`
	} `json:"nodes"`
}

func (m *member) layout() (l layout, err error) { return l, m.page("/v1/nodes", &l) }

// page reads a page of the node's side door.
func (m *member) page(path string, into any) error {
	client := http.Client{Timeout: patience}
	resp, err := client.Get("http://" + m.http + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(string(b))
	}
	return json.Unmarshal(b, into)
}

// settled waits until n nodes are attached, everybody knows it, and each can
// reach the others.
func (c *cluster) settled(n int) {
	c.t.Helper()
	eventually(c.t, fmt.Sprintf("%d nodes are attached", n), func() error {
		epoch := 0
		for i, m := range c.members {
			l, err := m.layout()
			if err != nil {
				return err
			}
			attached := 0
			for _, node := range l.Nodes {
				if node.State == "attached" && node.Replicas > 0 {
					attached++
				}
			}
			if i == 0 {
				epoch = l.Epoch
			}
			if attached != n || l.Moving > 0 || l.Epoch != epoch || l.Survives < (min(n, 3)-1)/2 {
				return fmt.Errorf("node %d says %+v", i+1, l)
			}
		}
		return nil
	})
}

func (c *cluster) endpoints() (out []string) {
	for _, m := range c.members {
		out = append(out, m.addr)
	}
	return out
}

// judged runs what disturb does while clients ask the first so many nodes, and
// fails if the answers are not those of one register for each key, or if one stood still.
func (c *cluster) judged(duration time.Duration, endpoints []string, disturb func()) verify.Report {
	c.t.Helper()
	s := seed(c.t)
	done := make(chan struct{})
	var r verify.Report
	var err error
	go func() {
		defer close(done)
		r, err = verify.Run(c.t.Context(), verify.Config{
			Endpoints: endpoints, Duration: duration, Clients: 12, Prefix: fmt.Sprint("v", s, "-"), Seed: s, Timeout: patience,
		})
	}()
	judge := c.pulse(endpoints, done)
	disturb()
	<-done
	judge()
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Logf("%+v", r.Counts)
	if !r.Verdict.OK {
		c.t.Errorf("the answers are not linearizable (undecided: %v)", r.Verdict.Undecided)
	}
	return r
}

// wants checks that what was stored before is there, at every node.
func (c *cluster) wants(keys int) {
	c.t.Helper()
	for i, m := range c.members {
		w := connect(c.t, m.process)
		for k := range keys {
			value := fmt.Sprint("value", k)
			w.served(c.t, fmt.Sprintf("get stays%d\r\n", k), fmt.Sprintf("VALUE stays%d 0 %d\n%s\nEND", k, len(value), value))
		}
		if c.t.Failed() {
			c.t.Fatalf("asked at node %d", i+1)
		}
	}
}

func (c *cluster) fill(keys int) {
	c.t.Helper()
	w := connect(c.t, c.members[0].process)
	for k := range keys {
		value := fmt.Sprint("value", k)
		w.served(c.t, fmt.Sprintf("set stays%d 0 0 %d\r\n%s\r\n", k, len(value), value), "STORED")
	}
}

// A node is killed and started again, another is paused, and a fourth joins:
// meanwhile and after it each key is one register, and nothing is lost.
func TestClusterUnderFaults(t *testing.T) {
	c := &cluster{t: t}
	c.grow(3)
	c.fill(100)
	c.judged(12*time.Second, c.endpoints(), func() {
		pause(2 * time.Second)
		c.members[1].kill(t)
		pause(2 * time.Second)
		c.run(1, "")
		pause(2 * time.Second)
		c.members[2].signal(t, syscall.SIGSTOP)
		pause(2 * time.Second)
		c.members[2].signal(t, syscall.SIGCONT)
	})
	c.settled(3)
	c.judged(8*time.Second, c.endpoints(), func() {
		pause(time.Second)
		c.grow(4)
	})
	c.wants(100)
}

// From a second after a node was killed on, nothing fails that is asked of the
// others.
func TestNothingFailsLongAfterAKill(t *testing.T) {
	c := &cluster{t: t, hurried: true}
	c.grow(3)
	c.members[0].kill(t)
	// A machine that is busy with something else pauses processes too, and that
	// is told from a death only later: so it may take a second look.
	for try := 1; ; try++ {
		pause(time.Second)
		r := c.judged(4*time.Second, c.endpoints()[1:], func() {})
		if r.NotApplied+r.InDoubt == 0 {
			return
		}
		if try == 3 {
			t.Fatalf("%+v, the last: %v", r.Counts, r.Failure)
		}
	}
}

// All nodes are killed at once, and start again at other addresses: what was
// acknowledged is there.
func TestAllNodesAreKilledAndMove(t *testing.T) {
	c := &cluster{t: t}
	c.grow(3)
	c.fill(200)
	for _, m := range c.members {
		m.kill(t)
	}
	for i, m := range c.members {
		m.peer, m.process = "", nil
		c.run(i, c.members[0].peer)
	}
	c.settled(3)
	c.wants(200)
}

// pause lets faults and load go on for a while: it is their duration, and
// nothing is waited for.
func pause(d time.Duration) { time.Sleep(d) }
