package antientropy_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"unkai"
	"unkai/internal/core/register"
	"unkai/internal/node/replica"
)

// Replicas that differ in every way become equal, and what each key has at last is
// what came last.
func TestReplicasBecomeEqual(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for seed := range uint64(10) {
			c := newCluster(t, 3, 16)
			all := c.differInEveryWay(t, rand.New(rand.NewPCG(seed, 1)), 2000)
			c.count(t)
			if c.differ() == 0 {
				t.Fatal("they do not differ")
			}
			for range 3 {
				c.pass(t)
			}
			c.checkEqual(t, all)
			if n := c.nodes[0].Stats(); n.Adopted+n.Brought == 0 || n.Settled == 0 {
				t.Errorf("seed %d: %+v", seed, n)
			}
		}
	})
}

// made is what was accepted of one key: by how many replicas each version.
type made map[version]int

type version struct {
	epoch  unkai.Epoch
	ballot unkai.Ballot
	value  string
}

// differInEveryWay has replicas accept and promise different things.
func (c *cluster) differInEveryWay(t *testing.T, r *rand.Rand, keys int) map[string]made {
	t.Helper()
	all := map[string]made{}
	accept := func(name string) {
		for i := range keys {
			key := fmt.Sprint("key", i)
			if all[key] == nil {
				all[key] = made{}
			}
			for range r.IntN(3) {
				b := unkai.MakeBallot(1+r.Uint64N(1<<30), unkai.Seat(1+r.IntN(3)))
				v := version{c.call(key).Epoch, b, fmt.Sprint(name, b)}
				if r.IntN(3) == 0 {
					v.value = ""
				}
				for _, n := range c.nodes {
					if r.IntN(3) > 0 && c.accept(t, n, key, v.value, b) == replica.OK {
						all[key][v]++
					}
				}
			}
			if r.IntN(4) == 0 {
				p := c.call(key)
				p.Ballot = unkai.MakeBallot(1+r.Uint64N(1<<31), 3)
				c.nodes[r.IntN(3)].replica.Prepare(p)
			}
		}
	}
	accept("old")
	top := *c.top.Load()
	top.Epoch++
	top.Sets = append(top.Sets[:0:0], top.Sets...)
	for b := range top.Sets {
		top.Sets[b].Epoch = top.Epoch
	}
	c.set(t, top)
	accept("new")
	return all
}

// checkEqual complains about keys that are not equal everywhere, or have something
// that comes before what was chosen, or was never there.
func (c *cluster) checkEqual(t *testing.T, all map[string]made) {
	t.Helper()
	if n := c.differ(); n != 0 {
		t.Errorf("%d buckets still differ", n)
	}
	for key, made := range all {
		first := c.held(t, c.nodes[0], key)
		for _, n := range c.nodes[1:] {
			if got := c.held(t, n, key); got.Ballot != first.Ballot || string(got.Item.Value) != string(first.Item.Value) {
				t.Errorf("%s is %q at %v here and %q at %v there", key, first.Item.Value, first.Ballot, got.Item.Value, got.Ballot)
			}
		}
		known, chosen := false, false
		for v, n := range made {
			known, chosen = known || v.value == string(first.Item.Value), chosen || n >= 2
			if n >= 2 && after(v, first.Epoch, first.Ballot) {
				t.Errorf("%s is %q at %v of epoch %d, and %q was chosen at %v of epoch %d", key, first.Item.Value, first.Ballot, first.Epoch, v.value, v.ballot, v.epoch)
			}
		}
		if !known && (chosen || first.Item.Exists()) {
			t.Errorf("%s is %q, which nobody wrote", key, first.Item.Value)
		}
	}
}

func after(v version, e unkai.Epoch, b unkai.Ballot) bool {
	return register.State{Accepted: v.ballot, Epoch: v.epoch}.After(e, b)
}

func set(key, value string) unkai.Op {
	return unkai.Op{Kind: unkai.Set, Key: []byte(key), Value: []byte(value)}
}

// A node that was away gets what it missed within seconds of its return, by being
// compared, and nothing else is carried.
func TestComingBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 256)
		const keys = 10_000
		for i := range 2 * keys {
			do(c.nodes[0].coordinator, set(fmt.Sprint("key", i), "before"))
		}
		stop := c.run(t)
		defer stop()
		time.Sleep(5 * time.Second)
		away := c.nodes[2]
		away.away.Store(true)
		for i := range keys {
			do(c.nodes[0].coordinator, set(fmt.Sprint("key", i), "after"))
		}
		time.Sleep(5 * time.Second)
		if c.differ() == 0 {
			t.Fatal("it has missed nothing")
		}
		bytes := c.bytes.Load()
		away.away.Store(false)
		time.Sleep(5 * time.Second)
		if n := c.differ(); n != 0 {
			t.Errorf("%d buckets still differ", n)
		}
		for i := range keys {
			if v := c.held(t, away, fmt.Sprint("key", i)).Item.Value; string(v) != "after" {
				t.Fatalf("key%d is %q", i, v)
			}
		}
		t.Logf("%d bytes were exchanged", c.bytes.Load()-bytes)
		at, ok := c.nodes[0].Verified(0, []unkai.Seat{1, 2, 3})
		if leads := c.top.Load().Route(0).Members[0] == 1; ok != leads || ok && time.Now().UnixMilli()-at > 3000 {
			t.Errorf("bucket 0 was verified at %d, %v", at, ok)
		}
	})
}

// run lets all nodes compare by themselves.
func (c *cluster) run(t *testing.T) (stop func()) {
	ctx, cancel := contextOf(t)
	done := make(chan struct{}, len(c.nodes))
	for _, n := range c.nodes {
		go func() {
			n.Run(ctx)
			done <- struct{}{}
		}()
	}
	return func() {
		cancel()
		for range c.nodes {
			<-done
		}
	}
}
