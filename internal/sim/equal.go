package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"unkai"
	"unkai/internal/admin"
	"unkai/internal/node"
	"unkai/internal/store"
)

// calm is how long replicas may take to become equal when nothing goes wrong and
// nobody asks for anything any more, and to forget what is gone.
const calm = 3 * time.Minute

// converge waits until all replicas of every bucket hold the same, and nothing of
// what was deleted.
func (w *World) converge() {
	until := time.Now().Add(calm)
	for {
		why := w.unequal()
		if why == "" {
			return
		}
		if time.Now().After(until) {
			w.fail(fmt.Errorf("after %v without faults: %s", calm, why))
			return
		}
		time.Sleep(1013 * time.Millisecond)
	}
}

// verify has an operator ask for a repair, which has to find what is so: that all is equal.
func (w *World) verify() {
	ctx, cancel := context.WithTimeout(context.Background(), calm)
	defer cancel()
	for _, h := range w.hosts {
		n, _ := h.running()
		if n == nil {
			continue
		}
		run, err := n.Operator().Repair(ctx, admin.RepairWish{})
		for err == nil && run.Running && ctx.Err() == nil {
			time.Sleep(503 * time.Millisecond)
			run, err = n.Operator().Repaired(ctx, run.ID)
		}
		if err != nil || run.Running || run.Equal != buckets || len(run.Unequal) > 0 {
			w.fail(fmt.Errorf("a repair by host %d when all is equal: %+v, %w", h.number, run, err))
		}
		return
	}
}

// unequal says in what two replicas differ; "" if in nothing.
func (w *World) unequal() string {
	engines := map[unkai.NodeID]*Engine{}
	var any *node.Node
	for _, h := range w.hosts {
		h.mu.Lock()
		if h.node != nil {
			any = h.node
			engines[any.ID()] = h.engine
		}
		h.mu.Unlock()
	}
	if any == nil {
		return ""
	}
	top := any.Topology()
	for b := range unkai.Bucket(buckets) {
		var first map[string]store.Record
		for i, id := range top.Route(b).Members {
			e := engines[id]
			if e == nil {
				return fmt.Sprintf("bucket %d: member %v does not run", b, id)
			}
			held, err := holds(e, b)
			if err != nil {
				return fmt.Sprintf("bucket %d at node %v: %v", b, id, err)
			}
			if i == 0 {
				first = held
			}
			for _, key := range slices.Sorted(maps.Keys(held)) {
				if r := held[key]; !r.Item.Exists() {
					return fmt.Sprintf("bucket %d: node %v still has of %s that it is not there: %+v", b, id, key, r)
				}
			}
			if why := differ(first, held); why != "" {
				return fmt.Sprintf("bucket %d: node %v and %v: %s", b, top.Route(b).Members[0], id, why)
			}
		}
	}
	return ""
}

// holds are the records of a bucket, but for those that are damaged.
func holds(e *Engine, b unkai.Bucket) (map[string]store.Record, error) {
	all := map[string]store.Record{}
	for entry, err := range e.Scan(b) {
		if errors.Is(err, store.ErrDamaged) {
			continue // if others have something of the key, they differ
		}
		if err != nil {
			return nil, err
		}
		all[string(entry.Key)] = entry.Record
	}
	return all, nil
}

// differ says how two replicas of a bucket differ.
func differ(x, y map[string]store.Record) string {
	both := maps.Clone(x)
	maps.Copy(both, y)
	for _, key := range slices.Sorted(maps.Keys(both)) {
		a, b := x[key], y[key]
		if a.Ballot != b.Ballot || a.Epoch != b.Epoch || a.Tombstone != b.Tombstone || !bytes.Equal(a.Item.Value, b.Item.Value) {
			return fmt.Sprintf("%s is %q at %v of epoch %d, and %q at %v of epoch %d", key, a.Item.Value, a.Ballot, a.Epoch, b.Item.Value, b.Ballot, b.Epoch)
		}
	}
	return ""
}
