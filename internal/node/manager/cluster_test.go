package manager_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"unkai"
	"unkai/internal/core/topology"
	"unkai/internal/node/manager"
)

// crowd is some nodes' managers and a network between them.
type crowd struct {
	t     *testing.T
	mu    sync.Mutex
	rng   *rand.Rand
	loss  float64
	away  map[unkai.NodeID]bool
	all   map[unkai.NodeID]*manager.Manager
	files map[unkai.NodeID][2]*memory
	chain map[unkai.Epoch]string // every topology that anybody took for decided
}

func newCrowd(t *testing.T, seed uint64, nodes int) *crowd {
	c := &crowd{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), away: map[unkai.NodeID]bool{}, all: map[unkai.NodeID]*manager.Manager{},
		files: map[unkai.NodeID][2]*memory{}, chain: map[unkai.Epoch]string{},
	}
	top := topology.New(1, 16, 3, 2, 2, topology.Node{ID: 1, Weight: 1})
	var ids []unkai.NodeID
	for id := unkai.NodeID(2); id <= unkai.NodeID(nodes); id++ {
		var err error
		if top, err = top.Join(topology.Node{ID: id, Weight: 1}); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	top, err := top.Attach(ids...)
	if err != nil {
		t.Fatal(err)
	}
	for id := unkai.NodeID(1); id <= unkai.NodeID(nodes); id++ {
		c.files[id] = [2]*memory{{}, {}}
		c.start(id, top)
	}
	return c
}

func (c *crowd) start(id unkai.NodeID, first topology.Topology) {
	m, err := manager.Open(manager.Config{
		Self: id, Topology: c.files[id][0], Decree: c.files[id][1], Network: wire{c, id}, Now: now,
		Log: slog.New(slog.DiscardHandler), Changed: func() { c.note(id) }, Timeout: time.Second,
		Rand: func() uint64 {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.rng.Uint64()
		},
	}, func() (topology.Topology, error) { return first, nil })
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	c.all[id] = m
	c.mu.Unlock()
}

// note holds what a node takes for decided against what others did.
func (c *crowd) note(id unkai.NodeID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.all[id]
	if m == nil {
		return
	}
	top := m.Topology()
	text := fmt.Sprint(top.Nodes, top.Managers, top.Flushed)
	if was, ok := c.chain[top.Epoch]; ok && was != text {
		c.t.Errorf("epoch %d was decided twice:\n%s\n%s", top.Epoch, was, text)
	}
	c.chain[top.Epoch] = text
}

// cut takes a node off the network, or brings it back.
func (c *crowd) cut(id unkai.NodeID, away bool) {
	c.mu.Lock()
	c.away[id] = away
	c.mu.Unlock()
}

// wire is one node's way to the others.
type wire struct {
	c    *crowd
	from unkai.NodeID
}

var errLost = errors.New("lost")

func (w wire) Ask(ctx context.Context, to unkai.NodeID, q []byte) ([]byte, error) {
	c := w.c
	c.mu.Lock()
	there, back := c.rng.IntN(20), c.rng.IntN(20)
	lostThere, lostBack := c.rng.Float64() < c.loss, c.rng.Float64() < c.loss
	cut := c.away[to] || c.away[w.from]
	m := c.all[to]
	c.mu.Unlock()
	time.Sleep(time.Duration(there) * time.Millisecond)
	if cut || lostThere || m == nil {
		<-ctx.Done()
		return nil, errLost
	}
	a := m.Serve(w.from, q)
	time.Sleep(time.Duration(back) * time.Millisecond)
	if lostBack {
		<-ctx.Done()
		return nil, errLost
	}
	return a, nil
}

func (c *crowd) close() {
	c.mu.Lock()
	all := c.all
	c.all = map[unkai.NodeID]*manager.Manager{}
	c.mu.Unlock()
	for _, m := range all {
		if err := m.Close(); err != nil {
			c.t.Error(err)
		}
	}
}

// Five proposers at once, over a network that loses: every change that was
// reported decided is in the chain once, every other one is not, and everybody
// has the same chain.
func TestDuellingProposers(t *testing.T) {
	all := 0
	for seed := range uint64(10) {
		synctest.Test(t, func(t *testing.T) {
			c := newCrowd(t, seed, 5)
			defer c.close()
			c.loss = 0.05
			var mu sync.Mutex
			var done, doubt []unkai.NodeID
			var wg sync.WaitGroup
			for id := unkai.NodeID(1); id <= 5; id++ {
				wg.Go(func() {
					for i := range 4 {
						joins := 100*id + unkai.NodeID(i)
						ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
						_, err := c.all[id].Change(ctx, func(t *topology.Topology) (topology.Topology, error) {
							return t.Join(topology.Node{ID: joins, Weight: 1})
						})
						cancel()
						mu.Lock()
						switch {
						case err == nil:
							done = append(done, joins)
						case errors.Is(err, manager.ErrInDoubt):
							doubt = append(doubt, joins)
						}
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			c.mu.Lock()
			c.loss = 0
			c.mu.Unlock()
			time.Sleep(time.Minute)
			last := unkai.NodeID(1)
			for id, m := range c.all {
				if m.Topology().Epoch > c.all[last].Topology().Epoch {
					last = id
				}
			}
			for id, m := range c.all {
				if err := m.Catch(t.Context(), last); id != last && err != nil {
					t.Error(err)
				}
				if m.Topology().Epoch != c.all[last].Topology().Epoch {
					t.Errorf("node %d is in epoch %d", id, m.Topology().Epoch)
				}
			}
			var joined []unkai.NodeID
			for _, n := range c.all[last].Topology().Nodes {
				if n.ID >= 100 {
					joined = append(joined, n.ID)
				}
			}
			for _, id := range done {
				if !slices.Contains(joined, id) {
					t.Errorf("seed %d: node %d joined, and is not there", seed, id)
				}
			}
			for _, id := range joined {
				if !slices.Contains(done, id) && !slices.Contains(doubt, id) {
					t.Errorf("seed %d: node %d is there, and was told that it is not", seed, id)
				}
			}
			all += len(done)
			if len(done) < 10 { // they get in each other's way, and still come to something
				t.Errorf("seed %d: only %d of 20 changes were decided, %d in doubt", seed, len(done), len(doubt))
			}
		})
	}
	if all < 150 {
		t.Errorf("only %d of 200 changes were decided", all)
	}
}

func join(t *testing.T, m *manager.Manager, id unkai.NodeID, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	_, err := m.Change(ctx, func(t *topology.Topology) (topology.Topology, error) {
		return t.Join(topology.Node{ID: id, Weight: 1})
	})
	return err
}

// Without a majority of the managers nothing changes, and that is said; with
// one, also after all have started again, it does.
func TestMajorityDecides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 1, 3)
		defer c.close()
		c.cut(2, true)
		c.cut(3, true)
		before := c.all[1].Topology().Epoch
		err := join(t, c.all[1], 50, 5*time.Second)
		if err == nil || errors.Is(err, manager.ErrInDoubt) {
			t.Errorf("alone: %v", err)
		}
		if e := c.all[1].Topology().Epoch; e != before {
			t.Errorf("epoch %d after %d", e, before)
		}
		c.cut(2, false)
		if err := join(t, c.all[1], 50, 5*time.Second); err != nil {
			t.Errorf("two of three: %v", err)
		}
		c.cut(3, false)
		c.close()
		for id := unkai.NodeID(1); id <= 3; id++ {
			c.start(id, topology.Topology{})
		}
		if err := join(t, c.all[3], 51, 5*time.Second); err != nil {
			t.Errorf("after a restart, by one that has missed a change: %v", err)
		}
		top := c.all[3].Topology()
		for _, id := range []unkai.NodeID{50, 51} {
			if _, ok := top.Node(id); !ok {
				t.Errorf("node %d is not there", id)
			}
		}
	})
}

// The managers' own change needs no steps of its own.
func TestManagersChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 1, 4)
		defer c.close()
		gone := c.all[1].Topology().Managers[0]
		c.cut(gone, true)
		other := c.all[1].Topology().Managers[1]
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		top, err := c.all[other].Change(ctx, func(t *topology.Topology) (topology.Topology, error) { return t.Elect(gone), nil })
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(top.Managers, gone) || len(top.Managers) != 3 {
			t.Errorf("managers %v", top.Managers)
		}
		// A second one may go, once the others have heard of it.
		time.Sleep(time.Second)
		c.cut(other, true)
		for _, id := range top.Managers {
			if id == other {
				continue
			}
			if err := join(t, c.all[id], 60, 10*time.Second); err != nil {
				t.Error(err)
			}
			break
		}
	})
}

// What somebody proposed and left is finished by others, once.
func TestFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 3, 3)
		defer c.close()
		c.loss = 0.6
		for i := range unkai.NodeID(30) {
			_ = join(t, c.all[1+i%3], 200+i, 300*time.Millisecond) // most of them fail halfway
		}
		c.mu.Lock()
		c.loss = 0
		c.mu.Unlock()
		time.Sleep(10 * time.Second)
		for range 3 { // who finishes something may leave another with it that had nothing
			for _, m := range c.all {
				if m.Pending() {
					if err := m.Finish(t.Context()); err != nil {
						t.Error(err)
					}
				}
			}
		}
		time.Sleep(time.Second) // what was decided is told
		for id, m := range c.all {
			if m.Pending() {
				t.Errorf("node %d still does not know what became of a proposal", id)
			}
		}
	})
}

func FuzzServe(f *testing.F) {
	f.Add([]byte(`{"do":"prepare","epoch":2,"ballot":{"counter":1,"node":1}}`))
	f.Add([]byte(`{"do":"accept","epoch":2,"ballot":{"counter":1,"node":1},"value":"AQID"}`))
	f.Add([]byte(`{"do":"tell","news":{"steps":["AgEA","AgEAAAAA"]}}`))
	f.Add([]byte(`{"do":"tell","news":{"whole":"eyJlcG9jaCI6OSwibm9kZXMiOltdfQ=="}}`))
	f.Add([]byte(`{"do":"fetch"}`))
	m, err := manager.Open(config(&memory{}), first)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m.Serve(7, b)
		if top := m.Topology(); top == nil || top.Route(0) == nil {
			t.Error("the topology was spoiled")
		}
	})
}
