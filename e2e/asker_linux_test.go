package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// asker writes and reads one key at one node, in turns. Nobody else writes it, so
// what may be there is known: what was last seen or acknowledged, or a write whose
// fate is not known.
type asker struct {
	node     int
	key      string
	replicas []int // of the key, its coordinator first
	wire     *wire
	process  *process

	last  int   // the number of the last write
	known int   // the number of the write that is there, as far as known
	doubt []int // numbers of writes that may yet be there

	mu      sync.Mutex
	answers []answer
	wrong   error // what no register would have answered
}

// answer is how an operation of an asker ended.
type answer struct {
	begun time.Time
	took  time.Duration
	write bool
	err   error // why it failed
}

// askEvery is how long an asker waits between operations.
const askEvery = 200 * time.Millisecond

// run asks until stop is closed.
func (a *asker) run(stop <-chan struct{}) {
	defer a.hangUp()
	for i := 0; ; i++ {
		begun := time.Now()
		var err error
		if i%2 == 0 {
			err = a.set()
		} else {
			err = a.get()
		}
		a.mu.Lock()
		a.answers = append(a.answers, answer{begun, time.Since(begun), i%2 == 0, err})
		a.mu.Unlock()
		select {
		case <-stop:
			return
		case <-time.After(askEvery):
		}
	}
}

func (a *asker) hangUp() {
	if a.wire != nil {
		a.wire.Close()
		a.wire = nil
	}
}

// set writes the next number. A write that certainly failed must never be seen.
func (a *asker) set() error {
	a.last++
	u, sent, err := a.ask(fmt.Sprintf("ms %s %d\r\n%d\r\n", a.key, len(strconv.Itoa(a.last)), a.last))
	switch {
	case err == nil && u.line == "HD":
		a.learn(a.last)
	case err == nil && strings.HasPrefix(u.line, "SERVER_ERROR not applied"), !sent:
	default:
		a.doubt = append(a.doubt, a.last)
	}
	if err == nil && u.line != "HD" {
		err = fmt.Errorf("write: %s", u.line)
	}
	return err
}

// get reads the key.
func (a *asker) get() error {
	u, _, err := a.ask(a.question())
	if err != nil {
		return err
	}
	if strings.HasPrefix(u.line, "SERVER_ERROR") {
		return fmt.Errorf("read: %s", u.line)
	}
	return a.saw(u)
}

func (a *asker) question() string { return "mg " + a.key + " v\r\n" }

// saw judges what a read has found. Once it is known which write is there, others
// in doubt may still come, but none that was there before.
func (a *asker) saw(u unit) error {
	n, err := 0, error(nil)
	if u.line != "EN" {
		n, err = strconv.Atoi(strings.TrimSuffix(string(u.value), "\r\n"))
	}
	if err != nil || n != a.known && !slices.Contains(a.doubt, n) {
		err := fmt.Errorf("%s at node %d is %q, but %d was last, in doubt are %v", a.key, a.node+1, u, a.known, a.doubt)
		a.mu.Lock()
		a.wrong = err
		a.mu.Unlock()
		return err
	}
	a.learn(n)
	return nil
}

// learn notes which write is there.
func (a *asker) learn(n int) {
	a.known = n
	a.doubt = slices.DeleteFunc(a.doubt, func(d int) bool { return d == n })
}

// ask sends a request and reads its reply; sent tells whether it may have reached
// the node.
func (a *asker) ask(request string) (u unit, sent bool, err error) {
	if a.wire == nil {
		w, err := dial(a.process)
		if err != nil {
			return u, false, err
		}
		a.wire = w
	}
	if err = a.wire.SetDeadline(time.Now().Add(patience)); err == nil {
		_, err = a.wire.Write([]byte(request))
	}
	if err == nil {
		u, err = a.wire.read()
	}
	if err != nil {
		a.hangUp()
	}
	return u, true, err
}

// during are the answers to what was asked between two moments.
func (a *asker) during(from, until time.Time) (out []answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.answers {
		if !r.begun.Before(from) && r.begun.Before(until) {
			out = append(out, r)
		}
	}
	return out
}

// wrongly is what was answered wrongly, if anything was.
func (a *asker) wrongly() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.wrong
}
