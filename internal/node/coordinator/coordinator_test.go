package coordinator_test

import (
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"unkai"
	"unkai/internal/core/topology"
	"unkai/internal/node/coordinator"
	"unkai/internal/node/replica"
	"unkai/internal/store"
)

const self unkai.NodeID = 1

// house is a coordinator over one replica.
type house struct {
	*coordinator.Coordinator
	engine *engine
	top    atomic.Pointer[topology.Topology]
	now    atomic.Int64
}

func open(timeout time.Duration) *house {
	h := &house{engine: newEngine()}
	top := topology.New(42, 16, 3, 2, 2, topology.Node{ID: self, Weight: 1})
	if err := top.Seal(); err != nil {
		panic(err)
	}
	h.top.Store(&top)
	h.now.Store(1_000_000)
	h.Coordinator = coordinator.New(coordinator.Config{
		Local: replica.New(h.engine, self, h.top.Load), Self: self, Topology: h.top.Load,
		Now: h.now.Load, MaxValue: 1 << 20, Timeout: timeout,
	})
	return h
}

func (h *house) do(ops ...unkai.Op) []unkai.Result {
	b := unkai.Batch{Ops: ops}
	for len(b.Results) < len(b.Ops) {
		h.Do(&b)
	}
	return b.Results
}

func set(key, value string) unkai.Op {
	return unkai.Op{Kind: unkai.Set, Key: []byte(key), Value: []byte(value)}
}

func get(key string) unkai.Op { return unkai.Op{Key: []byte(key)} }

func incr(key string) unkai.Op {
	return unkai.Op{Kind: unkai.Increment, Key: []byte(key), Delta: 1, Vivify: true, Initial: 1}
}

func TestBatchIsAnsweredInOrder(t *testing.T) {
	h := open(time.Second)
	res := h.do(get("k"), set("k", "a"), get("k"), incr("n"), incr("n"), get("n"), unkai.Op{Kind: unkai.Delete, Key: []byte("k")}, get("k"))
	for i, want := range []string{"miss", "ok", "ok a", "ok", "ok", "ok 2", "ok", "miss"} {
		if got := short(res[i]); got != want {
			t.Errorf("operation %d: %q, want %q", i, got, want)
		}
	}
	if res[2].Item.CAS != res[1].Item.CAS {
		t.Errorf("cas unique after the set is %d, and %d when read", res[1].Item.CAS, res[2].Item.CAS)
	}
}

func short(r unkai.Result) string {
	switch r.Status {
	case unkai.OK:
		if len(r.Item.Value) > 0 {
			return "ok " + string(r.Item.Value)
		}
		return "ok"
	case unkai.Miss:
		return "miss"
	}
	return fmt.Sprintf("%d %v", r.Status, r.Err)
}

// The same batch while nothing is durable before all is waiting: one round
// serves the operations on one key, and the answers are the same.
func TestBatchOnASlowDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(time.Minute)
		h.engine.setHeld(true)
		var res []unkai.Result
		done := make(chan struct{})
		go func() {
			defer close(done)
			res = h.do(set("k", "a"), get("k"), set("l", "b"), incr("n"), incr("n"), incr("n"), get("n"))
		}()
		for range 2 {
			synctest.Wait()
			h.engine.sync(nil)
		}
		<-done
		for i, want := range []string{"ok", "ok a", "ok", "ok", "ok", "ok", "ok 3"} {
			if got := short(res[i]); got != want {
				t.Errorf("operation %d: %q, want %q", i, got, want)
			}
		}
		if h.engine.writes != 4 {
			t.Errorf("%d writes; the second and third incr should have shared one", h.engine.writes)
		}
	})
}

func TestNothingIsToldBeforeItIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(time.Minute)
		h.engine.setHeld(true)
		var told atomic.Int32
		for _, op := range []unkai.Op{set("k", "a"), get("k"), get("k")} {
			go func() {
				h.do(op)
				told.Add(1)
			}()
			synctest.Wait()
		}
		if n := told.Load(); n != 0 {
			t.Fatalf("%d operations were answered before the sync", n)
		}
		h.engine.sync(nil)
		synctest.Wait()
		if n := told.Load(); n != 3 {
			t.Fatalf("%d of 3 operations were answered after the sync", n)
		}
	})
}

// deaf hears how a write ended and does not care.
type deaf struct{}

func (deaf) WriteDone(*store.Write) {}

// What another coordinator has had accepted is read here before the disk has
// it: that must not be told either.
func TestAnothersWriteIsNotToldBeforeItIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(time.Minute)
		h.engine.setHeld(true)
		h.engine.Write(&store.Write{Key: []byte("k"), Done: deaf{}, Record: store.Record{
			Ballot: 77, Promise: 77, Epoch: 1, Item: unkai.Item{Value: []byte("v"), CAS: 77},
		}})
		for _, op := range []unkai.Op{get("k"), {Kind: unkai.Add, Key: []byte("k")}} {
			var res unkai.Result
			done := make(chan struct{})
			go func() { defer close(done); res = h.do(op)[0] }()
			synctest.Wait()
			select {
			case <-done:
				t.Errorf("%v was answered before the sync: %s", op.Kind, short(res))
			default:
			}
			h.engine.sync(nil)
			<-done
			if op.Kind == unkai.Get && short(res) != "ok v" || op.Kind == unkai.Add && res.Status != unkai.NotStored {
				t.Errorf("%v: %s", op.Kind, short(res))
			}
			h.engine.Write(&store.Write{Key: []byte("k"), Done: deaf{}, Expect: 77, Promised: 77, Record: store.Record{
				Ballot: 77, Promise: 77, Epoch: 1, Item: unkai.Item{Value: []byte("v"), CAS: 77},
			}})
		}
		h.engine.sync(nil)
	})
}

func TestCountersLoseNothing(t *testing.T) {
	for _, held := range []bool{false, true} {
		t.Run("slow disk "+strconv.FormatBool(held), func(t *testing.T) {
			h := open(time.Minute)
			h.engine.setHeld(held)
			stop := make(chan struct{})
			syncer := make(chan struct{})
			go func() {
				defer close(syncer)
				for {
					select {
					case <-h.engine.arrived:
						h.engine.sync(nil)
					case <-stop:
						return
					}
				}
			}()
			const clients, each = 32, 200
			var wg sync.WaitGroup
			for c := range clients {
				wg.Go(func() {
					for i := range each {
						for _, r := range h.do(incr("hot"), incr("warm"+strconv.Itoa(c%4)), get("hot"), set("own"+strconv.Itoa(c), strconv.Itoa(i))) {
							if r.Status != unkai.OK {
								t.Errorf("client %d: %v", c, short(r))
							}
						}
					}
				})
			}
			wg.Wait()
			close(stop)
			<-syncer
			h.engine.setHeld(false)
			if got := short(h.do(get("hot"))[0]); got != fmt.Sprintf("ok %d", clients*each) {
				t.Errorf("counted %s, want %d", got, clients*each)
			}
			if h.Stats().Shared == 0 && held {
				t.Error("no round was shared")
			}
		})
	}
}

// Who saw a cas unique and changes the item finds it unchanged or learns of
// somebody else's change; nobody is told of a change that was only their own.
func TestCASIsNeverFalse(t *testing.T) {
	h := open(time.Minute)
	h.do(set("k", "0"))
	const clients, each = 16, 100
	var lost, won atomic.Int64
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for n := 0; n < each; {
				r := h.do(get("k"))[0]
				v, err := strconv.Atoi(string(r.Item.Value))
				if err != nil {
					t.Error(err)
					return
				}
				op := set("k", strconv.Itoa(v+1))
				op.Compare, op.CAS = true, r.Item.CAS
				switch s := h.do(op)[0].Status; s {
				case unkai.OK:
					won.Add(1)
					n++
				case unkai.Exists:
					lost.Add(1)
				default:
					t.Errorf("status %d", s)
					return
				}
			}
		})
	}
	wg.Wait()
	if got := short(h.do(get("k"))[0]); got != fmt.Sprintf("ok %d", clients*each) {
		t.Errorf("%s after %d successes and %d refusals", got, won.Load(), lost.Load())
	}
}

// Every operation that changes an item gets a cas unique of its own, also when
// a round serves many, or a value read between two of them could be replaced by
// somebody who never saw the second.
func TestSharedRoundsGiveUniqueUniques(t *testing.T) {
	h := open(time.Minute)
	seen := map[uint64]bool{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 100 {
				r := h.do(incr("k"))[0]
				mu.Lock()
				if seen[r.Item.CAS] {
					t.Errorf("cas unique %d was given twice", r.Item.CAS)
				}
				seen[r.Item.CAS] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestExpiryNeverFlipsBack(t *testing.T) {
	h := open(time.Minute)
	op := set("k", "v")
	op.Expiry = 2_000_000
	h.do(op)
	if got := short(h.do(get("k"))[0]); got != "ok v" {
		t.Fatal(got)
	}
	h.now.Store(2_000_000)
	if got := short(h.do(get("k"))[0]); got != "miss" {
		t.Fatal(got)
	}
	h.now.Store(1_000_000) // somebody set the clock back
	if got := short(h.do(get("k"))[0]); got != "miss" {
		t.Error("the key came back")
	}
	if !h.engine.records["k"].Tombstone {
		t.Error("no tombstone stands for the expired key")
	}
}

func TestFlushForgets(t *testing.T) {
	h := open(time.Minute)
	h.do(set("k", "v"), set("n", "5"))
	next := h.top.Load().Flush()
	if err := next.Seal(); err != nil {
		t.Fatal(err)
	}
	h.top.Store(&next)
	for i, got := range h.do(get("k"), unkai.Op{Kind: unkai.Increment, Key: []byte("n"), Delta: 1}, set("k", "w"), get("k")) {
		if want := []string{"miss", "miss", "ok", "ok w"}[i]; short(got) != want {
			t.Errorf("operation %d: %s, want %s", i, short(got), want)
		}
	}
}

// The epoch changes between the coordinator's look at it and the replica's.
func TestStaleEpochIsAskedAgain(t *testing.T) {
	h := open(time.Minute)
	h.do(set("k", "v"))
	stale := h.top.Load()
	next := stale.Flush()
	if err := next.Seal(); err != nil {
		t.Fatal(err)
	}
	looks := 0
	c := coordinator.New(coordinator.Config{
		Local: replica.New(h.engine, self, func() *topology.Topology { return &next }), Self: self,
		Topology: func() *topology.Topology {
			if looks++; looks%3 != 0 {
				return stale
			}
			return &next
		},
		Now: h.now.Load, MaxValue: 1 << 20, Timeout: time.Minute,
	})
	h.Coordinator = c
	for i, got := range h.do(get("k"), set("k", "w"), get("k")) {
		if want := []string{"miss", "ok", "ok w"}[i]; short(got) != want {
			t.Errorf("operation %d: %s, want %s", i, short(got), want)
		}
	}
	if c.Stats().Retried == 0 {
		t.Error("nothing was asked again")
	}
}

func TestRefusedWriteIsNotApplied(t *testing.T) {
	h := open(time.Minute)
	h.do(set("k", "v"))
	h.engine.setRefuse(store.ErrFull, 0)
	for _, r := range h.do(set("k", "w"), incr("n")) {
		if r.Status != unkai.Failed || !errors.Is(r.Err, store.ErrFull) {
			t.Errorf("%s", short(r))
		}
	}
	if got := short(h.do(get("k"))[0]); got != "ok v" {
		t.Error(got)
	}
}

// One operation of a shared round is refused by the store; the ones behind it
// are tried without it.
func TestOneRefusalDoesNotFailTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(time.Minute)
		h.do(set("k", "v"))
		h.engine.setHeld(true)
		results := make([]string, 4)
		var wg sync.WaitGroup
		for i, op := range []unkai.Op{set("k", "a"), set("k", "b"), get("k"), get("k")} {
			wg.Go(func() { results[i] = short(h.do(op)[0]) })
			synctest.Wait()
		}
		h.engine.setRefuse(store.ErrFull, 0) // of the second round, which all others share
		h.engine.sync(nil)
		wg.Wait()
		if results[0] != "ok" || results[2] != "ok a" || results[3] != "ok a" {
			t.Errorf("%q", results)
		}
		if results[1] == "ok" {
			t.Error("a refused set was answered as if it had been stored")
		}
	})
}

// A delete that shares a round with a set for which there is no room is done all
// the same.
func TestADeleteIsNotBlamedForASet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(time.Minute)
		h.do(set("k", "v"))
		h.engine.setHeld(true)
		results := make([]unkai.Result, 3)
		var wg sync.WaitGroup
		for i, op := range []unkai.Op{set("k", "a"), {Kind: unkai.Delete, Key: []byte("k")}, set("k", "b")} {
			wg.Go(func() { results[i] = h.do(op)[0] })
			synctest.Wait()
		}
		h.engine.fill() // the second round has the delete and the second set
		for range 3 {
			h.engine.sync(nil)
			synctest.Wait()
		}
		wg.Wait()
		if results[0].Status != unkai.OK || results[1].Status != unkai.OK {
			t.Errorf("the first set: %s, the delete: %s", short(results[0]), short(results[1]))
		}
		if results[2].Status != unkai.Failed || !errors.Is(results[2].Err, store.ErrFull) {
			t.Errorf("the set for which there is no room: %s", short(results[2]))
		}
	})
}

// A read that turns out to need a round, because what it was waiting for has
// expired, comes before a later set of its batch all the same.
func TestALateReadKeepsItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(time.Minute)
		h.engine.setHeld(true)
		other := coordinator.New(coordinator.Config{
			Local: replica.New(h.engine, self, h.top.Load), Self: self, Topology: h.top.Load,
			Now: h.now.Load, MaxValue: 1 << 20, Timeout: time.Minute,
		})
		var wg sync.WaitGroup
		wg.Go(func() {
			op := set("k", "old")
			op.Expiry = h.now.Load() + 1000
			b := unkai.Batch{Ops: []unkai.Op{op}}
			other.Do(&b)
		})
		synctest.Wait()
		h.now.Add(5000)
		var res []unkai.Result
		wg.Go(func() { res = h.do(get("k"), set("k", "new"), get("k")) })
		for range 4 {
			synctest.Wait()
			h.engine.sync(nil)
		}
		wg.Wait()
		if short(res[0]) != "miss" || short(res[1]) != "ok" || short(res[2]) != "ok new" {
			t.Errorf("%s, %s, %s", short(res[0]), short(res[1]), short(res[2]))
		}
	})
}

func TestBrokenStoreLeavesItInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(time.Minute)
		h.engine.setHeld(true)
		results := make([]unkai.Result, 2)
		var wg sync.WaitGroup
		for i, op := range []unkai.Op{set("k", "a"), set("l", "b")} {
			wg.Go(func() { results[i] = h.do(op)[0] })
		}
		synctest.Wait()
		h.engine.sync(store.ErrBroken)
		wg.Wait()
		for _, r := range results {
			if r.Status != unkai.InDoubt {
				t.Errorf("%s", short(r))
			}
		}
	})
}

// The operation whose change is not durable has given up; what others saw of it
// must not be told all the same when the disk then fails.
func TestNothingOfAnAbandonedChangeIsTold(t *testing.T) {
	for _, broken := range []error{store.ErrBroken, store.ErrFull} {
		synctest.Test(t, func(t *testing.T) {
			h := open(time.Second)
			h.do(set("k", "old"))
			h.engine.setHeld(true)
			go h.do(set("k", "first"))
			synctest.Wait()
			set2 := make(chan struct{})
			go func() { h.do(set("k", "undurable")); close(set2) }()
			synctest.Wait()
			time.Sleep(900 * time.Millisecond)
			var res unkai.Result
			got := make(chan struct{})
			go func() { res = h.do(get("k"))[0]; close(got) }()
			synctest.Wait()
			h.engine.sync(nil) // the next round serves the set and the get together
			synctest.Wait()
			<-set2
			h.engine.setHeld(false)
			h.engine.sync(broken)
			<-got
			if string(res.Item.Value) == "undurable" && errors.Is(broken, store.ErrBroken) {
				t.Errorf("%v: told of a change that is not durable: %s", broken, short(res))
			}
		})
	}
}

func TestManyAppendsNeedLittleMemory(t *testing.T) {
	var before, after runtime.MemStats
	synctest.Test(t, func(t *testing.T) {
		h := open(time.Minute)
		h.do(set("k", string(make([]byte, 100_000))))
		h.engine.setHeld(true)
		b := unkai.Batch{}
		*b.Add() = set("k", string(make([]byte, 100_000)))
		for range 500 {
			*b.Add() = unkai.Op{Kind: unkai.Append, Key: []byte("k"), Value: []byte("x")}
		}
		runtime.ReadMemStats(&before)
		done := make(chan struct{})
		go func() { h.Do(&b); close(done) }()
		for range 2 {
			synctest.Wait()
			h.engine.sync(nil)
		}
		<-done
		runtime.ReadMemStats(&after)
		if res := h.engine.records["k"].Item.Value; len(res) != 100_500 {
			t.Errorf("%d bytes", len(res))
		}
	})
	if n := after.TotalAlloc - before.TotalAlloc; n > 5_000_000 {
		t.Errorf("500 appends to 100 kB took %d bytes", n)
	}
}

// A disk that hangs: operations end in time, with the right word for what may
// have happened, and everything goes on when the disk does.
func TestTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(time.Second)
		h.engine.setHeld(true)
		results := make([]unkai.Result, 4)
		var wg sync.WaitGroup
		for i, op := range []unkai.Op{set("k", "a"), set("k", "b"), get("k"), set("other", "x")} {
			wg.Go(func() { results[i] = h.do(op)[0] })
			synctest.Wait()
		}
		start := time.Now()
		wg.Wait()
		if d := time.Since(start); d > 1100*time.Millisecond {
			t.Errorf("took %v", d)
		}
		for i, want := range []unkai.Status{unkai.InDoubt, unkai.Failed, unkai.Failed, unkai.InDoubt} {
			if results[i].Status != want {
				t.Errorf("operation %d: %s, want status %d", i, short(results[i]), want)
			}
		}
		// The rounds they left behind end, and the key is free again.
		h.engine.setHeld(false)
		h.engine.sync(nil)
		synctest.Wait()
		if got := short(h.do(get("k"))[0]); got != "ok a" {
			t.Error(got)
		}
		if got := short(h.do(set("k", "c"))[0]); got != "ok" {
			t.Error(got)
		}
	})
}

func TestRoomStopsEarly(t *testing.T) {
	h := open(time.Minute)
	value := string(make([]byte, 1000))
	b := unkai.Batch{Room: 2500}
	for i := range 10 {
		h.do(set(strconv.Itoa(i), value))
		b.Add().Key = []byte(strconv.Itoa(i))
	}
	h.Do(&b)
	if len(b.Results) != 3 {
		t.Fatalf("%d answers in room for 2.5 values", len(b.Results))
	}
	for len(b.Results) < len(b.Ops) {
		b.Values = b.Values[:0]
		h.Do(&b)
	}
	for i, r := range b.Results[8:] {
		if r.Status != unkai.OK || r.Size != 1000 {
			t.Errorf("operation %d: %s", i, short(r))
		}
	}
}
