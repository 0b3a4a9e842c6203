package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"unkai/internal/admin"
)

// visitors are clients as well-behaved pools make them: before they ask they look whether
// their connection has ended, and if so they ask another node.
type visitors struct {
	t             *testing.T
	quit          chan struct{}
	all           sync.WaitGroup
	asked, failed atomic.Int64
}

// visit begins to ask some nodes, a few clients at each.
func (c *cluster) visit() *visitors {
	v := &visitors{t: c.t, quit: make(chan struct{})}
	at := c.endpoints()
	for i := range 4 * len(at) {
		v.all.Go(func() {
			for to := i; !v.over(); to++ {
				if nc, err := net.DialTimeout("tcp", at[to%len(at)], patience); err == nil {
					v.ask(nc, i)
					_ = nc.Close()
				}
			}
		})
	}
	c.t.Cleanup(v.leave)
	return v
}

func (v *visitors) over() bool {
	select {
	case <-v.quit:
		return true
	default:
		return false
	}
}

func (v *visitors) leave() {
	if !v.over() {
		close(v.quit)
	}
	v.all.Wait()
}

// ask asks until its connection ends.
func (v *visitors) ask(nc net.Conn, i int) {
	r := bufio.NewReader(nc)
	for k := 0; !v.over(); k++ {
		// Twice: the time may be up because this process stood still.
		for _, d := range []time.Duration{time.Duration(20+i%20) * time.Millisecond, time.Millisecond} {
			_ = nc.SetReadDeadline(time.Now().Add(d))
			if _, err := r.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
				return
			}
		}
		_ = nc.SetDeadline(time.Now().Add(patience))
		q, want := fmt.Sprintf("set visitor%d-%d 0 0 1\r\nx\r\n", i, k), "STORED\r\n"
		if k%2 == 1 {
			q, want = "get nothing\r\n", "END\r\n"
		}
		_, err := nc.Write([]byte(q))
		line := ""
		if err == nil {
			line, err = r.ReadString('\n')
		}
		v.asked.Add(1)
		if err == nil && (line == want || strings.Contains(line, "in time")) { // a machine that stands still is no fault
			continue
		}
		if v.failed.Add(1) == 1 {
			v.t.Errorf("asked %q it said %q, and then %v", q, line, err)
		}
		if err != nil {
			return
		}
	}
}

// take begins a job that takes a node out, and waits until it waits for that one's clients.
func (c *cluster) take(at *member, args ...string) (id int) {
	c.t.Helper()
	eventually(c.t, "the job begins", func() error { // the last one may have something left to forget
		plan, err := c.unkai(at, append([]string{"plan"}, args...)...)
		if err != nil {
			return fmt.Errorf("%w: %s", err, plan)
		}
		if !strings.Contains(plan, "clients are connected to node") {
			return fmt.Errorf("the plan says nothing of clients: %s", plan)
		}
		out, err := c.unkai(at, append(args, "--yes", "--json")...)
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		var j admin.Job
		err = json.Unmarshal([]byte(out), &j)
		id = j.ID
		return err
	})
	c.tells(at, "clients to leave node", "jobs")
	return id
}

// done waits until a job is.
func (c *cluster) done(at *member, id int) {
	c.t.Helper()
	eventually(c.t, "the job ends", func() error {
		j, err := c.jobs(at)
		if err != nil {
			return err
		}
		for _, e := range j.Ended {
			if e.ID == id && e.State == admin.JobDone {
				return nil
			}
		}
		return fmt.Errorf("%+v", j.Running)
	})
}

// A node is replaced and then another drained while clients ask them and the others. They
// stay until their connections are closed, and no operation fails. The first is stopped as
// soon as it holds nothing; the second, which without -short is waited for, ends by itself.
func TestClientsOfThoseWhoLeave(t *testing.T) {
	c := &cluster{t: t}
	c.grow(4)
	c.fill(200)
	by := &member{dir: filepath.Join(t.TempDir(), "data"), manual: true}
	c.members = append(c.members, by)
	c.run(4, c.members[0].peer)
	m := c.members
	v := c.visit()

	id := c.take(m[0], "replace", m[3].peer, by.peer)
	c.tells(m[1], "holds nothing any more, still has ", "nodes")
	m[3].signal(t, syscall.SIGTERM)
	if code := m[3].awaitExit(t); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	c.done(m[0], id)
	c.members = []*member{m[0], m[1], m[2], by}
	c.settled(4)

	id = c.take(m[0], "detach", m[2].peer)
	if testing.Short() {
		v.leave() // at once
	}
	select {
	case <-m[2].exited: // without -short after a minute
	case <-time.After(time.Minute + patience):
		t.Fatal("a drained node goes on")
	}
	if code := m[2].awaitExit(t); code != 0 || !strings.Contains(m[2].output.String(), "was removed from its cluster") {
		t.Errorf("it ended with %d: %s", code, m[2].output.tail())
	}
	c.done(m[0], id)
	v.leave()
	if n := v.failed.Load(); n > 0 {
		t.Errorf("%d operations of %d failed", n, v.asked.Load())
	}
	t.Logf("%d operations", v.asked.Load())
	c.members = []*member{m[0], m[1], by}
	c.settled(3)
	c.wants(200)

	c.members = []*member{m[2]}
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	again := launch(t, "the drained node", program, "serve", "--data", m[2].dir, "--listen", freeAddr(t), "--peer", m[2].peer, "--http", "off", "--cache", "16MiB")
	if code := again.awaitExit(t); code != 6 {
		t.Errorf("started again it ended with %d: %s", code, again.output.tail())
	}
}
