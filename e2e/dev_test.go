package e2e

import (
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// A whole cluster in one command: it answers, survives a kill, heals, and is gone
// when it is told to end.
func TestDev(t *testing.T) {
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	in, say := io.Pipe()
	p := &process{name: "unkai dev", command: exec.Command(program, "dev", "--nodes", "3", "--store", "memory"), output: new(output), exited: make(chan struct{})}
	p.command.Stdin, p.command.Stdout, p.command.Stderr = in, p.output, p.output
	endWithTests(p.command)
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.command.Wait() // how it ended is in ProcessState
		close(p.exited)
	}()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("it printed:\n%s", p.output.tail())
		}
		_ = p.command.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = say.Close()                               // Wait waits for its input to be copied
		p.awaitExit(t)
	})
	printed := func(what string) {
		t.Helper()
		eventually(t, "it prints "+what, func() error {
			if strings.Contains(p.output.String(), what) {
				return nil
			}
			if p.gone() {
				t.Fatalf("it ended:\n%s", p.output.tail())
			}
			return fmt.Errorf("so far:\n%s", p.output.tail())
		})
	}
	printed("ready: 3 nodes")
	printed("unkai verify --endpoints") // the endpoints stand above it
	addrs := regexp.MustCompile(`clients (\S+)`).FindAllStringSubmatch(p.output.String(), -1)
	if len(addrs) != 3 {
		t.Fatalf("%d endpoints:\n%s", len(addrs), p.output.tail())
	}
	at := func(i int) *wire { return connect(t, &process{name: fmt.Sprint("node ", i+1), addr: addrs[i][1]}) }
	at(0).want(t, "set k 0 0 1\r\nv\r\n", "STORED")
	at(2).want(t, "get k\r\n", "VALUE k 0 1\nv\nEND")
	for _, c := range []struct{ command, answer string }{
		{"nonsense\n", "commands: status, kill N"}, {"kill 9\n", `"9" is no node`}, {"kill 1\n", "kill node 1: done"},
	} {
		if _, err := io.WriteString(say, c.command); err != nil {
			t.Fatal(err)
		}
		printed(c.answer)
	}
	w := at(2)
	eventually(t, "the others go on", func() error {
		if got := w.ask(t, "get k\r\n"); got != "VALUE k 0 1\nv\nEND" {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	for _, c := range []struct{ command, answer string }{
		{"heal 1\n", "node 1 starts again"}, {"pause 2\n", "pause node 2: done"}, {"heal 2\n", "heal node 2: done"},
	} {
		if _, err := io.WriteString(say, c.command); err != nil {
			t.Fatal(err)
		}
		printed(c.answer)
	}
	// Its memory was lost, so node 1 is made a replica anew, which takes a while.
	eventually(t, "all three are attached again", func() error {
		if _, err := io.WriteString(say, "status\n"); err != nil {
			return err
		}
		if !strings.Contains(p.output.String(), "N:R:W 3:2:2") {
			return fmt.Errorf("so far:\n%s", p.output.tail())
		}
		return nil
	})
	if _, err := io.WriteString(say, "quit\n"); err != nil {
		t.Fatal(err)
	}
	if err := say.Close(); err != nil {
		t.Fatal(err)
	}
	if code := p.awaitExit(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
