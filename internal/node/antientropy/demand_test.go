package antientropy_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"unkai"
	"unkai/internal/node/antientropy"
)

// demand asks all nodes that are there for a repair.
func (c *cluster) demand(t *testing.T, id uint64, buckets []unkai.Bucket) {
	t.Helper()
	for _, n := range c.nodes {
		if !n.away.Load() {
			if err := n.Demand(id, buckets); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// ended waits until a repair has ended everywhere, and puts the accounts together.
func (c *cluster) ended(t *testing.T, id uint64) (equal antientropy.Set, all []antientropy.Account) {
	t.Helper()
	for range 100 * 60 * 20 {
		all = all[:0]
		running := false
		for _, n := range c.nodes {
			if a, ok := n.Account(id); ok {
				all, running = append(all, a), running || a.Running
			}
		}
		if !running {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, a := range all {
		if a.Running {
			t.Fatalf("it does not end: %+v", a)
		}
		for b := range unkai.Bucket(c.top.Load().Buckets) {
			if a.Equal.Has(b) {
				equal.Add(b)
			}
		}
	}
	return equal, all
}

// A repair that was asked for ends when all replicas are equal, and its account says
// what was mended.
func TestDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 16)
		made := c.differInEveryWay(t, rand.New(rand.NewPCG(7, 1)), 2000)
		stop := c.run(t)
		defer stop()
		c.demand(t, 9, nil)
		equal, all := c.ended(t, 9)
		if equal.Len() != 16 {
			t.Errorf("%d buckets are equal: %+v", equal.Len(), all)
		}
		c.checkEqual(t, made)
		sum := antientropy.Account{}
		differed := 0
		for _, a := range all {
			sum.Brought, sum.Settled, sum.Failed, sum.Bytes = sum.Brought+a.Brought, sum.Settled+a.Settled, sum.Failed+a.Failed, sum.Bytes+a.Bytes
			differed += a.Differed.Len()
			if len(a.Unequal) > 0 {
				t.Errorf("%+v", a.Unequal)
			}
		}
		if sum.Brought == 0 || sum.Settled == 0 || sum.Failed != 0 || sum.Bytes == 0 || differed != 16 {
			t.Errorf("%+v, %d differed", sum, differed)
		}
	})
}

// It does not wait for the pause that is due, and compares only what was asked for.
func TestDemandHasNoPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 16)
		stop := c.run(t)
		defer stop()
		time.Sleep(5*time.Second + 300*time.Millisecond) // a pass has just ended
		before := c.nodes[0].Stats().Compared
		c.demand(t, 1, []unkai.Bucket{3, 5})
		synctest.Wait()
		equal, _ := antientropy.Set(nil), 0
		for _, n := range c.nodes {
			a, _ := n.Account(1)
			for b := range unkai.Bucket(16) {
				if a.Equal.Has(b) {
					equal.Add(b)
				}
			}
		}
		if equal.Len() != 2 || !equal.Has(3) || !equal.Has(5) {
			t.Errorf("%v", equal)
		}
		if n := c.nodes[0].Stats().Compared - before; n > 2 {
			t.Errorf("%d comparisons", n)
		}
		if _, all := c.ended(t, 1); len(all) != 3 {
			t.Errorf("%d accounts", len(all))
		}
	})
}

// What could not be compared is said, and why; the others are mended nevertheless.
func TestDemandWhileAReplicaIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 16)
		for i := range 500 {
			c.accept(t, c.nodes[i%2], fmt.Sprint("key", i), "here", unkai.MakeBallot(5, 1))
		}
		c.nodes[2].away.Store(true)
		stop := c.run(t)
		defer stop()
		c.demand(t, 1, nil)
		equal, all := c.ended(t, 1)
		if equal.Len() != 0 {
			t.Errorf("%d buckets are equal at a replica that is away", equal.Len())
		}
		n := 0
		for _, a := range all {
			for _, u := range a.Unequal {
				n += u.Buckets.Len()
				if !strings.Contains(u.Why, "0000000000000003 is away") {
					t.Errorf("%q", u.Why)
				}
			}
		}
		if n != 16 {
			t.Errorf("%d buckets are accounted for: %+v", n, all)
		}
		for b := range unkai.Bucket(16) {
			if c.nodes[0].replica.Tree(b).Root != c.nodes[1].replica.Tree(b).Root {
				t.Errorf("bucket %d differs at those that are there", b)
			}
		}
		c.nodes[2].away.Store(false)
		c.demand(t, 2, nil)
		if equal, all := c.ended(t, 2); equal.Len() != 16 {
			t.Errorf("%+v", all)
		}
	})
}

// A replica that seems to be there and does not answer is waited for, and then named.
func TestDemandOfAMuteReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 16)
		c.nodes[1].mute.Store(true)
		stop := c.run(t)
		defer stop()
		c.demand(t, 1, nil)
		time.Sleep(5 * time.Second)
		if a, _ := c.nodes[0].Account(1); !a.Running {
			t.Errorf("it was not waited for: %+v", a)
		}
		_, all := c.ended(t, 1)
		for _, u := range all[0].Unequal {
			if !strings.Contains(u.Why, "0000000000000002 does not answer") {
				t.Errorf("%q", u.Why)
			}
		}
	})
}

// Buckets that are written to all the time do not keep a repair from its end.
func TestDemandUnderWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 16)
		c.count(t)
		stop := c.run(t)
		defer stop()
		began := time.Now()
		over := make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := uint64(1); ; i++ {
				select {
				case <-over:
					return
				case <-time.After(time.Millisecond):
				}
				// No two replicas ever have the same.
				c.accept(t, c.nodes[i%3], "hot", fmt.Sprint(i), unkai.MakeBallot(1<<20+i<<8, 1))
			}
		}()
		c.demand(t, 1, nil)
		equal, all := c.ended(t, 1)
		took := time.Since(began)
		close(over)
		<-done
		busy := 0
		for _, a := range all {
			busy += a.Busy.Len()
		}
		if equal.Len() != 16 || busy != 1 || took > 10*time.Second {
			t.Errorf("%v: %d busy: %+v", took, busy, all)
		}
	})
}

// A node remembers so many repairs and no more; those under way are not forgotten.
func TestDemandsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 16)
		n := c.nodes[0]
		for id := range uint64(4) {
			if err := n.Demand(id+1, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := n.Demand(4, nil); err != nil {
			t.Errorf("the same once more: %v", err)
		}
		if err := n.Demand(5, nil); err == nil {
			t.Error("a fifth was taken")
		}
		if err := n.Demand(6, []unkai.Bucket{16}); err == nil {
			t.Error("a bucket that does not exist was taken")
		}
		stop := c.run(t)
		defer stop()
		c.ended(t, 4)
		if err := n.Demand(5, nil); err != nil {
			t.Error(err)
		}
		if _, ok := n.Account(1); ok {
			t.Error("the oldest is still remembered")
		}
		if a, ok := n.Account(0); !ok || a.ID != 5 {
			t.Errorf("the last one is %+v", a)
		}
	})
}
