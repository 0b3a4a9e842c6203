package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A ledger knows what a server has acknowledged, whatever happens to the
// server: writers keep it while they put load on, and afterwards it is compared
// with what is there.
//
// Each key has one writer, so the states it can be in are known: the last one
// acknowledged, or one that was on its way. Watchers read other writers' keys:
// what they have seen must not go back. Counters are everybody's: they lie
// between what was acknowledged and what was asked for.
type ledger struct {
	cells    [][]*cell // by writer
	counters []*counter
	acked    atomic.Int64 // replies in all
	orderly  bool         // the server will stop in good order
}

// cell is what is known of one key.
type cell struct {
	key     string
	version int     // of the newest write asked for
	settled state   // the newest one acknowledged
	pending []state // those on their way behind it
	seen    atomic.Int64

	mu      sync.Mutex
	uniques map[string]int // the version that a unique was shown with
}

// state of a key after its write number version.
type state struct {
	version int
	present bool
}

type counter struct {
	key          string
	acked, asked atomic.Int64
}

const (
	ledgerWriters  = 12
	ledgerWatchers = 2
	ledgerKeys     = 40 // of each writer
	ledgerCounters = 3
)

// newLedger makes a ledger and the counters on the server.
func newLedger(t testing.TB, p *process) *ledger {
	t.Helper()
	l := new(ledger)
	for i := range ledgerWriters {
		var cells []*cell
		for j := range ledgerKeys {
			cells = append(cells, &cell{key: fmt.Sprintf("w%d-%d", i, j), uniques: map[string]int{}})
		}
		l.cells = append(l.cells, cells)
	}
	w := connect(t, p)
	for i := range ledgerCounters {
		c := &counter{key: fmt.Sprintf("counter-%d", i)}
		l.counters = append(l.counters, c)
		w.want(t, "set "+c.key+" 0 0 1\r\n0\r\n", "STORED")
	}
	return l
}

// content is the value that a write of that version stores.
func (c *cell) content(version int) []byte {
	h := fnv.New64a()
	h.Write(fmt.Append(nil, c.key, version))
	r := rand.New(rand.NewPCG(h.Sum64(), 0))
	n := r.IntN(300)
	switch r.IntN(200) {
	case 0:
		n = 300_000
	case 1, 2, 3, 4, 5:
		n = 20_000
	}
	b := fmt.Appendf(nil, "%s/%d/", c.key, version)
	for i := range n {
		b = append(b, byte(i*version))
	}
	return b
}

// versionOf is the version of a value that was found, if it is whole.
func (c *cell) versionOf(value []byte) (int, error) {
	f := strings.SplitN(string(value), "/", 3)
	if len(f) == 3 && f[0] == c.key {
		if v, err := strconv.Atoi(f[1]); err == nil && bytes.Equal(value, c.content(v)) {
			return v, nil
		}
	}
	return 0, fmt.Errorf("%s has a value that nobody wrote: %.80q", c.key, value)
}

// sight is one VALUE of a gets.
func (c *cell) sight(u unit) (int, error) {
	version, err := c.versionOf(bytes.TrimSuffix(u.value, []byte("\r\n")))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(u.line)
	if len(f) != 5 || f[1] != c.key {
		return 0, fmt.Errorf("gets %s was answered with %q", c.key, u.line)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if before, ok := c.uniques[f[4]]; ok && before != version {
		return 0, fmt.Errorf("%s had the unique %s with write %d and now with write %d", c.key, f[4], before, version)
	}
	c.uniques[f[4]] = version
	return version, nil
}

// load runs writers and watchers until the server hangs up, or until one of
// them is answered wrongly: then all stop. It returns what was wrong.
func (l *ledger) load(p *process, seed uint64) error {
	var wires []*wire
	for range ledgerWriters + ledgerWatchers {
		w, err := dial(p)
		if err != nil {
			return err
		}
		defer w.Close()
		wires = append(wires, w)
	}
	errs := make(chan error, len(wires))
	for i, w := range wires {
		go func() {
			r := random(seed, i)
			if i < ledgerWriters {
				errs <- l.write(w, r, l.cells[i])
			} else {
				errs <- l.watch(w, r)
			}
		}()
	}
	var wrong error
	for range wires {
		if err := <-errs; !hungUp(err) || l.orderly && errors.Is(err, errCut) {
			wrong = errors.Join(wrong, err)
			for _, w := range wires {
				w.Close()
			}
		}
	}
	return wrong
}

// hungUp reports whether a connection failed because it has ended.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, errCut)
}

// errCut is the end of a connection in the middle of a reply: to be expected of
// a server that was killed, and of no other.
var errCut = errors.New("a reply was cut")

// cut tells such an end from one between replies.
func cut(u unit, err error) error {
	if u.line != "" && hungUp(err) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w after %.80q", errCut, u.line)
	}
	return err
}

// write asks for batches of writes and notes what is acknowledged.
func (l *ledger) write(w *wire, r *rand.Rand, cells []*cell) error {
	for {
		var request []byte
		var replies []func(unit) error // to each request in turn
		for range 1 + r.IntN(8) {
			c := cells[r.IntN(len(cells))]
			switch r.IntN(10) {
			case 0, 1:
				request = fmt.Appendf(request, "delete %s\r\n", c.key)
				replies = append(replies, c.writing(false, "DELETED", "NOT_FOUND"))
			case 2:
				k := l.counters[r.IntN(len(l.counters))]
				k.asked.Add(1)
				request = fmt.Appendf(request, "incr %s 1\r\n", k.key)
				replies = append(replies, func(u unit) error {
					k.acked.Add(1)
					_, err := strconv.ParseUint(u.line, 10, 64)
					return err
				})
			case 3, 4, 5:
				v := c.content(c.version + 1)
				request = fmt.Appendf(request, "ms %s %d\r\n%s\r\n", c.key, len(v), v)
				replies = append(replies, c.writing(true, "HD"))
			default:
				v := c.content(c.version + 1)
				request = fmt.Appendf(request, "set %s 0 0 %d\r\n%s\r\n", c.key, len(v), v)
				replies = append(replies, c.writing(true, "STORED"))
			}
		}
		if err := w.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		// A failed write still lets the replies be read that came before.
		_, writeErr := w.Write(request)
		for _, reply := range replies {
			u, err := w.read()
			if err != nil {
				return cut(u, err)
			}
			if err := reply(u); err != nil {
				return err
			}
			l.acked.Add(1)
		}
		if writeErr != nil {
			return writeErr
		}
	}
}

// writing notes a write that is about to be asked for; what it returns takes
// the reply.
func (c *cell) writing(present bool, replies ...string) func(unit) error {
	c.version++
	c.pending = append(c.pending, state{c.version, present})
	return func(u unit) error {
		for _, reply := range replies {
			if u.line == reply {
				c.settled, c.pending = c.pending[0], c.pending[1:]
				return nil
			}
		}
		return fmt.Errorf("a write of %s was answered with %q", c.key, u.line)
	}
}

// watch reads keys and notes what was seen.
func (l *ledger) watch(w *wire, r *rand.Rand) error {
	for {
		cells := l.cells[r.IntN(len(l.cells))]
		c := cells[r.IntN(len(cells))]
		if err := w.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		before := c.seen.Load() // and not later: another watcher may be faster
		if _, err := fmt.Fprintf(w, "gets %s\r\n", c.key); err != nil {
			return err
		}
		for {
			u, err := w.read()
			if err != nil {
				return cut(u, err)
			}
			if u.line == "END" {
				break
			}
			version, err := c.sight(u)
			if err != nil {
				return err
			}
			if int64(version) < before {
				return fmt.Errorf("%s went back from write %d to %d", c.key, before, version)
			}
			for now := c.seen.Load(); int64(version) > now && !c.seen.CompareAndSwap(now, int64(version)); now = c.seen.Load() {
			}
		}
	}
}

// check compares the server with the ledger, and goes on from what is there.
func (l *ledger) check(t testing.TB, p *process) {
	t.Helper()
	w := connect(t, p)
	items, wrong := 0, 0
	for _, cells := range l.cells {
		for _, c := range cells {
			found, err := c.find(w)
			if err != nil {
				// A few are enough to see what is wrong.
				if wrong++; wrong <= 10 {
					t.Error(err)
				}
				continue
			}
			if found.present {
				items++
			}
			c.settled, c.pending = found, nil
		}
	}
	if wrong > 0 {
		t.Errorf("%d keys are wrong", wrong)
	}
	for _, c := range l.counters {
		_, value, _ := strings.Cut(w.ask(t, "get "+c.key+"\r\n"), "\n")
		value, _, _ = strings.Cut(value, "\n")
		n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		if err != nil {
			t.Errorf("%s is %q", c.key, value)
			continue
		}
		items++
		if n < c.acked.Load() || n > c.asked.Load() {
			t.Errorf("%s is %d, but %d were acknowledged of %d", c.key, n, c.acked.Load(), c.asked.Load())
		}
		c.acked.Store(n)
		c.asked.Store(n)
	}
	if got := w.stat(t, "curr_items"); got != strconv.Itoa(items) {
		t.Errorf("curr_items is %s, and %d items are there", got, items)
	}
}

// find reads a key and tells which of its possible states it is in.
func (c *cell) find(w *wire) (state, error) {
	units, err := w.exchange([]byte("gets " + c.key + "\r\n"))
	if err != nil {
		return state{}, err
	}
	version := 0
	if len(units) == 2 {
		if version, err = c.sight(units[0]); err != nil {
			return state{}, err
		}
	} else if len(units) != 1 || units[0].line != "END" {
		return state{}, fmt.Errorf("gets %s was answered with %.80q", c.key, units)
	}
	possible := append([]state{c.settled}, c.pending...)
	for _, s := range possible {
		if s.present != (version > 0) || s.present && s.version != version {
			continue
		}
		if s.version >= int(c.seen.Load()) {
			return s, nil
		}
	}
	return state{}, fmt.Errorf("%s is at write %d (0: absent); acknowledged %v, on their way %v, seen by others %d",
		c.key, version, c.settled, c.pending, c.seen.Load())
}
