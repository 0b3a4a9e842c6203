package node_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"unkai/internal/admin"
	"unkai/internal/core/topology"
	"unkai/internal/node"
)

// polite are clients as well-behaved pools make them: before they ask they look whether
// their connection has ended, and if so they ask another node.
type polite struct {
	t        *testing.T
	quit     chan struct{}
	leave    chan struct{} // closed: those at the last node go elsewhere by themselves
	all      sync.WaitGroup
	there    sync.WaitGroup // for the first answer to each
	asked    atomic.Int64
	moved    atomic.Int64
	failures atomic.Int64
}

// visit begins to ask some nodes, a few clients at each.
func visit(t *testing.T, all ...*node.Node) *polite {
	t.Helper()
	p := &polite{t: t, quit: make(chan struct{}), leave: make(chan struct{})}
	p.there.Add(4 * len(all))
	for i := range 4 * len(all) {
		p.all.Go(func() { p.client(i, all) })
	}
	t.Cleanup(p.stop)
	p.there.Wait()
	return p
}

func (p *polite) stop() {
	select {
	case <-p.quit:
	default:
		close(p.quit)
	}
	p.all.Wait()
}

func (p *polite) fail(format string, args ...any) {
	if p.failures.Add(1) == 1 {
		p.t.Errorf(format, args...)
	}
}

func (p *polite) client(i int, all []*node.Node) {
	at := i % len(all)
	var first sync.Once
	defer first.Do(p.there.Done)
	for {
		nc, err := net.Dial("tcp", all[at].Listen().String())
		if err != nil { // it has stopped: nothing was asked
			at = (at + 1) % len(all)
			continue
		}
		on := p.connection(nc, i, at == len(all)-1, func() { first.Do(p.there.Done) })
		_ = nc.Close()
		if !on {
			return
		}
		p.moved.Add(1)
		at = (at + 1) % len(all)
	}
}

// connection asks until somebody wants it to end. It reports whether to go on elsewhere.
func (p *polite) connection(nc net.Conn, i int, last bool, answered func()) bool {
	r := bufio.NewReader(nc)
	leave := p.leave
	if !last {
		leave = nil
	}
	for k := 0; ; k++ {
		// Twice: the time may be up because this process stood still.
		for _, d := range []time.Duration{time.Duration(20+i) * time.Millisecond, time.Millisecond} {
			_ = nc.SetReadDeadline(time.Now().Add(d))
			if _, err := r.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
				return true
			}
		}
		_ = nc.SetReadDeadline(time.Time{})
		select {
		case <-p.quit:
			return false
		case <-leave:
			return true
		default:
		}
		// New keys: of those nobody finds anything.
		q, want := fmt.Sprintf("set polite%d-%d 0 0 1\r\nx\r\n", i, k), "STORED\r\n"
		if k%2 == 1 {
			q, want = "get nothing\r\n", "END\r\n"
		}
		before := stood()
		if _, err := nc.Write([]byte(q)); err != nil {
			p.fail("it could not ask: %v", err)
			return true
		}
		line, err := r.ReadString('\n')
		if err != nil {
			p.fail("it got no answer: %v", err)
			return true
		}
		// A machine that stands still is no fault: some did not answer in time.
		excused := strings.Contains(line, "in time") || strings.Contains(line, "in doubt") && stood()-before > tardy
		if line != want && !excused {
			p.fail("%q", line)
		}
		p.asked.Add(1)
		answered()
	}
}

// tardy is for how long a machine stands still that makes a write doubtful.
const tardy = 200 * time.Millisecond

// goodbye is a farewell that is soon over, and long enough to be seen.
const goodbye = 5 * time.Second

func short(c *node.Config) { c.Farewell = goodbye }

// endless is a farewell that no test sees the end of.
func endless(c *node.Config) { c.Farewell = 10 * patience }

// forClients is a job that waits for nothing but clients.
func forClients(j admin.Job) bool {
	return len(j.Waits) == 1 && strings.Contains(j.Waits[0], "to leave node")
}

// leaving begins to take a node out, whose clients are to be told of.
func leaving(t *testing.T, kind string, n, asked *node.Node, set func(*node.Config)) int {
	t.Helper()
	id := idOf(t, n)
	names := []string{id}
	if kind == "replace" {
		names = append(names, idOf(t, built(t, func(c *node.Config) { set(c); manual(c) }, asked.Peer())))
	}
	p, j := begin(t, asked, kind, names...)
	if len(p.Warnings) == 0 || !strings.HasSuffix(p.Warnings[len(p.Warnings)-1], "seconds at most") || !strings.Contains(p.Warnings[len(p.Warnings)-1], " clients are connected to node "+id) {
		t.Errorf("%q", p.Warnings)
	}
	return j.ID
}

func gone(t *testing.T, n *node.Node) {
	t.Helper()
	select {
	case <-n.Done():
	case <-time.After(patience):
		t.Fatal("a removed node goes on")
	}
	if err := n.Err(); !errors.Is(err, node.ErrDrained) || !errors.Is(err, topology.ErrRemoved) {
		t.Errorf("it stopped with %v", err)
	}
}

// Clients that stay at a node which is drained, or replaced, get all their answers: it goes
// on answering them, and at last closes their connections between requests.
func TestClientsOfALeaver(t *testing.T) {
	for _, kind := range []string{"detach", "replace"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			all := cluster(t, 4, short)
			p := visit(t, all...)
			taken(t, p, kind, all[0], all[1], all[2])
			if kind == "detach" {
				taken(t, p, kind, all[3], all[1], all[2]) // is waited for as long
			}
			p.stop()
			if n := p.failures.Load(); n > 0 {
				t.Errorf("%d operations of %d failed", n, p.asked.Load())
			}
			dial(t, all[1]).check(300)
		})
	}
}

// taken has a node leave, whose clients stay until it has.
func taken(t *testing.T, p *polite, kind string, leaver, asked, other *node.Node) {
	t.Helper()
	began := time.Now()
	id := leaving(t, kind, leaver, asked, short)
	for _, n := range []*node.Node{asked, other} {
		if waits := awaited(t, n, id, forClients); waits.State != admin.JobRunning {
			t.Errorf("it did not wait: %+v", waits)
		}
	}
	before, moved := p.asked.Load(), p.moved.Load()
	if done := ended(t, asked, id); done.State != admin.JobDone {
		t.Errorf("%+v", done)
	}
	if took := time.Since(began); took < goodbye {
		t.Errorf("it was waited for its clients for %v", took)
	}
	gone(t, leaver)
	for until := time.Now().Add(patience); p.moved.Load() < moved+4 && time.Now().Before(until); {
		time.Sleep(5 * time.Millisecond)
	}
	if p.asked.Load() == before || p.moved.Load() < moved+4 {
		t.Errorf("asked %d and then %d times, moved %d and then %d times", before, p.asked.Load(), moved, p.moved.Load())
	}
}

// A job that waits for nothing but clients can be cancelled: the node joins again.
func TestCancelWhileClientsLeave(t *testing.T) {
	t.Parallel()
	all := cluster(t, 4, endless)
	p := visit(t, all...)
	id := leaving(t, "detach", all[3], all[1], endless)
	awaited(t, all[1], id, forClients)
	if code, text := post(t, all[2], "/v1/job", admin.Order{Do: "cancel", Job: id}, nil); code != 200 {
		t.Fatalf("%d %s", code, text)
	}
	if done := ended(t, all[1], id); done.State != admin.JobCancelled {
		t.Errorf("%+v", done)
	}
	p.stop()
	if n := p.failures.Load(); n > 0 {
		t.Errorf("%d operations of %d failed", n, p.asked.Load())
	}
	settled(t, 4, all...)
	dial(t, all[3]).check(300)
}

// A drained node goes as soon as its clients have left it, or when it is stopped.
func TestADrainedNodeNeedNotWait(t *testing.T) {
	for _, how := range []string{"its clients leave", "it is stopped"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			all := cluster(t, 4, endless)
			p := visit(t, all...)
			id := leaving(t, "detach", all[3], all[1], endless)
			awaited(t, all[1], id, forClients)
			if how == "it is stopped" {
				stop(t, all[3])
			} else {
				close(p.leave)
			}
			if done := ended(t, all[1], id); done.State != admin.JobDone {
				t.Errorf("%+v", done)
			}
			if how != "it is stopped" {
				gone(t, all[3])
			}
			p.stop()
		})
	}
}
