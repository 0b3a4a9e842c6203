package coordinator_test

import (
	"testing"
	"testing/synctest"
	"time"

	"unkai"
)

// What a coordinator was asked before it was cut off it does when it comes back, over what
// was written since, unless that was under a condition. So docs/PROTOCOL.md says.
func TestWhatComesBackLateMindsItsCondition(t *testing.T) {
	for name, c := range map[string]struct {
		compare bool
		status  unkai.Status
		value   string
	}{
		"set": {false, unkai.OK, "late"},
		"cas": {true, unkai.Exists, "newer"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				all := newCluster(t, 3, 0)
				key := all.ownKey()
				first := do(all.nodes[0], set(key, "first"))[0]
				if first.Status != unkai.OK {
					t.Fatal(first)
				}
				all.alone(true)
				late := set(key, "late")
				late.Compare, late.CAS = c.compare, first.Item.CAS
				answer := make(chan unkai.Result, 1)
				go do(all.nodes[0], set(key, "before")) // behind which it waits
				synctest.Wait()
				go func() { answer <- do(all.nodes[0], late)[0] }()
				time.Sleep(250 * time.Millisecond)
				newer := set(key, "newer")
				newer.Compare, newer.CAS = c.compare, first.Item.CAS
				if res := do(all.nodes[1], newer)[0]; res.Status != unkai.OK {
					t.Fatal(res)
				}
				all.alone(false)
				if res := <-answer; res.Status != c.status {
					t.Errorf("what was late: %v", res)
				}
				if res := do(all.nodes[1], unkai.Op{Key: []byte(key)})[0]; string(res.Item.Value) != c.value {
					t.Errorf("it is %q now, want %q", res.Item.Value, c.value)
				}
				time.Sleep(10 * time.Second) // what is late arrives
			})
		})
	}
}

// alone cuts the first node off, or lets it back.
func (c *cluster) alone(yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := 1; i < size; i++ {
		c.cut[0][i], c.cut[i][0] = yes, yes
	}
}
