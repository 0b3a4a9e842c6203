package coordinator_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"unkai"
	"unkai/internal/check"
	"unkai/internal/core/topology"
	"unkai/internal/node/coordinator"
	"unkai/internal/node/replica"
	"unkai/internal/store"
)

// cluster is four coordinators over four replicas, of which three hold all keys
// at first, and a network that delays and loses.
type cluster struct {
	tops    [size]atomic.Pointer[topology.Topology] // as each node knows it
	now     atomic.Int64
	engines []*engine
	locals  []*replica.Local
	nodes   []*coordinator.Coordinator
	calls   atomic.Int64
	prepare atomic.Int64

	mu   sync.Mutex
	rng  *rand.Rand
	loss float64
	cut  [size][size]bool
}

const size = 4

const callTimeout = 200 * time.Millisecond

func newCluster(t *testing.T, seed uint64, loss float64) *cluster {
	t.Helper()
	return newClusterOf(t, seed, loss, 2, 3)
}

// newClusterOf is one in which these nodes have been attached to the first.
func newClusterOf(t *testing.T, seed uint64, loss float64, others ...unkai.NodeID) *cluster {
	t.Helper()
	c := &cluster{rng: rand.New(rand.NewPCG(seed, 99)), loss: loss}
	c.now.Store(1_000_000)
	top := topology.New(42, 16, 3, 2, 2, topology.Node{ID: 1, Weight: 1})
	for id := unkai.NodeID(2); id <= size; id++ {
		var err error
		if top, err = top.Join(topology.Node{ID: id, Weight: 1}); err != nil {
			t.Fatal(err)
		}
	}
	top, err := top.Attach(others...)
	if err != nil {
		t.Fatal(err)
	}
	var all []unkai.Bucket
	for b := range top.Buckets {
		all = append(all, unkai.Bucket(b))
	}
	top = top.Proceed(all, nil, 1<<16, nil)
	top = top.Proceed(nil, all, 1<<16, nil)
	if err := top.Seal(); err != nil {
		t.Fatal(err)
	}
	for i := range size {
		c.tops[i].Store(&top)
		e := newEngine()
		c.engines = append(c.engines, e)
		c.locals = append(c.locals, replica.New(e, unkai.NodeID(i+1), c.tops[i].Load))
	}
	for i := range size {
		id := unkai.NodeID(i + 1)
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		var mu sync.Mutex
		c.nodes = append(c.nodes, coordinator.New(coordinator.Config{
			Self: id, Local: c.locals[i], Topology: c.tops[i].Load, Now: c.now.Load, MaxValue: 1 << 20, Timeout: time.Second,
			Remote: func(to unkai.NodeID) coordinator.Replica { return &remote{c, i, int(to) - 1} },
			Rand: func() uint64 {
				mu.Lock()
				defer mu.Unlock()
				return rng.Uint64()
			},
		}))
	}
	return c
}

// remote is a replica behind the network.
type remote struct {
	c        *cluster
	from, to int
}

func (r *remote) Read(c *replica.Call) bool { return r.send(c, (*replica.Local).Read) }
func (r *remote) Prepare(c *replica.Call) bool {
	r.c.prepare.Add(1)
	return r.send(c, (*replica.Local).Prepare)
}
func (r *remote) Accept(c *replica.Call) bool { return r.send(c, (*replica.Local).Accept) }

var errLost = errors.New("no answer")

// send carries a copy of the call to the replica and its answer back, unless it
// loses one of them; then the caller hears nothing but the time passing.
func (r *remote) send(call *replica.Call, do func(*replica.Local, *replica.Call) bool) bool {
	r.c.calls.Add(1)
	r.c.mu.Lock()
	there, back := r.c.delay(), r.c.delay()
	lostThere, lostBack := r.c.rng.Float64() < r.c.loss, r.c.rng.Float64() < r.c.loss
	twice := r.c.rng.Float64() < r.c.loss
	late := time.Duration(r.c.rng.IntN(400)) * time.Millisecond
	cut := r.c.cut[r.from][r.to]
	r.c.mu.Unlock()
	own := question(call)
	answer := make(chan *replica.Call, 2)
	arrive := func(after time.Duration, q *replica.Call) {
		time.Sleep(after)
		done := make(told, 1)
		q.Answered = done
		if !do(r.c.locals[r.to], q) {
			<-done
		}
		answer <- q
	}
	if !cut && !lostThere {
		go arrive(there, own)
	}
	if !cut && twice { // or long after nobody waits for it any more
		go arrive(late, question(call))
	}
	go func() {
		select {
		case a := <-answer:
			if !lostBack {
				time.Sleep(back)
				call.Status, call.Err, call.Found, call.Seen, call.Epoch, call.Forgot = a.Status, a.Err, a.Found, a.Seen, a.Epoch, a.Forgot
				call.Answered.CallAnswered(call)
				return
			}
			time.Sleep(callTimeout)
		case <-time.After(callTimeout):
		}
		call.Status, call.Err = replica.Unknown, errLost
		call.Answered.CallAnswered(call)
	}()
	return false
}

func question(call *replica.Call) *replica.Call {
	q := &replica.Call{
		Epoch: call.Epoch, Bucket: call.Bucket, Hash: call.Hash, Key: append([]byte(nil), call.Key...), Access: call.Access,
		NoValue: call.NoValue, Ballot: call.Ballot, Next: call.Next, Item: call.Item, Fetched: call.Fetched, Accessed: call.Accessed,
	}
	q.Item.Value = append([]byte(nil), call.Item.Value...)
	return q
}

type told chan struct{}

func (t told) CallAnswered(*replica.Call) { t <- struct{}{} }

func (c *cluster) delay() time.Duration {
	if c.rng.IntN(20) == 0 {
		return time.Duration(c.rng.IntN(300)) * time.Millisecond
	}
	return time.Duration(c.rng.IntN(2000)) * time.Microsecond
}

func do(c *coordinator.Coordinator, ops ...unkai.Op) []unkai.Result {
	b := unkai.Batch{Ops: ops}
	for len(b.Results) < len(b.Ops) {
		c.Do(&b)
	}
	return b.Results
}

// ownKey is a key of which the first node is the coordinator.
func (c *cluster) ownKey() string {
	top := c.tops[0].Load()
	for i := 0; ; i++ {
		key := "k" + strconv.Itoa(i)
		if sp := top.Space(); top.Route(sp.Bucket(sp.Hash([]byte(key)))).Members[0] == 1 {
			return key
		}
	}
}

// Steady changes by one coordinator take one round trip, and so do reads: one
// call to each other replica for a change, one call for a read, no promises.
func TestOneRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 0)
		node := c.nodes[0]
		for name, op := range map[string]unkai.Op{"set": set("k", "v"), "incr": incr("n"), "append": {Kind: unkai.Append, Key: []byte("a"), Value: []byte("x"), Vivify: true}} {
			do(node, op) // the first may need promises
			time.Sleep(time.Second)
			calls, prepares := c.calls.Load(), c.prepare.Load()
			for range 10 {
				if res := do(node, op); res[0].Status != unkai.OK {
					t.Fatalf("%s: %v", name, res[0])
				}
				time.Sleep(time.Second) // stragglers arrive
			}
			if n, p := c.calls.Load()-calls, c.prepare.Load()-prepares; n != 20 || p != 0 {
				t.Errorf("10 times %s took %d calls and %d promises, want 20 and 0", name, n, p)
			}
		}
		calls := c.calls.Load()
		for range 10 {
			if res := do(node, get("k")); short(res[0]) != "ok v" {
				t.Fatal(short(res[0]))
			}
			time.Sleep(time.Second)
		}
		if n := c.calls.Load() - calls - node.Stats().Hedged; n != 10 {
			t.Errorf("10 reads took %d calls, want 10", n)
		}
		if res := do(c.nodes[1], get("n"), get("absent")); short(res[0]) != "ok 11" || short(res[1]) != "miss" {
			t.Errorf("another coordinator: %s, %s", short(res[0]), short(res[1]))
		}
	})
}

// What was proposed before a flush and is found after it is gone all the same.
func TestAFlushWhileSomethingIsInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 0)
		top, key := c.tops[0].Load(), c.ownKey()
		if res := do(c.nodes[0], set(key, "old")); res[0].Status != unkai.OK {
			t.Fatal(res[0])
		}
		time.Sleep(time.Second)
		c.cut[0][1], c.cut[0][2] = true, true
		appended := make(chan unkai.Result)
		go func() {
			appended <- do(c.nodes[0], unkai.Op{Kind: unkai.Append, Key: []byte(key), Value: []byte("+x")})[0]
		}()
		time.Sleep(callTimeout / 2) // this node's replica alone has accepted it
		next := top.Flush()
		if err := next.Seal(); err != nil {
			t.Fatal(err)
		}
		for i := range c.tops {
			c.tops[i].Store(&next)
		}
		c.mu.Lock()
		c.cut[0][1] = false
		c.mu.Unlock()
		t.Log((<-appended).Status)
		if res := do(c.nodes[0], get(key)); short(res[0]) != "miss" {
			t.Errorf("after the flush: %s", short(res[0]))
		}
		time.Sleep(10 * time.Second) // what is late arrives
	})
}

// A coordinator that has not heard of a flush proposes something that only its own
// replica accepts. Others have seen the flush by then: so it comes after that.
func TestASetThatHasNotHeardOfAFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 0)
		top, key := c.tops[0].Load(), c.ownKey()
		do(c.nodes[0], set(key, "old"))
		time.Sleep(time.Second)
		next := top.Flush()
		if err := next.Seal(); err != nil {
			t.Fatal(err)
		}
		c.tops[1].Store(&next)
		c.tops[2].Store(&next)
		stored := make(chan unkai.Result)
		go func() { stored <- do(c.nodes[0], set(key, "new"))[0] }()
		time.Sleep(20 * time.Millisecond)
		c.tops[0].Store(&next)
		if res := <-stored; res.Status != unkai.OK {
			t.Errorf("it is answered with %v", res)
		}
		for i, n := range c.nodes[:3] {
			if res := do(n, get(key)); short(res[0]) != "ok new" {
				t.Errorf("at node %d afterwards: %s", i+1, short(res[0]))
			}
		}
		time.Sleep(10 * time.Second) // what is late arrives
	})
}

// A replica that was cut off while its bucket got another set holds a proposal that
// was never chosen, at a ballot of which the others have not heard. What they chose
// since is what counts.
func TestALeftoverOfAnEarlierEpochDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 0)
		top := c.tops[0].Load()
		hash := top.Space().Hash([]byte("k"))
		b := unkai.MakeBallot(1<<40, 3)
		w := &store.Write{Hash: hash, Bucket: top.Space().Bucket(hash), Key: []byte("k"), Done: make(done, 1)}
		w.Record = store.Record{Ballot: b, Promise: b.Heir(), Epoch: 1, Tombstone: true}
		c.engines[2].Write(w)
		if w.Err != nil {
			t.Fatal(w.Err)
		}
		c.cut[0][2], c.cut[1][2] = true, true
		if res := do(c.nodes[0], set("k", "v")); res[0].Status != unkai.OK {
			t.Fatal(res[0])
		}
		c.cut[0][2], c.cut[1][2] = false, false
		for i := range 3 {
			for _, op := range []unkai.Op{get("k"), {Kind: unkai.Get, Key: []byte("k"), Retouch: true}} {
				if res := do(c.nodes[i], op); short(res[0]) != "ok v" {
					t.Errorf("node %d: %s", i, short(res[0]))
				}
			}
		}
		time.Sleep(10 * time.Second) // what is late arrives
	})
}

type done chan struct{}

func (d done) WriteDone(*store.Write) { d <- struct{}{} }

// A coordinator whose own replica did not accept what it had chosen, for want of room
// say, uses another ballot for the next value all the same.
func TestABallotIsForOneValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 0)
		key := "k"
		top := c.tops[0].Load()
		sp := top.Space()
		first := int(top.Route(sp.Bucket(sp.Hash([]byte(key)))).Members[0]) - 1
		node := c.nodes[first]
		c.engines[first].fill()
		one := do(node, set(key, "one"))[0]
		time.Sleep(time.Second)
		two := do(node, set(key, "two"))[0]
		time.Sleep(time.Second)
		if one.Status != unkai.OK || two.Status != unkai.OK {
			t.Fatalf("one %v, two %v", one, two)
		}
		if one.Item.CAS == two.Item.CAS {
			t.Errorf("one cas unique %d for two values", one.Item.CAS)
		}
		for i, e := range c.engines {
			if i == first || i == size-1 {
				continue
			}
			if got := string(e.records[key].Item.Value); got != "two" {
				t.Errorf("node %d holds %q after set two was acknowledged", i+1, got)
			}
		}
	})
}

// In a set of two, one is enough to promise. It is not enough to say that a key is
// absent: the cluster may have gone on without this node, which has not heard of it.
func TestOneOfTwoKnowsNothingAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClusterOf(t, 1, 0, 2)
		c.cut[1][0] = true
		for _, op := range []unkai.Op{{Kind: unkai.Touch, Key: []byte("k")}, {Kind: unkai.Delete, Key: []byte("k")}, get("k")} {
			if res := do(c.nodes[1], op); res[0].Status != unkai.Failed && res[0].Status != unkai.InDoubt {
				t.Errorf("%v: %v", op.Kind, res[0])
			}
		}
		time.Sleep(10 * time.Second) // what is late arrives
	})
}

// The others may have promised far more than this node's replica knows of: after a
// restart the counters of a coordinator go on far above those it had used.
func TestOthersAreFarAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 0)
		top := c.tops[0].Load()
		hash := top.Space().Hash([]byte("k"))
		bucket := top.Space().Bucket(hash)
		for _, i := range []int{1, 2} {
			done := make(told, 1)
			q := &replica.Call{
				Epoch: top.Route(bucket).Epoch, Bucket: bucket, Hash: hash, Key: []byte("k"),
				Ballot: unkai.MakeBallot(1<<40, 2), Answered: done,
			}
			if !c.locals[i].Prepare(q) {
				<-done
			}
			if q.Status != replica.OK {
				t.Fatal(q.Status, q.Err)
			}
		}
		for _, op := range []unkai.Op{incr("k"), get("k"), {Kind: unkai.Append, Key: []byte("k"), Value: []byte("1"), Vivify: true}} {
			if res := do(c.nodes[0], op); res[0].Status == unkai.Failed || res[0].Status == unkai.InDoubt {
				t.Errorf("%v: %v", op.Kind, res[0])
			}
		}
		time.Sleep(time.Second) // stragglers arrive
	})
}

// Operations of many clients at three coordinators on few keys, over a network
// that delays, loses and repeats, must look as if each key were one register.
func TestClusterIsLinearizable(t *testing.T) {
	seeds := []uint64{*seed}
	if *seed == 0 {
		seeds = []uint64{rand.Uint64(), rand.Uint64(), rand.Uint64(), rand.Uint64()}
	}
	for _, s := range seeds {
		t.Run(strconv.FormatUint(s, 10), func(t *testing.T) {
			var history check.History
			synctest.Test(t, func(t *testing.T) { stir(t, s, &history) })
			if v := history.Judge(10 * time.Minute); !v.OK {
				path := filepath.Join(os.TempDir(), "unkai-cluster-"+strconv.FormatUint(s, 10)+".html")
				f, err := os.Create(path)
				if err == nil {
					err = errors.Join(v.Draw(f), f.Close())
				}
				t.Errorf("%d operations are not linearizable (undecided: %v); see %s (%v)", history.Len(), v.Undecided, path, err)
			}
		})
	}
}

func stir(t *testing.T, s uint64, history *check.History) {
	c := newCluster(t, s, 0.02)
	stop, storm := make(chan struct{}), make(chan struct{})
	go func() { // the network comes apart and together again
		defer close(storm)
		r := rand.New(rand.NewPCG(s, 7))
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(200+r.IntN(800)) * time.Millisecond):
			}
			c.mu.Lock()
			c.cut = [size][size]bool{}
			if r.IntN(2) == 0 {
				alone := r.IntN(size)
				for other := range size {
					c.cut[alone][other], c.cut[other][alone] = other != alone, other != alone && r.IntN(4) > 0
				}
			}
			c.mu.Unlock()
		}
	}()
	var failed, doubt, good atomic.Int64
	var wg sync.WaitGroup
	for client := range 6 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(s, uint64(client)+1))
			seen := map[string]uint64{}
			for range 100 {
				// Mostly at the key's own coordinator, as gateways would.
				op := anyOp(r, seen)
				node := int(op.Key[1]-'0') % size
				if r.IntN(5) == 0 {
					node = r.IntN(size)
				}
				end := history.Begin(client, op)
				res := do(c.nodes[node], op)[0]
				switch res.Status {
				case unkai.Failed:
					failed.Add(1)
				case unkai.InDoubt:
					doubt.Add(1)
				default:
					good.Add(1)
				}
				if res.Status == unkai.OK && res.Item.CAS != 0 {
					seen[string(op.Key)] = res.Item.CAS
				}
				end(res)
			}
		})
	}
	moved := make(chan struct{})
	go func() {
		defer close(moved)
		c.move(t, rand.New(rand.NewPCG(s, 8)))
	}()
	wg.Wait()
	<-moved
	close(stop)
	<-storm
	time.Sleep(10 * time.Second) // what is late arrives
	t.Logf("%d answered, %d failed, %d in doubt", good.Load(), failed.Load(), doubt.Load())
	if good.Load() < 200 {
		t.Errorf("only %d operations of 600 were answered", good.Load())
	}
}

// move attaches the fourth node and brings it its buckets, as managers would:
// each node learns of each step at a time of its own.
func (c *cluster) move(t *testing.T, r *rand.Rand) {
	pause := func(ms int) { time.Sleep(time.Duration(r.IntN(ms)) * time.Millisecond) }
	current := c.tops[0].Load()
	step := func(next topology.Topology, err error) {
		if err == nil {
			err = next.Seal()
		}
		if err != nil {
			t.Error(err)
			return
		}
		current = &next
		for _, i := range r.Perm(size) {
			c.tops[i].Store(current)
			pause(300)
		}
	}
	all := make([]unkai.Bucket, current.Buckets)
	for b := range all {
		all[b] = unkai.Bucket(b)
	}
	pause(2000)
	step(current.Attach(size))
	// Two of the three present replicas settle what they hold.
	for _, i := range r.Perm(3)[:2] {
		for failed := true; failed; {
			c.locals[i].Settle()
			var keys [][]byte
			if err := c.locals[i].Each(0, func(e *store.Entry) bool {
				keys = append(keys, append([]byte(nil), e.Key...))
				return true
			}); err != nil {
				t.Error(err)
			}
			failed = c.nodes[i].Settle(keys) != nil
			pause(50)
		}
	}
	step(current.Proceed(all, nil, 1<<16, nil), nil)
	pause(500)
	step(current.Proceed(nil, all, 1<<16, nil), nil)
}
