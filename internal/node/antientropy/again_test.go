package antientropy_test

import (
	"fmt"
	"testing"
	"testing/synctest"

	"unkai"
)

// What a pass has mended it knows to be equal, without waiting for the next one.
func TestMendedIsVerifiedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 16)
		for i := range 200 {
			do(c.nodes[0].coordinator, set(fmt.Sprint("key", i), "before"))
		}
		c.nodes[2].away.Store(true)
		for i := range 200 {
			do(c.nodes[0].coordinator, set(fmt.Sprint("key", i), "after"))
		}
		c.nodes[2].away.Store(false)
		c.count(t)
		if c.differ() != 16 {
			t.Fatalf("only %d buckets differ", c.differ())
		}
		c.pass(t)
		for b := range unkai.Bucket(16) {
			leader := c.nodes[c.top.Load().Route(b).Members[0]-1]
			if _, ok := leader.Verified(b, []unkai.Seat{1, 2, 3}); !ok {
				t.Errorf("bucket %d is not known to be equal", b)
			}
		}
		for _, n := range c.nodes {
			if s := n.Stats(); s.Unreconciled != 0 || s.Differed == 0 {
				t.Errorf("node %v: %+v", n.id, s)
			}
		}
	})
}
