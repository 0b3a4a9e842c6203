package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"unkai/internal/admin"
	"unkai/internal/node"
)

// maxDevNodes is how many processes a machine is asked to run for a try.
const maxDevNodes = 16

// local is a cluster of processes on this machine, to try things with.
type local struct {
	o     *outside
	dir   string
	store string
	nodes []*localNode
	ended chan *localNode
}

// localNode is one of them.
type localNode struct {
	number             int // from 1
	listen, peer, http string
	cmd                *exec.Cmd
	log                string
	gone               chan struct{} // closed when the process has ended
	wanted             bool          // it is to end
}

func (o *outside) devCommand() *cobra.Command {
	l := &local{o: o, ended: make(chan *localNode, maxDevNodes)}
	count := 3
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a whole cluster on this machine, to try things with",
		Long: `Run a cluster of several nodes on this machine: each a process of its own, with the
ports 11211, 11011 and 11080 and those that follow, or other free ones. Commands are
read from the input: kill, pause and heal its nodes and see what happens.

It ends with "quit", at the end of the input of a terminal, or by SIGINT or SIGTERM,
and takes all its nodes with it. The data is thrown away, unless --data names a
directory.`,
		Example: `  unkai dev --nodes 3
  unkai dev --nodes 5 --store memory
  unkai dev --nodes 3 --data ./try    # kept, and used again the next time`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.IntVar(&count, "nodes", count, "how many nodes")
	offer(cmd, &l.store, "store", "where records are kept", node.Disk, node.Memory)
	f.StringVar(&l.dir, "data", "", "directory to keep the data in; without it in one\nthat is removed at the end")
	l.store = node.Disk
	cmd.RunE = func(*cobra.Command, []string) error {
		if _, err := settle(f, o.env); err != nil {
			return usageError{err}
		}
		if count < 1 || count > maxDevNodes {
			return usageError{fmt.Errorf("nodes: %d is not from 1 to %d", count, maxDevNodes)}
		}
		return l.run(count)
	}
	return cmd
}

func (l *local) run(count int) (err error) {
	signals, release := l.o.signals()
	defer release()
	if l.dir == "" {
		if l.dir, err = os.MkdirTemp("", "unkai-dev-"); err != nil {
			return fmt.Errorf("make a directory for the data: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(l.dir)) }()
	}
	defer func() { err = errors.Join(err, l.stop()) }()
	ports := portsFrom(11211, 11011, 11080)
	for i := range count {
		listen, peer, web, err := ports()
		if err != nil {
			return err
		}
		n := &localNode{number: i + 1, listen: listen, peer: peer, http: web, log: filepath.Join(l.dir, fmt.Sprintf("node%d.log", i+1))}
		l.nodes = append(l.nodes, n)
		if err := l.start(n); err != nil {
			return err
		}
	}
	if err := l.ready(count); err != nil {
		return err
	}
	l.greet()
	lines := make(chan string)
	go readLines(l.o.in, lines)
	for {
		select {
		case <-signals:
			return nil
		case n := <-l.ended:
			if !n.wanted {
				l.o.complain("node %d has ended by itself; the end of its log, %s:\n%s\n", n.number, n.log, tail(n.log))
			}
		case line, ok := <-lines:
			if !ok {
				lines = nil // not a terminal: only a signal ends it
				if l.o.terminal {
					return nil
				}
				continue
			}
			if quit := l.obey(line); quit {
				return nil
			}
		}
	}
}

// readLines passes lines on until the input ends.
func readLines(in io.Reader, lines chan<- string) {
	s := bufio.NewScanner(in)
	for s.Scan() {
		lines <- s.Text()
	}
	close(lines)
}

// portsFrom gives addresses on loopback with free ports, each kind counted on
// from its first.
func portsFrom(first ...int) func() (a, b, c string, err error) {
	next := func(i int) (string, error) {
		for range 1000 {
			addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(first[i]))
			first[i]++
			if l, err := net.Listen("tcp", addr); err == nil {
				return addr, l.Close()
			}
		}
		return "", fmt.Errorf("no free port below %d", first[i])
	}
	return func() (a, b, c string, err error) {
		var errs [3]error
		a, errs[0] = next(0)
		b, errs[1] = next(1)
		c, errs[2] = next(2)
		return a, b, c, errors.Join(errs[:]...)
	}
}

// start runs a node's process.
func (l *local) start(n *localNode) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	args := []string{
		"serve", "--data", filepath.Join(l.dir, fmt.Sprintf("node%d", n.number)), "--store", l.store,
		"--listen", n.listen, "--peer", n.peer, "--http", n.http, "--log-format", "text",
	}
	for _, other := range l.nodes {
		if other != n {
			args = append(args, "--join", other.peer)
		}
	}
	out, err := os.OpenFile(n.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("keep the log of node %d: %w", n.number, err)
	}
	n.cmd = exec.Command(program, args...) //nolint:gosec // it is this program
	n.cmd.Stdout, n.cmd.Stderr = out, out
	endWithParent(n.cmd)
	if err := errors.Join(n.cmd.Start(), out.Close()); err != nil {
		return fmt.Errorf("start node %d: %w", n.number, err)
	}
	n.wanted, n.gone = false, make(chan struct{})
	go func(cmd *exec.Cmd, gone chan struct{}) {
		_ = cmd.Wait() // how it ended is in its log
		close(gone)
		l.ended <- n
	}(n.cmd, n.gone)
	return nil
}

const devPatience = time.Minute

// ready waits until all nodes are attached and nothing moves.
func (l *local) ready(count int) error {
	until := time.Now().Add(devPatience)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), statusTimeout)
		var n admin.Nodes
		_, err := page(ctx, l.nodes[0].http, "/v1/nodes", &n)
		cancel()
		attached := 0
		for _, m := range n.Nodes {
			if m.Alive && m.State == "attached" {
				attached++
			}
		}
		if err == nil && attached == count && n.Moving == 0 {
			return nil
		}
		select {
		case n := <-l.ended:
			return fmt.Errorf("node %d did not start; its log, %s:\n%s", n.number, n.log, tail(n.log))
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(until) {
			return fmt.Errorf("%d of %d nodes are attached after %v; see the logs in %s", attached, count, devPatience, l.dir)
		}
	}
}

// tail is the end of a file, as far as it can be read.
func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-1000):])
}

func (l *local) greet() {
	l.o.complain("ready: %d nodes, data and logs in %s\n\n", len(l.nodes), l.dir)
	var all []string
	for _, n := range l.nodes {
		l.o.complain("  node %d   clients %s   http %s\n", n.number, n.listen, n.http)
		all = append(all, n.listen)
	}
	l.o.complain("\n  unkai nodes --http %s\n  unkai verify --endpoints %s\n\n%s", l.nodes[0].http, strings.Join(all, ","), devHelp)
}

const devHelp = "commands: status, kill N, pause N, heal N, help, quit\n"

// obey carries out one line of the input and reports whether it is the last.
func (l *local) obey(line string) (quit bool) {
	words := strings.Fields(line)
	if len(words) == 0 {
		return false
	}
	if len(words) == 1 {
		switch words[0] {
		case "quit", "exit":
			return true
		case "status":
			l.status()
			return false
		}
		l.o.complain("%s", devHelp)
		return false
	}
	i, err := strconv.Atoi(words[1])
	if err != nil || i < 1 || i > len(l.nodes) {
		l.o.complain("%q is no node: say 1 to %d\n", words[1], len(l.nodes))
		return false
	}
	if err := l.act(words[0], l.nodes[i-1]); err != nil {
		l.o.complain("%v\n", err)
	}
	return false
}

func (l *local) status() {
	for _, n := range l.nodes {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		var all admin.Nodes
		_, err := page(ctx, n.http, "/v1/nodes", &all)
		cancel()
		if err == nil {
			l.o.complain("%s", describeNodes(&all))
			return
		}
	}
	l.o.complain("no node answers\n")
}

// act kills, pauses or heals a node.
func (l *local) act(what string, n *localNode) error {
	alive := true
	select {
	case <-n.gone:
		alive = false
	default:
	}
	switch {
	case what == "heal" && !alive:
		if err := l.start(n); err != nil {
			return err
		}
		l.o.complain("node %d starts again\n", n.number)
		return nil
	case what != "kill" && what != "pause" && what != "heal":
		l.o.complain("%s", devHelp)
		return nil
	case !alive:
		return fmt.Errorf("node %d is not running", n.number)
	}
	s := map[string]syscall.Signal{"kill": syscall.SIGKILL, "pause": syscall.SIGSTOP, "heal": syscall.SIGCONT}[what]
	n.wanted = what == "kill"
	if err := n.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("%s node %d: %w", what, n.number, err)
	}
	if what == "kill" {
		<-n.gone // or the next word could come before the end
	}
	l.o.complain("%s node %d: done\n", what, n.number)
	return nil
}

// stop ends all nodes, the last first.
func (l *local) stop() error {
	var errs []error
	for i := len(l.nodes) - 1; i >= 0; i-- {
		n := l.nodes[i]
		if n.cmd == nil || n.cmd.Process == nil {
			continue
		}
		n.wanted = true
		for _, s := range []os.Signal{syscall.SIGCONT, syscall.SIGTERM} {
			if err := n.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
				errs = append(errs, fmt.Errorf("stop node %d: %w", n.number, err))
			}
		}
		select {
		case <-n.gone:
		case <-time.After(stopGrace + 4*time.Second):
			errs = append(errs, fmt.Errorf("node %d did not stop and was killed", n.number), n.cmd.Process.Kill())
			<-n.gone
		}
	}
	return errors.Join(errs...)
}
