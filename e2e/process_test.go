package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for what must happen: long, because the
// machines of CI are slow, and it is reached in failures only.
const patience = 2 * time.Minute

// process is a server under test.
type process struct {
	name string
	addr string // where memcached's protocol is spoken
	http string // empty for memcached

	command *exec.Cmd
	output  *output
	exited  chan struct{} // closed when the process is gone
}

// output keeps the beginning and the end of what a process printed.
type output struct {
	mu          sync.Mutex
	first, last []byte
}

const keptOutput = 1 << 20 // of each, at least

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.first) < keptOutput {
		o.first = append(o.first, p...)
		return len(p), nil
	}
	if len(o.last) > 2*keptOutput {
		o.last = append(o.last[:0], o.last[len(o.last)-keptOutput:]...)
	}
	o.last = append(o.last, p...)
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.first) + string(o.last)
}

// tail is the end of what was printed, without details: what the test itself says
// must not drown in it.
func (o *output) tail() string {
	var lines []string
	for line := range strings.Lines(o.String()) {
		if !strings.Contains(line, `"level":"DEBUG"`) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-6):], "")
}

// launch starts a server and does not wait for it to serve.
func launch(t testing.TB, name, program string, args ...string) *process {
	t.Helper()
	p := &process{name: name, command: exec.Command(program, args...), output: new(output), exited: make(chan struct{})}
	p.command.Stdout, p.command.Stderr = p.output, p.output
	endWithTests(p.command)
	if err := p.command.Start(); err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	go func() {
		// How it ended is in ProcessState.
		_ = p.command.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s printed:\n%s", name, p.output.tail())
		}
		p.kill(t)
	})
	return p
}

// kill is kill -9, and waits until the process is gone.
func (p *process) kill(t testing.TB) {
	t.Helper()
	if err := p.command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("killing %s: %v", p.name, err)
	}
	p.awaitExit(t)
}

func (p *process) signal(t testing.TB, s os.Signal) {
	t.Helper()
	if err := p.command.Process.Signal(s); err != nil {
		t.Fatalf("sending %v to %s: %v", s, p.name, err)
	}
}

// awaitExit waits until the process is gone and returns its exit code, -1 if a
// signal ended it.
func (p *process) awaitExit(t testing.TB) int {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		t.Fatalf("%s is still running after %v", p.name, patience)
	}
	return p.command.ProcessState.ExitCode()
}

// gone reports whether the process has ended.
func (p *process) gone() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// awaitServing waits until the server answers a request.
func (p *process) awaitServing(t testing.TB) {
	t.Helper()
	eventually(t, p.name+" serves", func() error {
		if p.gone() {
			t.Fatalf("%s ended with %v:\n%s", p.name, p.command.ProcessState, p.output.tail())
		}
		return p.answers()
	})
}

// answers asks on a new connection for what only a server that serves tells.
func (p *process) answers() error {
	c, err := net.DialTimeout("tcp", p.addr, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("stats settings\r\n")); err != nil {
		return err
	}
	b := make([]byte, 64)
	n, err := c.Read(b)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(b[:n], []byte("STAT ")) {
		return fmt.Errorf("stats settings was answered with %q", b[:n])
	}
	return nil
}

// residentBytes is how much memory the process holds.
func (p *process) residentBytes(t testing.TB) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.command.Process.Pid))
	if err != nil {
		skip(t, "no memory figures of processes here: %v", err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatalf("reading the memory of %s: %v", p.name, err)
			}
			return kb << 10
		}
	}
	t.Fatalf("no VmRSS of %s", p.name)
	return 0
}

// eventually waits until try has no error: the state of another process can
// only be asked for.
func eventually(t testing.TB, what string, try func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waiting until %s: %v", what, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

var (
	portsMu    sync.Mutex
	portsTaken = map[int]bool{11211: true, 11011: true, 11080: true}
)

// freeAddr is a loopback address nobody listens on. It lies below the range
// from which the kernel picks ports of outgoing connections, so that it stays
// free until the server under test takes it, and after a restart.
func freeAddr(t testing.TB) string {
	t.Helper()
	portsMu.Lock()
	defer portsMu.Unlock()
	for range 1000 {
		port := 10000 + rand.IntN(22000)
		if portsTaken[port] {
			continue
		}
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			continue
		}
		l.Close()
		portsTaken[port] = true
		return l.Addr().String()
	}
	t.Fatal("no free port")
	return ""
}

// unhurriedly has operations wait for a disk that is slow just now.
const unhurriedly = "--request-timeout=10s"

// startMemcached runs a real memcached with some more options. Its background
// threads are off: an item that they hold at the wrong moment is answered
// differently, with another padding after decr for instance.
func startMemcached(t testing.TB, options ...string) *process {
	t.Helper()
	program := need(t, "memcached", "memcached")
	addr := freeAddr(t)
	host, port, _ := net.SplitHostPort(addr)
	args := append([]string{"-l", host, "-p", port, "-U", "0", "-t", "2", "-m", "512", "-o", "no_lru_maintainer,no_lru_crawler"}, options...)
	if os.Getuid() == 0 {
		args = append(args, "-u", "root")
	}
	p := launch(t, "memcached", program, args...)
	p.addr = addr
	p.awaitServing(t)
	return p
}

// serve is how to run unkai; it can be started again on the same data.
type serve struct {
	store   string // disk or memory
	dir     string
	addr    string
	http    string
	options []string
}

// newServe chooses a directory and ports.
func newServe(t testing.TB, store string, options ...string) serve {
	return serve{
		store: store, dir: filepath.Join(t.TempDir(), "data"),
		addr: freeAddr(t), http: freeAddr(t), options: options,
	}
}

// launch starts unkai and does not wait.
func (s serve) launch(t testing.TB) *process {
	t.Helper()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{
		"serve", "--data", s.dir, "--store", s.store,
		"--listen", s.addr, "--http", s.http, "--peer", freeAddr(t), unhurriedly,
	}, s.options...)
	p := launch(t, "unkai "+s.store, program, args...)
	p.addr, p.http = s.addr, s.http
	return p
}

// start starts unkai and waits until it serves.
func (s serve) start(t testing.TB) *process {
	t.Helper()
	p := s.launch(t)
	p.awaitServing(t)
	return p
}

// stores are the engines that most tests run on.
var stores = []string{"disk", "memory"}

// onEveryStore runs a test once for each engine.
func onEveryStore(t *testing.T, test func(t *testing.T, store string)) {
	for _, store := range stores {
		t.Run(store, func(t *testing.T) { test(t, store) })
	}
}
