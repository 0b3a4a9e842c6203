package antientropy_test

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"unkai"
	"unkai/internal/core/register"
	"unkai/internal/core/topology"
	"unkai/internal/node/antientropy"
	"unkai/internal/node/replica"
	"unkai/internal/store"
)

// growing is a cluster of three that a fourth node joins, and its movers.
type growing struct {
	*cluster
	movers []*antientropy.Mover
}

// begin has a fourth node join and every bucket that it shall hold set out.
func (g *growing) begin(t *testing.T) {
	t.Helper()
	top, err := g.top.Load().Join(topology.Node{ID: 4, Weight: 1})
	if err != nil {
		t.Fatal(err)
	}
	g.set(t, top)
	g.nodes = append(g.nodes, g.newNode(t, 4, top.Buckets))
	if top, err = top.Begin(topology.Change{Kind: topology.KindAttach, Nodes: []unkai.NodeID{4}}, nil, 1); err != nil {
		t.Fatal(err)
	}
	g.set(t, top.Proceed(nil, nil, top.Buckets, nil))
	for _, n := range g.nodes {
		m := &antientropy.Mover{Self: n.id, Topology: g.top.Load, Replica: n.replica, Repairer: n.Repairer, Log: slog.New(slog.DiscardHandler)}
		n.Pending = m.Pending
		g.movers = append(g.movers, m)
	}
}

// move runs the movers for so long.
func (g *growing) move(t *testing.T, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for _, m := range g.movers {
		all.Go(func() { m.Run(ctx) })
	}
	time.Sleep(d)
	cancel()
	all.Wait()
}

// moving are the buckets on their way.
func (g *growing) moving() (out []unkai.Bucket) {
	top := g.top.Load()
	for b := range unkai.Bucket(top.Buckets) {
		if top.Route(b).Joining {
			out = append(out, b)
		}
	}
	return out
}

// honest checks that of what each node has said to be settled enough of the joining
// set hold at least as much, and gives how many have said it of all buckets.
func (g *growing) honest(t *testing.T) (said int) {
	t.Helper()
	top := g.top.Load()
	for i, m := range g.movers[:3] {
		buckets, _ := m.Settled()
		if slices.Equal(buckets, g.moving()) {
			said++
		}
		for _, b := range buckets {
			for e, err := range g.nodes[i].engine.Scan(b) {
				if err != nil {
					t.Fatal(err)
				}
				have := 0
				for _, seat := range top.Sets[b].Joining {
					n, _ := top.Seated(seat)
					f, _, err := g.nodes[n.ID-1].replica.Get(b, e.Hash, e.Key, nil)
					was := register.State{Accepted: e.Record.Ballot, Epoch: e.Record.Epoch}
					if err == nil && !was.After(f.Record.Epoch, f.Record.Ballot) {
						have++
					}
				}
				if have < 2 {
					t.Errorf("node %d has settled bucket %d, and %d of the joining replicas hold what it does of %q", i+1, b, have, e.Key)
				}
			}
		}
	}
	return said
}

func grow(t *testing.T, keys int, test func(*testing.T, *growing)) {
	synctest.Test(t, func(t *testing.T) {
		g := &growing{cluster: newCluster(t, 3, 16, func(e store.Engine) store.Engine {
			return &scanned{e, func(unkai.Bucket) {}, func(*store.Write) {}}
		})}
		for i := range keys {
			do(g.nodes[0].coordinator, unkai.Op{Kind: unkai.Set, Key: key(i), Value: []byte("value")})
		}
		test(t, g)
	})
}

// surveys counts how often a node is asked for the sums of one bucket from now on.
func (g *growing) surveys(of unkai.NodeID) *atomic.Int64 {
	const survey = 8
	count := new(atomic.Int64)
	for _, n := range g.nodes {
		ask := n.Ask
		n.Ask = func(ctx context.Context, to unkai.NodeID, q []byte) ([]byte, error) {
			if to == of && q[0] == survey {
				count.Add(1)
			}
			return ask(ctx, to, q)
		}
	}
	return count
}

func key(i int) []byte { return fmt.Appendf(nil, "key%d", i) }

// What is chosen is brought as it is, without a round, and by one replica only.
func TestWhatIsChosenIsBroughtInBulk(t *testing.T) {
	grow(t, 500, func(t *testing.T, g *growing) {
		do(g.nodes[0].coordinator, unkai.Op{Kind: unkai.Delete, Key: key(7)})
		g.begin(t)
		surveys := g.surveys(4)
		g.move(t, 3*time.Second)
		if n := surveys.Load(); int(n) != len(g.moving()) { // the rest comes with the last answer
			t.Errorf("the joining node was asked for its sums %d times, for %d buckets", n, len(g.moving()))
		}
		if said := g.honest(t); said != 3 {
			t.Errorf("%d of 3 replicas have settled everything", said)
		}
		var brought, settled, adopted int64
		for _, n := range g.nodes {
			s := n.Stats()
			brought, settled, adopted = brought+s.Brought, settled+s.Settled, adopted+s.Adopted
		}
		held := int64(0)
		for _, b := range g.moving() {
			for e, err := range g.nodes[3].engine.Scan(b) {
				was, _, _ := g.nodes[0].replica.Get(b, e.Hash, e.Key, nil)
				if err != nil || e.Record.Ballot != was.Record.Ballot || e.Record.Epoch != was.Record.Epoch || e.Record.Tombstone != was.Record.Tombstone {
					t.Errorf("%q is %+v, and was %+v", e.Key, e.Record, was.Record)
				}
				held++
			}
		}
		if settled != 0 || brought != held || adopted != held || held < 200 {
			t.Errorf("%d records are held, %d were brought, %d adopted and %d settled", held, brought, adopted, settled)
		}
	})
}

// A joining replica whose tree was folded when it held little is asked again for the sums:
// in coarse ones the keys that differ would take all that are near them with them.
func TestCoarseSumsAreAskedForAgain(t *testing.T) {
	const bring, packed = 9, 13
	grow(t, 500, func(t *testing.T, g *growing) {
		g.begin(t)
		surveys := g.surveys(4)
		for _, n := range g.nodes[:3] {
			b := g.moving()[0]
			if err := n.replica.CountTo(t.Context(), b, 6); err != nil {
				t.Fatal(err)
			}
			ask := n.Ask
			n.Ask = func(ctx context.Context, to unkai.NodeID, q []byte) ([]byte, error) {
				if to == 4 && (q[0] == bring || q[0] == packed) {
					g.nodes[3].replica.Unfit(b) // which folds it
				}
				return ask(ctx, to, q)
			}
		}
		g.move(t, 3*time.Second)
		if n := surveys.Load(); int(n) != len(g.moving())+1 {
			t.Errorf("the joining node was asked for its sums %d times, for %d buckets, one of them folded", n, len(g.moving()))
		}
		if said := g.honest(t); said != 3 {
			t.Errorf("%d of 3 replicas have settled everything", said)
		}
	})
}

// A record that only one replica has accepted is not carried: only a round can tell
// what becomes of it.
func TestWhatIsNotChosenIsNotCarried(t *testing.T) {
	grow(t, 50, func(t *testing.T, g *growing) {
		old := g.top.Load().Epoch
		for i := range 100 {
			g.accept(t, g.nodes[i%3], fmt.Sprint("lone", i), "once", 1<<40)
		}
		g.begin(t)
		g.move(t, 5*time.Second)
		if said := g.honest(t); said != 3 {
			t.Errorf("%d of 3 replicas have settled everything", said)
		}
		seen := 0
		for i := range 100 {
			r := g.held(t, g.nodes[3], fmt.Sprint("lone", i))
			if r.Ballot != 0 {
				seen++
			}
			if r.Ballot == 1<<40 || r.Ballot != 0 && r.Epoch <= old {
				t.Errorf("lone%d was carried: %+v", i, r)
			}
		}
		if seen == 0 {
			t.Error("none was brought at all")
		}
	})
}

// Nor is one that a replica alone has accepted since the bucket set out, neither before the
// round by which the newcomer is brought it, which gives it another ballot, nor after it.
func TestWhatIsOneReplicasAloneIsNotCarried(t *testing.T) {
	grow(t, 50, func(t *testing.T, g *growing) {
		g.begin(t)
		var on []string // their way
		for i := range 300 {
			if key := fmt.Sprint("lone", i); slices.Contains(g.moving(), g.call(key).Bucket) {
				on = append(on, key)
			}
		}
		for i, key := range on {
			g.accept(t, g.nodes[i%3], key, "once", 1<<40)
		}
		const late = 1 << 60
		var mu sync.Mutex
		accepted := map[string]bool{}
		for _, n := range g.nodes[:3] {
			settle := n.Settle
			n.Settle = func(keys [][]byte) error {
				err := settle(keys)
				mu.Lock()
				defer mu.Unlock()
				for _, key := range keys {
					if len(accepted) < len(on)/4 && !accepted[string(key)] {
						accepted[string(key)] = g.accept(t, n, string(key), "late", late) == replica.OK
					}
				}
				return err
			}
		}
		var carried, carriedLate atomic.Int64
		g.nodes[3].engine.(*scanned).write = func(w *store.Write) {
			switch w.Record.Ballot {
			case 1 << 40:
				carried.Add(1)
			case late:
				carriedLate.Add(1)
			}
		}
		g.move(t, 5*time.Second)
		for i, m := range g.movers[:3] {
			if buckets, _ := m.Settled(); !slices.Equal(buckets, g.moving()) {
				t.Errorf("node %d has settled %v", i+1, buckets)
			}
		}
		if n, late := carried.Load(), carriedLate.Load(); n > 0 || late > 0 {
			t.Errorf("%d records were carried before the round, and %d after it", n, late)
		}
		seen := 0
		for _, key := range on {
			if g.held(t, g.nodes[3], key).Ballot != 0 {
				seen++
			}
		}
		if seen < len(on)/2 || len(accepted) == 0 {
			t.Errorf("%d of %d were brought, %d accepted late", seen, len(on), len(accepted))
		}
	})
}

// scanned is an engine that has something done before a bucket is gone through, and
// before a record is written.
type scanned struct {
	store.Engine
	before func(unkai.Bucket)
	write  func(*store.Write)
}

func (e *scanned) Write(w *store.Write) {
	e.write(w)
	e.Engine.Write(w)
}

func (e *scanned) Scan(b unkai.Bucket) iter.Seq2[store.Entry, error] {
	e.before(b)
	return e.Engine.Scan(b)
}

// What a replica accepts alone while it brings a bucket is not carried, and a round
// has told what becomes of it before the replica says that it has settled the bucket.
func TestWrittenDuringTheCopy(t *testing.T) {
	const late = unkai.Ballot(1<<60 + 1)
	var g *growing
	var mu sync.Mutex
	wrote := map[unkai.Bucket]int{}
	write := func(t *testing.T, n *node, b unkai.Bucket) {
		mu.Lock()
		defer mu.Unlock()
		if wrote[b] > 0 {
			return
		}
		for i := range 300 {
			if key := fmt.Sprint("key", i); g.call(key).Bucket == b {
				g.accept(t, n, key, "new", late)
				wrote[b]++
			}
		}
	}
	grow(t, 300, func(t *testing.T, all *growing) {
		g = all
		g.begin(t)
		for _, n := range g.nodes[:3] {
			n.engine.(*scanned).before = func(b unkai.Bucket) { write(t, n, b) }
		}
		g.nodes[3].engine.(*scanned).write = func(w *store.Write) {
			if w.Record.Ballot == late {
				t.Errorf("%q was carried", w.Key)
			}
		}
		g.move(t, 10*time.Second)
		if said := g.honest(t); said != 3 || len(wrote) != len(g.moving()) {
			t.Errorf("%d of 3 replicas have settled everything, and something was written in %d of %d buckets", said, len(wrote), len(g.moving()))
		}
	})
}

// A job that is paused while buckets are brought stops that, and goes on later.
func TestPauseStopsTheCopy(t *testing.T) {
	grow(t, 300, func(t *testing.T, g *growing) {
		g.begin(t)
		var once sync.Once
		for _, n := range g.nodes[:3] {
			n.engine.(*scanned).before = func(unkai.Bucket) {
				once.Do(func() {
					top, err := g.top.Load().Pause(1)
					if err != nil {
						t.Error(err)
					}
					g.set(t, top)
				})
			}
		}
		g.move(t, 3*time.Second)
		for i, m := range g.movers[:3] {
			if buckets, _ := m.Settled(); len(buckets) > 0 {
				t.Errorf("node %d has settled %v for a paused job", i+1, buckets)
			}
		}
		top, err := g.top.Load().Resume(2)
		if err != nil {
			t.Fatal(err)
		}
		g.set(t, top)
		g.move(t, 3*time.Second)
		if said := g.honest(t); said != 3 {
			t.Errorf("%d of 3 replicas have settled everything", said)
		}
	})
}

// slow is an engine that makes nothing durable until it is told to.
type slow struct {
	store.Engine
	mu   sync.Mutex
	told bool
	held []func()
}

type slowDone struct {
	e    *slow
	done store.Done
}

func (d slowDone) WriteDone(w *store.Write) {
	d.e.mu.Lock()
	defer d.e.mu.Unlock()
	w.Done = d.done
	if d.e.told {
		d.done.WriteDone(w)
		return
	}
	d.e.held = append(d.e.held, func() { d.done.WriteDone(w) })
}

func (e *slow) Write(w *store.Write)   { w.Done = slowDone{e, w.Done}; e.Engine.Write(w) }
func (e *slow) Barrier(w *store.Write) { w.Done = slowDone{e, w.Done}; e.Engine.Barrier(w) }

func (e *slow) sync() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.told = true
	for _, f := range e.held {
		f()
	}
}

// Nobody says that a bucket is settled while what was brought is not durable.
func TestNothingIsSettledBeforeItIsDurable(t *testing.T) {
	grow(t, 300, func(t *testing.T, g *growing) {
		disk := &slow{}
		g.wrap = func(e store.Engine) store.Engine { disk.Engine = e; return disk }
		g.begin(t)
		for _, n := range g.nodes {
			n.Pending = nil // the others look for themselves, too
		}
		go func() {
			time.Sleep(5 * time.Second)
			for i, m := range g.movers[:3] {
				if buckets, _ := m.Settled(); len(buckets) > 0 {
					t.Errorf("node %d has settled %v, and the joining replica's disk has done nothing", i+1, buckets)
				}
			}
			disk.sync()
		}()
		g.move(t, 10*time.Second)
		if said := g.honest(t); said != 3 {
			t.Errorf("%d of 3 replicas have settled everything", said)
		}
	})
}

// The sums that come with the last answer are told when they are durable: they may have
// something that others have written.
func TestSumsWaitForTheDisk(t *testing.T) {
	grow(t, 300, func(t *testing.T, g *growing) {
		disk := &slow{}
		g.wrap = func(e store.Engine) store.Engine { disk.Engine = e; return onlyBarriers{disk} }
		g.begin(t)
		for _, n := range g.nodes {
			n.Pending = nil
		}
		go func() {
			time.Sleep(5 * time.Second)
			for i, m := range g.movers[:3] {
				if buckets, _ := m.Settled(); len(buckets) > 0 {
					t.Errorf("node %d has settled %v, and the joining replica may lose what its sums tell of", i+1, buckets)
				}
			}
			disk.sync()
		}()
		g.move(t, 10*time.Second)
		if said := g.honest(t); said != 3 {
			t.Errorf("%d of 3 replicas have settled everything", said)
		}
	})
}

// onlyBarriers is a slow engine on which what is written by itself is durable at once.
type onlyBarriers struct{ *slow }

func (e onlyBarriers) Write(w *store.Write) { e.Engine.Write(w) }

// torn is an engine in which one record is damaged when the bucket is gone through.
type torn struct {
	store.Engine
	key string
}

func (e *torn) Scan(b unkai.Bucket) iter.Seq2[store.Entry, error] { return e.tear(e.Engine.Scan(b)) }

func (e *torn) Snapshot(b unkai.Bucket) (store.Snapshot, error) {
	s, err := e.Engine.Snapshot(b)
	return tornSnapshot{s, e}, err
}

type tornSnapshot struct {
	store.Snapshot
	e *torn
}

func (s tornSnapshot) All() iter.Seq2[store.Entry, error] { return s.e.tear(s.Snapshot.All()) }

func (e *torn) tear(all iter.Seq2[store.Entry, error]) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for t, err := range all {
			if e.key != "" && string(t.Key) == e.key {
				t.Record, err = store.Record{}, store.ErrDamaged
			}
			if !yield(t, err) {
				return
			}
		}
	}
}

// A replica in which a record was damaged already when it was counted does not say that
// it has settled the bucket, although its sums are those of the others.
func TestWhatWasDamagedBeforeIsNotSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &growing{cluster: newCluster(t, 3, 16, func(e store.Engine) store.Engine { return &torn{Engine: e} })}
		for i := range 200 {
			do(g.nodes[0].coordinator, unkai.Op{Kind: unkai.Set, Key: key(i), Value: []byte("value")})
		}
		g.begin(t)
		lone := 0
		for !slices.Contains(g.moving(), g.call(fmt.Sprint("lone", lone)).Bucket) {
			lone++
		}
		name := fmt.Sprint("lone", lone)
		b := g.call(name).Bucket
		for _, n := range g.nodes[:3] {
			n.engine.(*torn).key = name
		}
		g.accept(t, g.nodes[2], name, "once", 1<<40)
		for _, n := range g.nodes[:3] {
			if err := n.replica.Count(t.Context(), b); err != nil {
				t.Fatal(err)
			}
		}
		g.move(t, 5*time.Second)
		for i, m := range g.movers[:3] {
			if buckets, _ := m.Settled(); slices.Contains(buckets, b) != (i < 2) || len(buckets) < len(g.moving())-1 {
				t.Errorf("node %d has settled %v; in bucket %d it has a damaged record: %v", i+1, buckets, b, i == 2)
			}
		}
	})
}
