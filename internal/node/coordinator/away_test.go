package coordinator_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"unkai"
	"unkai/internal/node/coordinator"
)

// Who knows that too few replicas are there proposes nothing: what fails is
// certainly not applied, so that another node can be asked.
func TestWhoIsCutOffLeavesNoDoubt(t *testing.T) {
	for name, change := range map[string]func(string) unkai.Op{"set": func(k string) unkai.Op { return set(k, "v") }, "incr": incr} {
		c := newCluster(t, 1, 0)
		top := c.tops[0].Load()
		away := false
		node := coordinator.New(coordinator.Config{
			Self: 1, Local: c.locals[0], Topology: c.tops[0].Load, Now: c.now.Load, MaxValue: 1 << 20, Timeout: time.Second,
			Alive: func(id unkai.NodeID) bool { return id == 1 || !away },
			Remote: func(id unkai.NodeID) coordinator.Replica {
				if away {
					return nil
				}
				return c.nearby(id)
			},
		})
		key := ""
		for i := 0; key == ""; i++ {
			k := string(rune('a' + i))
			space := top.Space()
			if top.Route(space.Bucket(space.Hash([]byte(k)))).Members[0] == 1 {
				key = k
			}
		}
		if res := do(node, set(key, "1")); res[0].Status != unkai.OK { // from now on it owns the key
			t.Fatal(res[0])
		}
		away = true
		for _, op := range []unkai.Op{change(key), get(key)} {
			if res := do(node, op); res[0].Status != unkai.Failed || !errors.Is(res[0].Err, coordinator.ErrAway) {
				t.Errorf("%s: %v while cut off: status %d, %v", name, op.Kind, res[0].Status, res[0].Err)
			}
		}
		away = false
		if res := do(node, get(key)); short(res[0]) != "ok 1" {
			t.Errorf("%s: afterwards %s", name, short(res[0]))
		}
	}
}

// A change that its coordinator alone accepted, while the key's bucket went to others: the
// coordinator sees it through, though it holds the key no more.
func TestACoordinatorLeavesWhileItIsInDoubt(t *testing.T) {
	for name, change := range map[string]func(string) unkai.Op{"2": incr, "new": func(k string) unkai.Op { return set(k, "new") }} {
		synctest.Test(t, func(t *testing.T) {
			c := newClusterOf(t, 1, 0, 2, 3, 4)
			key, after := c.ownKey(), *c.tops[0].Load()
			if res := do(c.nodes[0], set(key, "1")); res[0].Status != unkai.OK {
				t.Fatal(res[0])
			}
			time.Sleep(time.Second)
			after, err := after.Detach(1)
			if err != nil {
				t.Fatal(err)
			}
			all := make([]unkai.Bucket, after.Buckets)
			for b := range all {
				all[b] = unkai.Bucket(b)
			}
			after = after.Proceed(all, nil, 1<<16, nil)
			after = after.Proceed(nil, all, 1<<16, nil)
			if err := after.Seal(); err != nil {
				t.Fatal(err)
			}
			for i := 1; i < size; i++ {
				c.tops[i].Store(&after)
			}
			answer := make(chan unkai.Result)
			go func() { answer <- do(c.nodes[0], change(key))[0] }()
			synctest.Wait()
			c.tops[0].Store(&after)
			if res := <-answer; res.Status != unkai.OK {
				t.Errorf("it is answered with %v", res)
			}
			for _, n := range c.nodes[1:] {
				if res := do(n, get(key)); short(res[0]) != "ok "+name && !errors.Is(res[0].Err, coordinator.ErrElsewhere) {
					t.Errorf("afterwards %s: %v", short(res[0]), res[0].Err)
				}
			}
			time.Sleep(10 * time.Second) // what is late arrives
		})
	}
}

// nearby is a replica in this process.
func (c *cluster) nearby(id unkai.NodeID) coordinator.Replica { return c.locals[id-1] }
