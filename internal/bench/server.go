package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

const (
	// startLimit is how long a server may take until it answers.
	startLimit = 30 * time.Second
	// lastWords is how much of a server's output is kept for an error.
	lastWords = 4 << 10
)

// server is a contestant's process.
type server struct {
	Place
	version string // what it calls itself

	name   string
	cmd    *exec.Cmd
	output tail
	exited chan struct{} // closed when the process has ended
}

// startServer starts the contestant with a directory of its own below dir, and
// waits until it answers. It dies with ctx.
func startServer(ctx context.Context, c Contestant, dir string) (_ *server, err error) {
	dir, err = os.MkdirTemp(dir, "unkai-bench-")
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	place, err := newPlace(dir)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	args := c.Command(place)
	s := &server{Place: place, name: c.Name, exited: make(chan struct{})}
	s.cmd = exec.CommandContext(ctx, args[0], args[1:]...)
	s.cmd.Stdout, s.cmd.Stderr = &s.output, &s.output
	s.cmd.WaitDelay = time.Second
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	go func() {
		_ = s.cmd.Wait() // ProcessState says how it ended
		close(s.exited)
	}()
	if err := s.await(ctx); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

// await returns when the server answers `version`.
func (s *server) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		version, err := askVersion(ctx, s.Listen)
		if err == nil {
			s.version = version
			return nil
		}
		select {
		case <-s.exited:
			return s.dead()
		case <-ctx.Done():
			return fmt.Errorf("start %s: no answer: %w; it said: %s", s.name, err, &s.output)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// askVersion asks a memcached server who it is.
func askVersion(ctx context.Context, addr string) (string, error) {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return "", err
	}
	if _, err := conn.Write([]byte("version\r\n")); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return "", err
	}
	version, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION ")
	if !ok {
		return "", unexpected("VERSION", []byte(line))
	}
	return version, nil
}

// alive is an error if the process has ended.
func (s *server) alive() error {
	select {
	case <-s.exited:
		return s.dead()
	default:
		return nil
	}
}

func (s *server) dead() error {
	return fmt.Errorf("%s ended by itself (%v); it said: %s", s.name, s.cmd.ProcessState, &s.output)
}

// cpu is the CPU time that the process has used.
func (s *server) cpu() (time.Duration, error) { return cpuOf(s.cmd.Process.Pid) }

// stop kills the process and removes its directory: nobody needs its data.
func (s *server) stop() error {
	err := s.cmd.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	<-s.exited
	if err = errors.Join(err, os.RemoveAll(s.Dir)); err != nil {
		return fmt.Errorf("stop %s: %w", s.name, err)
	}
	return nil
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, b...)
	if over := len(t.kept) - lastWords; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.kept) == 0 {
		return "nothing"
	}
	return string(t.kept)
}
