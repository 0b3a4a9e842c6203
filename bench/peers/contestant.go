package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// nodes is how many processes hold data in every system.
const nodes = 3

// patience is the longest that any one operation may take.
const patience = 2500 * time.Millisecond

// contestant is a system that can be compared.
type contestant struct {
	name string
	// writes and reads say what an acknowledged write and a read are worth.
	writes, reads string
	// extra ones run only when --only names them.
	extra   bool
	get     string
	find    func(ctx context.Context, bin string, s settings) (string, error)
	start   func(ctx context.Context, program, dir string, s settings) (cluster, error)
	program string
}

// cluster is a running system.
type cluster interface {
	// connect opens one client of one of the nodes.
	connect(ctx context.Context, node int) (client, error)
	// dearest is the node whose death hurts most, or -1 when all are alike.
	dearest(ctx context.Context) (int, error)
	// members are the processes; the first three hold the data, in order.
	members() *pack
}

// client runs one operation at a time.
type client interface {
	// get fails also when the key is not there.
	get(key string) error
	put(key string, value []byte) error
	// swap reads a key and replaces what it has read, or says that another was faster.
	swap(key string, value []byte) (won bool, err error)
	close()
}

func contestants() []contestant {
	return []contestant{unkai(), etcd(), nats("nats"), redis(), nats("nats-lazy")}
}

func names() (out []string) {
	for _, c := range contestants() {
		out = append(out, c.name)
	}
	return out
}

// build makes a program of this module's tools or, in dir, of another module.
func build(ctx context.Context, dir, pkg, out string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out, pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", pkg, err, b)
	}
	return out, nil
}

// module is the directory of this module.
func module(ctx context.Context) (string, error) {
	b, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	mod := strings.TrimSpace(string(b))
	if filepath.Base(mod) != "go.mod" {
		return "", errors.New("run it in the directory bench")
	}
	return filepath.Dir(mod), nil
}

// version is what a program says about itself.
func version(ctx context.Context, program string) string {
	for _, arg := range []string{"--version", "version"} {
		if b, err := exec.CommandContext(ctx, program, arg).Output(); err == nil {
			line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
			return line
		}
	}
	return "unknown"
}

// until asks again and again, until there is no error or too much time has passed.
func until(ctx context.Context, what string, p *pack, ask func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		one, done := context.WithTimeout(ctx, patience)
		err := ask(one)
		done()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w\n%s", what, err, p.tails())
		case <-time.After(100 * time.Millisecond):
		}
	}
}
