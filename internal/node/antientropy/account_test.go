package antientropy_test

import (
	"bytes"
	"context"
	"log/slog"
	"math"
	"sync"
	"testing"
	"time"

	"unkai"
	"unkai/internal/core/topology"
	"unkai/internal/node/antientropy"
)

// counted is what the movers say that their nodes hold of a bucket: the most, and how many
// have said that they have not counted.
func (g *growing) counted(t *testing.T) (most map[unkai.Bucket]int64, not int) {
	t.Helper()
	most = map[unkai.Bucket]int64{}
	for _, m := range g.movers[:3] {
		buckets, held := m.Settled()
		for i, b := range buckets {
			if held[i] < 0 {
				not++
			}
			most[b] = max(most[b], held[i])
		}
	}
	return most, not
}

// What was brought is counted once more when a mover that has forgotten so finds it there
// already; who only looked after another one says that it has not counted.
func TestWhatIsThereAlreadyIsCounted(t *testing.T) {
	grow(t, 500, func(t *testing.T, g *growing) {
		g.begin(t)
		g.move(t, 3*time.Second)
		before, not := g.counted(t)
		if not != 2*len(g.moving()) || len(before) != len(g.moving()) {
			t.Fatalf("of %d buckets two replicas have not counted, and it is %d", len(g.moving()), not)
		}
		for b, n := range before {
			want := int64(0)
			for e, err := range g.nodes[3].engine.Scan(b) {
				if err != nil {
					t.Fatal(err)
				}
				want += int64(len(e.Key) + len(e.Record.Item.Value))
			}
			if n != want || n == 0 {
				t.Errorf("bucket %d: %d bytes were counted, and it holds %d", b, n, want)
			}
		}
		for i, n := range g.nodes { // as after a crash of all
			g.movers[i] = &antientropy.Mover{Self: n.id, Topology: g.top.Load, Replica: n.replica, Repairer: n.Repairer, Log: slog.New(slog.DiscardHandler)}
			n.Pending = g.movers[i].Pending
		}
		g.move(t, 3*time.Second)
		after, _ := g.counted(t)
		for b, n := range before {
			if after[b] != n {
				t.Errorf("bucket %d: %d bytes after a crash, %d before", b, after[b], n)
			}
		}
	})
}

// Who brings how much is what the plan says, also when those who join cannot take it over
// at first, and so is how long it takes at a throttle.
func TestThePlanIsHowItIsBrought(t *testing.T) {
	grow(t, 0, func(t *testing.T, g *growing) {
		const keys, each, throttle = 2000, 1000, 10_000
		for i := range keys {
			do(g.nodes[0].coordinator, unkai.Op{Kind: unkai.Set, Key: key(i), Value: bytes.Repeat([]byte{byte(i)}, each)})
		}
		pre, err := g.top.Load().Join(topology.Node{ID: 4, Weight: 1})
		if err != nil {
			t.Fatal(err)
		}
		if pre, err = pre.Limit(throttle); err != nil {
			t.Fatal(err)
		}
		loads := []topology.Load{{Node: 4, Alive: true}}
		for _, n := range g.nodes {
			loads = append(loads, topology.Load{Node: n.id, Alive: true, Bytes: n.engine.Stats().Bytes})
		}
		plan, err := pre.Plan(topology.Change{Kind: topology.KindAttach, Nodes: []unkai.NodeID{4}}, loads)
		if err != nil {
			t.Fatal(err)
		}
		g.begin(t)
		top, err := g.top.Load().Limit(throttle)
		if err != nil {
			t.Fatal(err)
		}
		g.set(t, top)
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for _, m := range g.movers {
			all.Go(func() { m.Run(ctx) })
		}
		g.nodes[3].mute.Store(true) // it has not heard of anything yet
		time.Sleep(700 * time.Millisecond)
		g.nodes[3].mute.Store(false)
		began := time.Now()
		for g.honest(t) < 3 && time.Since(began) < time.Hour {
			time.Sleep(time.Second)
		}
		took := time.Since(began)
		cancel()
		all.Wait()
		if want := time.Duration(plan.Milliseconds) * time.Millisecond; math.Abs(float64(took-want)) > 0.2*float64(want) {
			t.Errorf("it took %v, and the plan says %v", took, want)
		}
		said := map[unkai.NodeID]int64{}
		for _, f := range plan.Flows {
			said[f.From] += f.Amount.Bytes
		}
		for _, n := range g.nodes {
			got := n.Stats().Brought * (each + 7)
			if math.Abs(float64(got-said[n.id])) > 0.2*float64(said[n.id]) {
				t.Errorf("node %v has brought %d bytes, and the plan says %d", n.id, got, said[n.id])
			}
		}
		t.Logf("it took %v; %+v", took, plan.Flows)
	})
}
