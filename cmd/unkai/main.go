// Command unkai is a node of Unkai, and what is needed to look after one.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"unkai/internal/core/topology"
	"unkai/internal/node"
)

// outside is what the commands touch of the world. Tests bring their own.
type outside struct {
	in       io.Reader
	out, err io.Writer
	env      func(string) (string, bool)
	terminal bool // err is a person's
	drawn    int  // lines that redraw has written last
	// signals begins to catch SIGINT and SIGTERM, until release.
	signals func() (caught <-chan os.Signal, release func())
	start   func(context.Context, node.Config) (running, error)
}

// running is a node, as far as serve is concerned.
type running interface {
	Listen() net.Addr
	HTTP() net.Addr
	Done() <-chan struct{}
	Err() error
	Stop(context.Context) error
}

func main() {
	o := &outside{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, env: os.LookupEnv, terminal: isTerminal(os.Stderr),
		signals: func() (<-chan os.Signal, func()) {
			c := make(chan os.Signal, 2)
			signal.Notify(c, syscall.SIGINT, syscall.SIGTERM)
			return c, func() { signal.Stop(c) }
		},
		start: func(ctx context.Context, cfg node.Config) (running, error) {
			n, err := node.Start(ctx, cfg)
			if err != nil {
				return nil, err
			}
			return n, nil
		},
	}
	os.Exit(o.run(os.Args[1:]))
}

// The exit codes. A second signal adds its number to exitSignal.
const (
	exitOK       = 0
	exitFailed   = 1
	exitUsage    = 2
	exitConflict = 3 // it cannot be done now
	exitNoQuorum = 4 // some keys cannot be read and written now
	exitUnequal  = 5 // some replicas could not be made equal
	exitRemoved  = 6 // the node is no member any more: to start it again is of no use
	exitSignal   = 128
)

// usageError is a mistake in how a command was called.
type usageError struct{ error }

// Unwrap gives what was wrong.
func (e usageError) Unwrap() error { return e.error }

// interrupted is the end by a second signal, in the middle of things.
type interrupted struct{ signal os.Signal }

// Error says which signal.
func (e interrupted) Error() string {
	return fmt.Sprintf("stopped at once by a second signal (%v)", e.signal)
}

func (e interrupted) code() int {
	if s, ok := e.signal.(syscall.Signal); ok {
		return exitSignal + int(s)
	}
	return exitSignal
}

// run is the whole program, up to its exit code.
func (o *outside) run(args []string) int {
	root := o.rootCommand()
	root.SetArgs(append([]string{}, args...)) // nil would mean the arguments of the process
	root.SetOut(o.out)
	root.SetErr(o.err)
	cmd, err := root.ExecuteC()
	if err == nil {
		return exitOK
	}
	if o.drawn > 0 {
		o.redraw("")
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		o.complain("%s: %s\n", cmd.CommandPath(), line)
	}
	var usage usageError
	if errors.As(err, &usage) {
		o.complain("See '%s --help'.\n", cmd.CommandPath())
		return exitUsage
	}
	var now conflict
	if errors.As(err, &now) {
		return exitConflict
	}
	if errors.Is(err, errNoQuorum) {
		return exitNoQuorum
	}
	if errors.Is(err, errUnequal) {
		return exitUnequal
	}
	if errors.Is(err, topology.ErrRemoved) {
		return exitRemoved
	}
	var stopped interrupted
	if errors.As(err, &stopped) {
		return stopped.code()
	}
	return exitFailed
}

// complain tells the person at the other end. When that fails, nobody is left
// to be told.
func (o *outside) complain(format string, args ...any) {
	_, _ = fmt.Fprintf(o.err, format, args...)
}
