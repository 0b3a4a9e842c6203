package antientropy_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"unkai"
	"unkai/internal/core/topology"
	"unkai/internal/node/antientropy"
	"unkai/internal/node/replica"
	"unkai/internal/store"
)

// failing is an engine some of whose records are damaged, until they are healed.
type failing struct {
	store.Engine
	mu  sync.Mutex
	bad map[string]bool
	// nameless: a scan does not tell whose record is damaged.
	nameless bool
}

func (f *failing) damage(keys ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, k := range keys {
		f.bad[k] = true
	}
}

func (f *failing) is(key []byte) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bad[string(key)]
}

func (f *failing) Get(b unkai.Bucket, hash uint64, key, dst []byte, a store.Access) (store.Found, []byte, error) {
	if f.is(key) {
		return store.Found{}, dst, store.ErrDamaged
	}
	return f.Engine.Get(b, hash, key, dst, a)
}

func (f *failing) Head(b unkai.Bucket, hash uint64, key []byte) (store.Found, error) {
	if f.is(key) {
		return store.Found{}, store.ErrDamaged
	}
	return f.Engine.Head(b, hash, key)
}

func (f *failing) Write(w *store.Write) {
	switch bad := f.is(w.Key); {
	case bad != w.Heal:
		w.Err = store.ErrConflict
		if bad {
			w.Err = store.ErrDamaged
		}
		w.Done.WriteDone(w)
		return
	case bad:
		old, err := f.Engine.Head(w.Bucket, w.Hash, w.Key)
		if err != nil {
			panic(err)
		}
		f.mu.Lock()
		delete(f.bad, string(w.Key))
		f.mu.Unlock()
		w.Heal, w.Expect, w.Promised = false, old.Record.Ballot, old.Record.Promise
	}
	f.Engine.Write(w)
}

// Snapshot implements store.Engine: what is damaged is so there, too.
func (f *failing) Snapshot(b unkai.Bucket) (store.Snapshot, error) { return moment{f, b}, nil }

// moment is a snapshot of an engine to which nobody writes meanwhile.
type moment struct {
	f *failing
	b unkai.Bucket
}

func (m moment) All() iter.Seq2[store.Entry, error] { return m.f.Scan(m.b) }
func (m moment) Close() error                       { return nil }

func (f *failing) Scan(b unkai.Bucket) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for e, err := range f.Engine.Scan(b) {
			if f.is(e.Key) {
				e, err = store.Entry{Hash: e.Hash, Key: e.Key}, store.ErrDamaged
				if f.nameless {
					e = store.Entry{}
				}
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// hurt is a cluster in which the store of one node may be damaged, and a healer for it.
type hurt struct {
	*cluster
	*failing
	healer  *antientropy.Healer
	renewed []topology.Renewal
	asked   int
}

func newHurt(t *testing.T, size, who int) *hurt {
	h := &hurt{}
	h.failing = &failing{bad: map[string]bool{}}
	engineOf = func(id unkai.NodeID, e store.Engine) store.Engine {
		if int(id) == who {
			h.Engine = e
			return h.failing
		}
		return e
	}
	defer func() { engineOf = nil }()
	h.cluster = newCluster(t, size, 16)
	n := h.nodes[who-1]
	h.healer = &antientropy.Healer{
		Self: n.id, Topology: h.top.Load, Replica: n.replica, Settle: n.coordinator.SettleOne, Log: n.Log,
		Renew: func(_ context.Context, r []topology.Renewal) error {
			h.asked++
			next, ok := h.top.Load().Renew(r)
			if ok {
				h.renewed = append(h.renewed, r...)
				h.set(t, next)
			}
			return nil
		},
	}
	return h
}

// heals lets the healer work for some time.
func (h *hurt) heals(t *testing.T, d time.Duration) {
	for range int(d / time.Second) {
		h.healer.Step(t.Context())
		time.Sleep(time.Second)
	}
}

// A damaged record is answered by the others all the while, and afterwards its replica
// holds again what was chosen: also what only it and one other had accepted.
func TestDamageIsHealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for who := 1; who <= 3; who++ {
			h := newHurt(t, 3, who)
			n, other, third := h.nodes[who-1], h.nodes[who%3], h.nodes[(who+1)%3]
			var keys []string
			for i := range 60 {
				key := fmt.Sprint("key", i)
				keys = append(keys, key)
				do(h.nodes[0].coordinator, set(key, "everywhere"))
				if i%2 == 0 { // the last value is chosen by the damaged one and one other
					third.deaf.Store(true)
					do(other.coordinator, set(key, "chosen"))
					third.deaf.Store(false)
				}
			}
			h.count(t)
			h.now.Store(1_800_000_000_000) // ballots rise with the clock
			h.damage(keys...)
			want := func(i int) string {
				if i%2 == 0 {
					return "chosen"
				}
				return "everywhere"
			}
			check := func(when string) {
				for i, key := range keys {
					first := h.top.Load().Route(h.call(key).Bucket).Members[0]
					r := do(h.nodes[first-1].coordinator, unkai.Op{Kind: unkai.Get, Key: []byte(key)})
					if string(r[0].Item.Value) != want(i) {
						t.Fatalf("%s %s is %q (%v), want %q", when, key, r[0].Item.Value, r[0].Err, want(i))
					}
				}
			}
			check("before it is healed")
			for _, key := range keys { // not each question comes to this replica
				n.replica.Read(h.call(key))
			}
			if got := n.replica.Wounded(); got != 60 {
				t.Errorf("%d keys are known to be damaged", got)
			}
			h.heals(t, 5*time.Second)
			if len(h.bad) > 0 || n.replica.Wounded() != 0 || n.replica.Healed() != 60 {
				t.Errorf("%d records are still damaged; %d known, %d healed", len(h.bad), n.replica.Wounded(), n.replica.Healed())
			}
			check("afterwards")
			for i, key := range keys {
				if got := h.held(t, n, key); string(got.Item.Value) != want(i) {
					t.Errorf("its replica holds %q of %s, want %q", got.Item.Value, key, want(i))
				}
			}
			if h.asked != 1 || len(h.renewed) > 16 {
				t.Errorf("the managers were asked %d times, for %d buckets", h.asked, len(h.renewed))
			}
			h.count(t)
			h.pass(t)
			h.pass(t)
			if d := h.differ(); d != 0 {
				t.Errorf("%d buckets differ", d)
			}
		}
	})
}

// Until its bucket has a new epoch a replica accepts nothing in the place of what is
// damaged: somebody may rely on a promise that it has forgotten. And in the new one that
// promise is worth nothing anywhere.
func TestDamageIsNotWrittenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHurt(t, 3, 2)
		n := h.nodes[1]
		promised := unkai.MakeBallot(1<<40, 3)
		p := h.call("k")
		p.Ballot = promised
		n.replica.Prepare(p)
		late := h.call("k")
		late.Ballot, late.Item = promised, unkai.Item{Value: []byte("late"), CAS: 1}
		h.damage("k")
		low := unkai.MakeBallot(1<<30, 1)
		for range 3 {
			if s := h.accept(t, n, "k", "low", low); s != replica.Failed {
				t.Fatalf("it answers %v", s)
			}
		}
		h.healer.Settle = func([]byte) (unkai.Ballot, error) { return 0, errors.New("not now") }
		h.heals(t, 5*time.Second)
		if h.asked != 1 {
			t.Fatalf("%d renewals", h.asked)
		}
		for _, o := range h.nodes {
			if o.replica.Accept(late); late.Status != replica.Fenced {
				t.Errorf("node %v answers the promised one %v", o.id, late.Status)
			}
			late.Epoch = p.Epoch
		}
		q := h.call("k")
		q.Ballot = low
		if n.replica.Prepare(q); q.Status != replica.Failed {
			t.Errorf("it promises, %v, without knowing what it has accepted", q.Status)
		}
		if s := h.accept(t, n, "k", "low", low); s != replica.OK {
			t.Errorf("in the new epoch it answers %v", s)
		}
	})
}

// A record that was read well again, and on which promises were given, is damaged anew:
// that takes another epoch.
func TestDamageThatComesAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHurt(t, 3, 2)
		n := h.nodes[1]
		do(h.nodes[0].coordinator, set("k", "v"))
		held := h.held(t, n, "k").Promise.Counter()
		h.damage("k")
		read := h.call("k")
		n.replica.Read(read)
		h.mu.Lock()
		clear(h.bad)
		h.mu.Unlock()
		next, ok := h.top.Load().Renew([]topology.Renewal{{Bucket: read.Bucket, Epoch: read.Epoch}})
		if !ok {
			t.Fatal("not renewed")
		}
		h.set(t, next)
		p := h.call("k")
		p.Ballot = unkai.MakeBallot(held+1<<20, 3)
		if n.replica.Prepare(p); p.Status != replica.OK {
			t.Fatalf("%v %v", p.Status, p.Err)
		}
		h.damage("k")
		if s := h.accept(t, n, "k", "low", unkai.MakeBallot(held+1<<19, 1)); s != replica.Failed {
			t.Errorf("it has forgotten a promise of this epoch, and answers %v", s)
		}
	})
}

// What only the damaged replica has heard of, and was never chosen, is forgotten; in a
// cluster of two too, where each value needs both.
func TestDamageOfWhatNobodyElseHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for size := 2; size <= 3; size++ {
			h := newHurt(t, size, 2)
			n := h.nodes[1]
			h.accept(t, n, "k", "alone", unkai.MakeBallot(1<<20, 2))
			do(h.nodes[0].coordinator, set("both", "v"))
			h.damage("k", "both")
			for _, key := range []string{"k", "both"} {
				n.replica.Read(h.call(key))
			}
			h.heals(t, 5*time.Second)
			if len(h.bad) > 0 || n.replica.Wounded() != 0 {
				t.Errorf("of %d: still damaged: %v", size, h.bad)
			}
			if got := h.held(t, n, "k"); got.Item.Exists() {
				t.Errorf("of %d: it holds %q", size, got.Item.Value)
			}
			if got := h.held(t, n, "both"); string(got.Item.Value) != "v" {
				t.Errorf("of %d: it holds %q", size, got.Item.Value)
			}
		}
	})
}

// A disk that goes on falling apart does not keep the managers busy.
func TestRenewalsAreRare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHurt(t, 3, 2)
		n := h.nodes[1]
		h.healer.Settle = func([]byte) (unkai.Ballot, error) { return 0, errors.New("not now") }
		for i := range 1200 {
			key := fmt.Sprint("key", i)
			h.damage(key)
			n.replica.Read(h.call(key))
			h.healer.Step(t.Context())
			time.Sleep(time.Second)
		}
		if h.asked < 3 || h.asked > 8 {
			t.Errorf("%d new epochs in twenty minutes", h.asked)
		}
	})
}

// A bucket on its way that others can bring is not sent back for one damaged record: it has
// a new epoch when it has arrived, and the record is healed in that. When it does not arrive,
// since others are damaged, too, or when nobody else can bring it, it is.
func TestDamageOnTheWay(t *testing.T) {
	for _, c := range []struct {
		name    string
		size    int
		arrives bool
		back    time.Duration // after which it is sent back at the latest, and half of which not
	}{
		{"others bring it", 3, true, 0},
		{"others are damaged", 3, false, 80 * time.Second},
		{"nobody else has it", 1, false, 5 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHurt(t, c.size, 1)
				do(h.nodes[0].coordinator, set("k", "v"))
				become := func(next topology.Topology, err error) {
					t.Helper()
					if err != nil {
						t.Fatal(err)
					}
					h.set(t, next)
				}
				top := h.top.Load
				become(top().Join(topology.Node{ID: 9, Weight: 1}))
				become(top().Begin(topology.Change{Kind: topology.KindReplace, Nodes: []unkai.NodeID{1, 9}}, nil, 1))
				become(top().Proceed(nil, nil, 16, nil), nil)
				h.damage("k")
				k := h.call("k")
				h.nodes[0].replica.Read(k)
				if h.nodes[0].replica.Wounded() != 1 || !top().Route(k.Bucket).Joining {
					t.Fatalf("%d wounds, %+v", h.nodes[0].replica.Wounded(), top().Sets[k.Bucket])
				}
				h.heals(t, max(c.back/2, 30*time.Second)*4/5)
				if c.back > 10*time.Second && h.asked > 0 || c.arrives && h.asked > 0 {
					t.Errorf("it was sent back: %+v", top().Sets[k.Bucket])
				}
				if c.arrives {
					tried := false // to heal it
					h.healer.Settle = func([]byte) (unkai.Ballot, error) { tried = true; return 0, errors.New("not now") }
					become(top().Proceed([]unkai.Bucket{k.Bucket}, nil, 16, nil), nil)
					h.heals(t, 5*time.Second)
					if h.asked > 0 || !tried {
						t.Errorf("%d new epochs were asked for; healed: %v", h.asked, tried)
					}
					return
				}
				h.heals(t, c.back)
				if s := top().Sets[k.Bucket]; len(s.Joining) > 0 || h.asked == 0 {
					t.Errorf("it does not arrive and is not sent back: %+v", s)
				}
			})
		})
	}
}

// Damage is noticed where nobody reads, and all of a store is read in three days, slowly.
func TestScrub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHurt(t, 3, 2)
		n := h.nodes[1]
		long := string(make([]byte, 64<<10))
		for i := range 320 { // 20 MiB
			do(h.nodes[0].coordinator, set(fmt.Sprint("key", i), long))
		}
		h.count(t)
		h.damage("key7", "key300")
		s := &replica.Scrubber{Replica: n.replica, Failed: func(b unkai.Bucket, err error) { t.Errorf("bucket %d: %v", b, err) }}
		began := time.Now()
		for b := range unkai.Bucket(16) {
			if err := s.Scrub(t.Context(), b, 0); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took < 19*time.Second/8 || took > 20*time.Second/2 {
			t.Errorf("as fast as it can, 20 MiB take %v", took)
		}
		if got := s.Stats(); got.Damaged != 2 || got.Records < 320 || n.replica.Wounded() != 2 {
			t.Errorf("%+v, %d keys are known to be damaged", got, n.replica.Wounded())
		}
		h.heals(t, 5*time.Second)
		if len(h.bad) > 0 {
			t.Errorf("still damaged: %v", h.bad)
		}
		ctx, cancel := contextOf(t)
		done := make(chan struct{})
		go func() { s.Run(ctx); close(done) }()
		before := s.Stats().Records
		time.Sleep(36 * time.Hour)
		if got := s.Stats().Records - before; got < 100 || got > 220 {
			t.Errorf("%d records in half of the time", got)
		}
		time.Sleep(40 * time.Hour)
		if got := s.Stats(); got.Passes != 1 || got.Damaged != 2 {
			t.Errorf("%+v", got)
		}
		cancel()
		<-done
	})
}

// What cannot even be named is found by comparing: the bucket is counted anew.
func TestScrubOfWhatHasNoName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHurt(t, 3, 2)
		n := h.nodes[1]
		for i := range 50 {
			do(h.nodes[0].coordinator, set(fmt.Sprint("key", i), "v"))
		}
		h.count(t)
		h.now.Store(1_800_000_000_000) // ballots rise with the clock
		h.damage("key7")
		h.nameless = true
		s := &replica.Scrubber{Replica: n.replica}
		b := h.call("key7").Bucket
		if err := s.Scrub(t.Context(), b, 0); err != nil {
			t.Fatal(err)
		}
		if !n.replica.Unfit(b) {
			t.Fatal("the tree still tells of what is damaged")
		}
		h.count(t)
		for range 8 {
			h.pass(t)
			h.heals(t, time.Second)
			h.count(t)
		}
		if len(h.bad) > 0 || n.replica.Wounded() != 0 || h.differ() != 0 {
			t.Errorf("%v, %d buckets differ", h.bad, h.differ())
		}
	})
}

// A bucket arrives though one of those who join it, and was there before, has damaged
// records of it: that is noticed, and healed afterwards.
func TestDamageHoldsUpNoBucket(t *testing.T) {
	for _, started := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			h := newHurt(t, 3, 2)
			for i := range 200 {
				do(h.nodes[0].coordinator, set(string(key(i)), "value"))
			}
			h.count(t)
			h.damage(string(key(7)), string(key(8)), string(key(9)))
			if started {
				h.nodes[1].replica = replica.New(h.failing, 2, h.top.Load)
				h.nodes[1].Replica = h.nodes[1].replica
				h.count(t)
			}
			g := &growing{cluster: h.cluster}
			g.begin(t)
			g.move(t, 5*time.Second)
			said := 0
			for _, m := range g.movers[:3] {
				if settled, _ := m.Settled(); slices.Equal(settled, g.moving()) {
					said++
				}
			}
			if said < 2 {
				t.Errorf("%d of 3 replicas have settled everything", said)
			}
			if h.nodes[1].replica.Wounded() == 0 {
				t.Error("nobody has noted what is damaged")
			}
		})
	}
}

// Whoever wants to forget a tombstone comes across the one that is damaged.
func TestDamagedTombstoneIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHurt(t, 3, 2)
		do(h.nodes[0].coordinator, set("k", "v"))
		do(h.nodes[0].coordinator, unkai.Op{Kind: unkai.Delete, Key: []byte("k")})
		was := h.held(t, h.nodes[0], "k")
		h.damage("k")
		c := h.call("k")
		gone := []replica.Gone{{Hash: c.Hash, Key: c.Key, Ballot: was.Ballot, Epoch: was.Epoch}}
		if level := h.nodes[0].Level(t.Context(), c.Bucket, gone); level[0].Held != replica.HeldOther {
			t.Errorf("it waits for %+v", level[0])
		}
		if got := h.nodes[1].replica.Wounded(); got != 1 {
			t.Errorf("%d keys are known to be damaged", got)
		}
	})
}

// A damaged record is healed though the floor of its bucket has risen above what is known
// of its key: other keys were forgotten since.
func TestDamageBelowTheFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHurt(t, 3, 2)
		n := h.nodes[1]
		for _, key := range []string{"kept", "gone"} {
			do(h.nodes[0].coordinator, set(key, "v"))
			if key == "gone" {
				do(h.nodes[0].coordinator, unkai.Op{Kind: unkai.Delete, Key: []byte(key)})
			}
			h.count(t)
			c := h.call(key)
			high := unkai.MakeBallot(1<<40, 1)
			done := make(chan error, 1)
			h.Engine.Write(&store.Write{Bucket: c.Bucket, Hash: 1, Key: []byte("other"), Record: store.Record{Promise: high}, Done: told(done)})
			if err := errors.Join(<-done, h.Purge(c.Bucket, 1, []byte("other"), 0)); err != nil {
				t.Fatal(err)
			}
			h.damage(key)
			n.replica.Read(c)
			h.heals(t, 5*time.Second)
			want := h.held(t, h.nodes[0], key)
			if got := h.held(t, n, key); n.replica.Wounded() != 0 || got.Ballot != want.Ballot || got.Tombstone != want.Tombstone {
				t.Errorf("%s: %d are known to be damaged, and it is %+v, want %+v", key, n.replica.Wounded(), got, want)
			}
		}
	})
}

// A tombstone that all others have forgotten leaves as high a floor where it was damaged:
// a round in doubt about an earlier value must not hear from there that there never was
// any. In a cluster of two one replica alone may promise.
func TestDamagedTombstoneLeavesItsFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for size := 2; size <= 3; size++ {
			h := newHurt(t, size, 2)
			n := h.nodes[1]
			do(h.nodes[0].coordinator, set("k", "v"))
			do(h.nodes[0].coordinator, unkai.Op{Kind: unkai.Delete, Key: []byte("k")})
			c := h.call("k")
			var floor unkai.Ballot
			for _, o := range h.nodes {
				if o == n {
					continue
				}
				if err := o.engine.Purge(c.Bucket, c.Hash, c.Key, h.held(t, o, "k").Ballot); err != nil {
					t.Fatal(err)
				}
				floor = max(floor, o.engine.Floor(c.Bucket))
			}
			h.damage("k")
			n.replica.Read(c)
			h.heals(t, 5*time.Second)
			if n.replica.Wounded() != 0 {
				t.Fatalf("of %d: it is still damaged", size)
			}
			if err := h.Purge(c.Bucket, c.Hash, c.Key, h.held(t, n, "k").Ballot); err != nil {
				t.Fatal(err)
			}
			if got := h.Floor(c.Bucket); floor == 0 || got < floor {
				t.Errorf("of %d: forgotten up to %v where it was damaged, and up to %v elsewhere", size, got, floor)
			}
		}
	})
}

type told chan error

// WriteDone implements store.Done.
func (d told) WriteDone(w *store.Write) { d <- w.Err }
