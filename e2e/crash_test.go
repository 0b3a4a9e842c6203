package e2e

import (
	"errors"
	"os"
	"syscall"
	"testing"
	"time"
)

// crashRounds is how often a test kills the server.
func crashRounds() int {
	if testing.Short() {
		return 3
	}
	return int(envNumber("UNKAI_E2E_ROUNDS", 10))
}

// loadUntil puts load on a server until it has answered so many requests, then
// stops it, and returns when all its clients have noticed.
func (l *ledger) loadUntil(t testing.TB, p *process, seed uint64, answers int64, stop func()) {
	t.Helper()
	target := l.acked.Load() + answers
	done := make(chan error, 1)
	go func() { done <- l.load(p, seed) }()
	eventually(t, "the load has been answered", func() error {
		select {
		case err := <-done:
			t.Fatalf("the load ended early: %v", err)
		default:
		}
		if l.acked.Load() < target {
			return errNotYet
		}
		return nil
	})
	stop()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(2 * patience):
		t.Fatal("clients still wait for a server that is gone")
	}
}

// errNotYet says that the moment has not come.
var errNotYet = errors.New("not yet")

// kill -9 under load, again and again: every acknowledged write is there, and
// nothing that was deleted comes back.
func TestKill(t *testing.T) {
	s := newServe(t, "disk", "--sync", "always")
	seed := seed(t)
	r := random(seed, -1)
	p := s.start(t)
	l := newLedger(t, p)
	for round := range crashRounds() {
		l.loadUntil(t, p, seed+uint64(round), int64(50+r.IntN(4000)), func() { p.kill(t) })
		if r.IntN(3) == 0 {
			// Killed again while it starts, at a random moment.
			p = s.launch(t)
			select {
			case <-p.exited:
			case <-time.After(time.Duration(r.IntN(100)) * time.Millisecond):
			}
			p.kill(t)
		}
		p = s.start(t)
		l.check(t, p)
		if t.Failed() {
			t.Fatalf("in round %d of seed %d", round, seed)
		}
	}
	t.Logf("%d rounds, %d answers, seed %d", crashRounds(), l.acked.Load(), seed)
}

// SIGTERM and SIGINT under load: what is accepted is finished, nothing is cut,
// the exit code is 0, and every write is there.
func TestStopUnderLoad(t *testing.T) {
	for _, signal := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		t.Run(signal.String(), func(t *testing.T) {
			onEveryStore(t, func(t *testing.T, store string) {
				s := newServe(t, store)
				seed := seed(t)
				p := s.start(t)
				l := newLedger(t, p)
				l.orderly = true
				for round := range 2 {
					l.loadUntil(t, p, seed+uint64(round), 1000, func() { p.signal(t, signal) })
					if code := p.awaitExit(t); code != 0 {
						t.Fatalf("exit code %d", code)
					}
					if store == "memory" {
						return // which forgets
					}
					p = s.start(t)
					if l.check(t, p); t.Failed() {
						return
					}
				}
			})
		})
	}
}

// Idle connections do not hold up a stop.
func TestStopIdle(t *testing.T) {
	for _, signal := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		t.Run(signal.String(), func(t *testing.T) {
			onEveryStore(t, func(t *testing.T, store string) {
				p := newServe(t, store).start(t)
				w := connect(t, p)
				w.want(t, "set k 0 0 1\r\nx\r\n", "STORED")
				// Half a request is no reason to wait either.
				half := connect(t, p)
				if _, err := half.Write([]byte("set k 0 0 10\r\nabc")); err != nil {
					t.Fatal(err)
				}
				p.signal(t, signal)
				if code := p.awaitExit(t); code != 0 {
					t.Fatalf("exit code %d", code)
				}
			})
		})
	}
}

// A restart in good order keeps everything, uniques included.
func TestRestart(t *testing.T) {
	s := newServe(t, "disk")
	p := s.start(t)
	w := connect(t, p)
	w.want(t, "set k 7 0 1\r\nx\r\nset t 0 1000 1\r\ny\r\nset gone 0 0 1\r\nz\r\ndelete gone\r\nms s 1 T500\r\ns\r\nmd s I\r\nmg s\r\n",
		"STORED\nSTORED\nSTORED\nDELETED\nHD\nHD\nHD X W")
	began := time.Now()
	ask := []string{"gets k t gone s\r\n", "mg t t f\r\n", "mg s t f\r\n"}
	var before []string
	for _, request := range ask {
		before = append(before, w.ask(t, request))
	}
	p.signal(t, syscall.SIGTERM)
	if code := p.awaitExit(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	p = s.start(t)
	w = connect(t, p)
	for i, request := range ask {
		if after := w.ask(t, request); !same(before[i], after, time.Since(began)) {
			t.Errorf("%q was answered with %q and after the restart with %q", request, before[i], after)
		}
	}
}

// flush_all outlives a crash: what it removed does not come back.
func TestFlushIsDurable(t *testing.T) {
	s := newServe(t, "disk")
	p := s.start(t)
	w := connect(t, p)
	w.want(t, "set a 0 0 1\r\nx\r\nset b 0 0 1\r\ny\r\nflush_all\r\nset b 0 0 1\r\nz\r\n", "STORED\nSTORED\nOK\nSTORED")
	p.kill(t)
	p = s.start(t)
	w = connect(t, p)
	w.want(t, "get a b\r\n", "VALUE b 0 1\nz\nEND")
}
