package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// keeper writes, deletes and reads at all nodes of a cluster, and knows what may
// be there: each key has one writer, who keeps its last acknowledged state and
// those writes and deletes whose fate nobody told. Whatever else is found was
// lost, or has come back.
type keeper struct {
	cluster *cluster
	workers [][]*kept
	acked   atomic.Int64
	still   standstill
	stop    chan struct{}
	all     sync.WaitGroup

	mu    sync.Mutex
	wrong error // the first thing that no register would have answered
	last  error // the last refusal
}

// kept is what is known of one key. A state is the number of its write, 0 where
// the key is absent.
type kept struct {
	key    string
	writes int
	known  int
	doubt  []int
}

const (
	keepers   = 6
	keepsEach = 60
)

func newKeeper(c *cluster) *keeper {
	k := &keeper{cluster: c}
	for i := range keepers {
		var keys []*kept
		for j := range keepsEach {
			keys = append(keys, &kept{key: fmt.Sprintf("kept%d-%d", i, j)})
		}
		k.workers = append(k.workers, keys)
	}
	return k
}

// during keeps writing while f runs, at some of the nodes.
func (k *keeper) during(seed uint64, nodes []*member, f func()) {
	k.cluster.t.Helper()
	k.stop = make(chan struct{})
	var doors []*process // only where they are: f may kill nodes and start others in their place
	for _, m := range nodes {
		doors = append(doors, &process{addr: m.addr})
	}
	for i, keys := range k.workers {
		k.all.Go(func() { k.work(random(seed, i), doors, keys) })
	}
	defer func() {
		close(k.stop)
		k.all.Wait()
		if k.wrong != nil {
			k.cluster.t.Fatal(k.wrong)
		}
		k.still.judge(k.cluster.t)
	}()
	f()
}

// answered waits until so many operations more were acknowledged.
func (k *keeper) answered(n int64) {
	k.cluster.t.Helper()
	target := k.acked.Load() + n
	eventually(k.cluster.t, "operations are acknowledged", func() error {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.wrong != nil {
			k.cluster.t.Fatal(k.wrong)
		}
		if now := k.acked.Load(); now < target {
			return fmt.Errorf("%d are missing; the last refusal: %w", target-now, k.last)
		}
		return nil
	})
}

// work asks until it is told to stop.
func (k *keeper) work(r *rand.Rand, doors []*process, keys []*kept) {
	wires := make([]*wire, len(doors))
	defer func() {
		for _, w := range wires {
			if w != nil {
				w.Close()
			}
		}
	}()
	for {
		select {
		case <-k.stop:
			return
		default:
		}
		at := r.IntN(len(doors))
		if wires[at] == nil {
			wires[at], _ = dial(doors[at]) // it may be away
		}
		err := errNotYet
		if wires[at] != nil {
			c, begun := keys[r.IntN(len(keys))], time.Now()
			err = c.ask(wires[at], r)
			k.still.took(c.key, begun)
			if hungUp(err) {
				wires[at].Close()
				wires[at] = nil
			}
		}
		k.note(err)
		if err != nil {
			pause(5 * time.Millisecond) // so that who is away is not asked all the time
		}
	}
}

func (k *keeper) note(err error) {
	if err == nil {
		k.acked.Add(1)
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.last = err; k.wrong == nil && errors.Is(err, errImpossible) {
		k.wrong = err
	}
}

// errImpossible is a state that a key cannot have.
var errImpossible = errors.New("acknowledged writes are lost, or deleted ones back")

// ask has one operation on the key.
func (c *kept) ask(w *wire, r *rand.Rand) error {
	request, state := "mg "+c.key+" v\r\n", -1
	switch r.IntN(6) {
	case 0, 1, 2:
		c.writes++
		state = c.writes
		value := fmt.Sprintf("%d %s", state, strings.Repeat("x", r.IntN(400)))
		request = fmt.Sprintf("ms %s %d\r\n%s\r\n", c.key, len(value), value)
	case 3, 4:
		request, state = "md "+c.key+"\r\n", 0
	}
	err := w.SetDeadline(time.Now().Add(patience))
	if err == nil {
		_, err = w.Write([]byte(request))
	}
	var u unit
	if err == nil {
		u, err = w.read()
	}
	if state < 0 {
		if err == nil {
			err = c.saw(u)
		}
		return err
	}
	switch {
	case err == nil && (u.line == "HD" || state == 0 && u.line == "NF"):
		c.learn(state)
		return nil
	case err == nil && (strings.HasPrefix(u.line, "SERVER_ERROR not applied") || strings.HasPrefix(u.line, "SERVER_ERROR out of memory storing object")):
		return errors.New(u.line)
	}
	c.doubt = append(c.doubt, state)
	if err == nil {
		err = errors.New(u.line)
	}
	return err
}

// saw judges what a read has found. Others in doubt may still come, but none that
// was there before.
func (c *kept) saw(u unit) error {
	n := 0
	switch {
	case strings.HasPrefix(u.line, "SERVER_ERROR"):
		return errors.New(u.line)
	case u.line != "EN":
		number, _, _ := strings.Cut(string(u.value), " ")
		var err error
		if n, err = strconv.Atoi(number); err != nil {
			return fmt.Errorf("%s is %.80q: %w", c.key, u, errImpossible)
		}
	}
	if n != c.known && !slices.Contains(c.doubt, n) {
		return fmt.Errorf("%s is at write %d (0: absent), but %d was last, in doubt are %v: %w", c.key, n, c.known, c.doubt, errImpossible)
	}
	c.learn(n)
	return nil
}

func (c *kept) learn(state int) {
	c.known = state
	// One of several in doubt: each delete is the same state.
	if i := slices.Index(c.doubt, state); i >= 0 {
		c.doubt = slices.Delete(c.doubt, i, i+1)
	}
}

// check reads every key at every node. Nobody is writing meanwhile.
func (k *keeper) check(nodes []*member) {
	t := k.cluster.t
	t.Helper()
	for i, m := range nodes {
		w := connect(t, m.process)
		for _, keys := range k.workers {
			for _, c := range keys {
				eventually(t, fmt.Sprintf("node %d answers for %s", i+1, c.key), func() error {
					units, err := w.exchange([]byte("mg " + c.key + " v\r\n"))
					if err == nil && len(units) == 1 {
						err = c.saw(units[0])
					}
					if errors.Is(err, errImpossible) {
						t.Fatalf("node %d: %v", i+1, err)
					}
					return err
				})
			}
		}
	}
}

// equal waits until all is well: every node's status says so, and a repair finds
// all replicas equal.
func (c *cluster) equal() {
	c.t.Helper()
	eventually(c.t, "all replicas are equal", func() error {
		for _, m := range c.members {
			if out, err := c.unkai(m, "status"); err != nil || strings.Contains(out, "NOT VERIFIED") {
				return fmt.Errorf("%w: %s", err, out)
			}
		}
		out, err := c.unkai(c.members[0], "repair")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// says waits until a node's process has printed something.
func (m *member) says(t testing.TB, what string) {
	t.Helper()
	eventually(t, m.name+" says "+strconv.Quote(what), func() error {
		if !strings.Contains(m.output.String(), what) {
			return errNotYet
		}
		return nil
	})
}
