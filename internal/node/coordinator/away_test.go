package coordinator_test

import (
	"errors"
	"testing"
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

// nearby is a replica in this process.
func (c *cluster) nearby(id unkai.NodeID) coordinator.Replica { return c.locals[id-1] }
