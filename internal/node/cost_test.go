package node_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"unkai/internal/node"
)

// metric is a metric of a node.
func metric(t *testing.T, n *node.Node, name string) int {
	t.Helper()
	for line := range strings.Lines(page(t, n, "/metrics")) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Fatal(err)
			}
			return int(v)
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// A write costs each replica one record and one sync, and no more: writes one after
// the other share nothing.
func TestAWriteIsOneSyncForEachReplica(t *testing.T) {
	const writes = 100
	all := cluster(t, 3, func(c *node.Config) { c.Store = node.Disk })
	until := time.Now().Add(patience)
	await := func(what string, done func(i int, n *node.Node) bool) {
		t.Helper()
		for i, n := range all {
			for !done(i, n) {
				if time.Now().After(until) {
					t.Fatalf("node %d: %s", i, what)
				}
			}
		}
	}
	await("it does not hold everything", func(_ int, n *node.Node) bool { return metric(t, n, "unkai_store_items") == 300 })
	began := time.Now()
	var records, syncs []int
	for _, n := range all {
		records = append(records, metric(t, n, "unkai_store_writes_total"))
		syncs = append(syncs, metric(t, n, "unkai_store_syncs_total"))
	}
	dial(t, all[0]).fill(0, writes)
	await("it has not stored every write", func(i int, n *node.Node) bool {
		return metric(t, n, "unkai_store_writes_total")-records[i] >= writes
	})
	sum, marks := 0, 1+int(time.Since(began)/(5*time.Second)) // the store is marked now and then
	for i, n := range all {
		stored, synced := metric(t, n, "unkai_store_writes_total")-records[i], metric(t, n, "unkai_store_syncs_total")-syncs[i]
		sum += synced
		if stored != writes || synced > writes+1+marks { // the last one of before may have come late
			t.Errorf("node %d stored %d records with %d syncs for %d writes", i, stored, synced, writes)
		}
	}
	if sum < 2*writes {
		t.Errorf("%d syncs for %d writes, each of which two replicas had to sync", sum, writes)
	}
}
