package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// pack is the processes of one system, each with a directory and a log.
type pack struct {
	dir   string
	procs []*process
	last  []func() // what has to be closed before they are stopped
}

type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// start starts one more process. It dies with this one, whatever happens.
func (p *pack) start(program string, args ...string) error {
	log := filepath.Join(p.dir, fmt.Sprintf("%d.log", len(p.procs)+1))
	f, err := os.Create(log)
	if err != nil {
		return fmt.Errorf("make a log: %w", err)
	}
	defer func() { _ = f.Close() }()
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", program, err)
	}
	proc := &process{cmd: cmd, log: log, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(proc.done)
	}()
	p.procs = append(p.procs, proc)
	return nil
}

// kill is kill -9.
func (p *process) kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill: %w", err)
	}
	<-p.done
	return nil
}

// stop ends all: politely, then not.
func (p *pack) stop() error {
	for _, f := range p.last {
		f()
	}
	for _, proc := range p.procs {
		_ = proc.cmd.Process.Signal(syscall.SIGTERM) // it may be dead already
	}
	polite := time.After(5 * time.Second)
	var errs []error
	for _, proc := range p.procs {
		select {
		case <-proc.done:
		case <-polite:
			errs = append(errs, proc.kill())
			polite = time.After(0)
		}
	}
	return errors.Join(errs...)
}

// tails are the ends of all logs.
func (p *pack) tails() string {
	var out strings.Builder
	for _, proc := range p.procs {
		b, err := os.ReadFile(proc.log)
		if err != nil {
			b = []byte(err.Error())
		}
		fmt.Fprintf(&out, "%s:\n%s\n", proc.log, b[max(0, len(b)-1000):])
	}
	return out.String()
}

// cpu is the CPU time that all processes have used, user and system.
func (p *pack) cpu() (sum time.Duration, err error) {
	for _, proc := range p.procs {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", proc.cmd.Process.Pid))
		if err != nil {
			return 0, fmt.Errorf("read CPU time: %w", err)
		}
		d, err := parseStat(b)
		if err != nil {
			return 0, err
		}
		sum += d
	}
	return sum, nil
}

// parseStat reads utime and stime, the fields 14 and 15, in units of 10 ms.
// Field 2 is the name in parentheses and may contain anything.
func parseStat(b []byte) (sum time.Duration, err error) {
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("read CPU time: %q is too short", b)
	}
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read CPU time: %w", err)
		}
		sum += time.Duration(n) * 10 * time.Millisecond
	}
	return sum, nil
}

// ownCPU is the CPU time that the load generator has used.
func ownCPU() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("read own CPU time: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// addresses are free ones of 127.0.0.1, all different, chosen by the kernel.
func addresses(ctx context.Context, n int) (out []string, err error) {
	for range n {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer func() { _ = l.Close() }()
		out = append(out, l.Addr().String())
	}
	return out, nil
}

// portOf is the port of an address.
func portOf(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }
