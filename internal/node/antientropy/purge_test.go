package antientropy_test

import (
	"fmt"
	"testing"
	"testing/synctest"

	"unkai"
	"unkai/internal/node/replica"
)

// sweep has one node forget what it may.
func (c *cluster) sweep(t testing.TB, n *node) {
	t.Helper()
	s := replica.Sweeper{
		Replica: n.replica, Level: n.Level, Now: func() int64 { return c.now.Load() },
		Expire: func([][]byte) {}, Failed: func(_ unkai.Bucket, err error) { t.Error(err) },
	}
	for b := range c.top.Load().Buckets {
		if err := s.Sweep(t.Context(), unkai.Bucket(b)); err != nil {
			t.Fatal(err)
		}
	}
}

func (c *cluster) sweepAll(t testing.TB) {
	t.Helper()
	for _, n := range c.nodes {
		c.sweep(t, n)
	}
}

// tombstones are those that each node holds.
func (c *cluster) tombstones() (out []int64) {
	for _, n := range c.nodes {
		out = append(out, n.engine.Stats().Tombstones)
	}
	return out
}

func (c *cluster) wantTombstones(t testing.TB, want ...int64) {
	t.Helper()
	if got := c.tombstones(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("tombstones: %v, want %v", got, want)
	}
}

// wantGone complains if a key is there for anybody.
func (c *cluster) wantGone(t testing.TB, key string) {
	t.Helper()
	for _, n := range c.nodes {
		r := do(n.coordinator, unkai.Op{Kind: unkai.Get, Key: []byte(key)})[0]
		if r.Status != unkai.Miss {
			t.Errorf("%s at node %v: %+v", key, n.id, r)
		}
	}
}

func remove(key string) unkai.Op { return unkai.Op{Kind: unkai.Delete, Key: []byte(key)} }

// Nothing of the messages that were sent before a purge can bring a key back.
func TestPurgedEverywhere(t *testing.T) {
	c := newCluster(t, 3, 16)
	do(c.nodes[0].coordinator, set("k", "v"))
	was := c.held(t, c.nodes[0], "k")
	do(c.nodes[0].coordinator, remove("k"))
	gone := c.held(t, c.nodes[0], "k")
	c.sweepAll(t)
	c.wantTombstones(t, 0, 0, 0)
	for _, n := range c.nodes {
		for _, b := range []unkai.Ballot{was.Ballot, was.Ballot.Heir(), gone.Ballot - 1} {
			if s := c.accept(t, n, "k", "late", b); s != replica.Refused {
				t.Errorf("node %v: an accept of %v came after the purge of %v: %d", n.id, b, gone.Ballot, s)
			}
		}
		late := c.call("k")
		late.Ballot, late.Under, late.Item = was.Ballot, was.Epoch, was.Item
		if n.replica.Adopt(late); late.Status != replica.Refused {
			t.Errorf("node %v: adopted what was purged: %+v", n.id, late)
		}
	}
	c.wantGone(t, "k")
	if r := do(c.nodes[2].coordinator, set("k", "again"))[0]; r.Status != unkai.OK {
		t.Errorf("%+v", r)
	}
}

// While a replica is away nothing is forgotten; when it is back, and has been told, all is.
func TestNoPurgeWhileOneIsAway(t *testing.T) {
	c := newCluster(t, 3, 16)
	for i := range 50 {
		do(c.nodes[0].coordinator, set(fmt.Sprint("k", i), "v"))
	}
	c.nodes[2].away.Store(true)
	for i := range 50 {
		do(c.nodes[0].coordinator, remove(fmt.Sprint("k", i)))
	}
	c.sweepAll(t)
	c.wantTombstones(t, 50, 50, 0)
	c.nodes[2].away.Store(false)
	c.nodes[2].mute.Store(true)
	c.sweepAll(t)
	c.wantTombstones(t, 50, 50, 0)
	c.nodes[2].mute.Store(false)
	c.sweepAll(t) // it holds what was deleted
	c.wantTombstones(t, 50, 50, 0)
	c.count(t)
	c.pass(t)
	c.wantTombstones(t, 50, 50, 50)
	c.sweepAll(t)
	c.wantTombstones(t, 0, 0, 0)
	for i := range 50 {
		c.wantGone(t, fmt.Sprint("k", i))
	}
}

// A replica that has purged is level for the others: nobody gives it back what it has
// forgotten, and they can forget it too.
func TestOnePurgesFirst(t *testing.T) {
	c := newCluster(t, 3, 16)
	c.count(t)
	do(c.nodes[0].coordinator, set("k", "v"), remove("k"), set("other", "v"), remove("other"))
	c.sweep(t, c.nodes[1])
	c.wantTombstones(t, 2, 0, 2)
	c.pass(t)
	c.wantTombstones(t, 2, 0, 2)
	c.sweepAll(t)
	c.wantTombstones(t, 0, 0, 0)
	c.wantGone(t, "k")
}

// One that has nothing of the key, because it never had, must have a floor above the
// tombstone before the others forget it: a late message could come to it alone.
func TestPurgeNeedsAFloorWhereNothingIs(t *testing.T) {
	c := newCluster(t, 3, 16)
	for _, n := range c.nodes[:2] {
		c.accept(t, n, "k", "v", unkai.MakeBallot(5*unkai.Stride, 1))
		c.accept(t, n, "k", "", unkai.MakeBallot(6*unkai.Stride, 1))
	}
	c.sweepAll(t)
	c.wantTombstones(t, 1, 1, 0)
	if s := c.accept(t, c.nodes[2], "k", "v", unkai.MakeBallot(5*unkai.Stride, 1)); s != replica.OK {
		t.Fatalf("a late accept: %d", s)
	}
	c.wantGone(t, "k")
	c.sweepAll(t)
	c.wantTombstones(t, 0, 0, 0)
}

// A bucket on its way forgets nothing.
func TestNoPurgeOnTheWay(t *testing.T) {
	c := newCluster(t, 3, 16)
	do(c.nodes[0].coordinator, set("k", "v"), remove("k"))
	top := *c.top.Load()
	top.Epoch++
	top.Sets = append(top.Sets[:0:0], top.Sets...)
	for b := range top.Sets {
		top.Sets[b].Epoch, top.Sets[b].Joining = top.Epoch, top.Sets[b].Replicas
	}
	c.set(t, top)
	c.sweepAll(t)
	c.wantTombstones(t, 1, 1, 1)
}

// Records that only promise go at once, and the promises stay.
func TestPromisesAreSwept(t *testing.T) {
	c := newCluster(t, 3, 16)
	c.nodes[1].away.Store(true) // nobody has to be asked
	promise := unkai.MakeBallot(7*unkai.Stride, 2)
	p := c.call("k")
	p.Ballot = promise
	if c.nodes[0].replica.Prepare(p); p.Status != replica.OK {
		t.Fatalf("%+v", p)
	}
	c.sweepAll(t)
	if s := c.nodes[0].engine.Stats(); s.Promises != 0 {
		t.Errorf("%+v", s)
	}
	if s := c.accept(t, c.nodes[0], "k", "v", promise-1); s != replica.Refused {
		t.Errorf("accepted what was promised not to be: %d", s)
	}
	if s := c.accept(t, c.nodes[0], "k", "v", promise); s != replica.OK {
		t.Errorf("what it was promised for: %d", s)
	}
}

// A round that does not know whether its value was accepted must not take it that
// there was none because there is nothing left: it was seen, deleted and forgotten.
func TestNothingIsNoProof(t *testing.T) {
	c := newCluster(t, 3, 16)
	do(c.nodes[0].coordinator, set("k", "1"))
	first := c.nodes[0]
	meanwhile := func() {
		first.lossy.Store(nil)
		if r := do(c.nodes[1].coordinator, unkai.Op{Kind: unkai.Get, Key: []byte("k")})[0]; string(r.Item.Value) != "2" {
			t.Fatalf("the other accepts have not arrived: %+v", r)
		}
		do(c.nodes[1].coordinator, remove("k"))
		c.sweepAll(t)
		c.wantTombstones(t, 0, 0, 0)
	}
	left := 2
	lossy := func() {
		if left--; left == 0 {
			meanwhile()
		}
	}
	first.lossy.Store(&lossy)
	r := do(first.coordinator, unkai.Op{Kind: unkai.Increment, Key: []byte("k"), Delta: 1})[0]
	if r.Status != unkai.InDoubt {
		t.Errorf("somebody has seen what it did, and it says %+v", r)
	}
}

// What one replica has forgotten and the others have not yet is no difference: they
// would only wait for each other's next sweep.
func TestPurgedByOneIsEqual(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 16)
		for i := range 50 {
			do(c.nodes[0].coordinator, set(fmt.Sprint("k", i), "v"))
			do(c.nodes[0].coordinator, remove(fmt.Sprint("k", i)))
		}
		c.sweep(t, c.nodes[1])
		c.wantTombstones(t, 50, 0, 50)
		stop := c.run(t)
		defer stop()
		c.demand(t, 9, nil)
		equal, all := c.ended(t, 9)
		if equal.Len() != 16 {
			t.Errorf("%d buckets are equal: %+v", equal.Len(), all)
		}
		var brought, settled int64
		for _, a := range all {
			brought, settled = brought+a.Brought, settled+a.Settled
		}
		for _, n := range c.nodes {
			if s := n.Stats(); s.Unreconciled > 0 {
				t.Errorf("node %v takes %d keys for unreconciled", n.id, s.Unreconciled)
			}
		}
		if brought+settled > 0 {
			t.Errorf("%d records were brought and %d settled", brought, settled)
		}
		c.wantTombstones(t, 50, 0, 50)
	})
}

// But what differs beside it is mended.
func TestPurgedByOneHidesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 16)
		for i := range 50 {
			do(c.nodes[0].coordinator, set(fmt.Sprint("k", i), "v"))
			do(c.nodes[0].coordinator, remove(fmt.Sprint("k", i)))
		}
		c.sweep(t, c.nodes[1])
		c.nodes[1].away.Store(true)
		do(c.nodes[0].coordinator, set("missed", "v"))
		c.nodes[1].away.Store(false)
		stop := c.run(t)
		defer stop()
		c.demand(t, 9, nil)
		if equal, all := c.ended(t, 9); equal.Len() != 16 {
			t.Errorf("%+v", all)
		}
		if r := c.held(t, c.nodes[1], "missed"); r.Ballot == 0 {
			t.Error("what one replica missed was not brought to it")
		}
	})
}
