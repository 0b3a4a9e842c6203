package antientropy

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"unkai"
	"unkai/internal/core/topology"
)

// keeper is a replica that notes what it is to forget.
type keeper struct {
	mu      sync.Mutex
	dropped []unkai.Bucket
	err     error
}

func (k *keeper) Settle() {}

func (k *keeper) Drop(b unkai.Bucket) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err == nil {
		k.dropped = append(k.dropped, b)
	}
	return k.err
}

// moving is a mover at node 1 of a cluster, and how to give it another topology.
func moving(t *testing.T, k *keeper, bring func(context.Context, unkai.Bucket, unkai.Epoch) (int64, error)) (*Mover, func(topology.Topology, error) topology.Topology) {
	t.Helper()
	var mu sync.Mutex
	var now *topology.Topology
	m := &Mover{Self: 1, Replica: k, bring: bring, Log: slog.New(slog.DiscardHandler), Topology: func() *topology.Topology {
		mu.Lock()
		defer mu.Unlock()
		return now
	}}
	return m, func(top topology.Topology, err error) topology.Topology {
		t.Helper()
		if err == nil {
			err = top.Seal()
		}
		if err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		defer mu.Unlock()
		now = &top
		return top
	}
}

func all() (b []unkai.Bucket) {
	for i := range 16 {
		b = append(b, unkai.Bucket(i))
	}
	return b
}

// A bucket that came and went between two looks is forgotten all the same, and
// only then may the node join it again.
func TestForgetWhatWasNeverSeen(t *testing.T) {
	k := &keeper{}
	m, give := moving(t, k, nil)
	top := give(topology.New(9, 16, 1, 1, 1, topology.Node{ID: 2, Weight: 1}), nil)
	top = give(top.Join(topology.Node{ID: 1, Weight: 1}))
	m.work(t.Context())
	if len(k.dropped) != 16 {
		t.Fatalf("at the start %d buckets were looked at", len(k.dropped))
	}
	m.work(t.Context())
	if len(k.dropped) != 16 {
		t.Error("buckets are forgotten again and again")
	}
	top = give(top.Begin(topology.Change{Kind: topology.KindAttach, Nodes: []unkai.NodeID{1}}, nil, 1))
	top = give(top.Proceed(nil, nil, 16, nil), nil)
	held := top.Moving()
	top = give(top.Cancel()) // the mover has not looked meanwhile
	if got := m.Forgot(); len(got) > 0 {
		t.Errorf("%v were forgotten before anybody looked", got)
	}
	k.err = errors.New("the disk does not answer")
	m.work(t.Context())
	if got := m.Forgot(); len(got) > 0 {
		t.Errorf("%v were not forgotten", got)
	}
	k.err = nil
	m.work(t.Context())
	if got := m.Forgot(); len(got) != held || len(k.dropped) != 16+held {
		t.Errorf("%d of %d buckets were forgotten, %d dropped", len(got), held, len(k.dropped)-16)
	}
	if top = give(top.Forgot(map[unkai.Seat][]unkai.Bucket{2: m.Forgot()}), nil); top.Straying() {
		t.Error("there is more to forget")
	}
}

// A paused job brings nothing; what was brought is told with its bytes, and only
// for the epoch in which it set out.
func TestPausedJobsBringNothing(t *testing.T) {
	var mu sync.Mutex
	var settled int
	k := &keeper{}
	m, give := moving(t, k, func(context.Context, unkai.Bucket, unkai.Epoch) (int64, error) {
		mu.Lock()
		defer mu.Unlock()
		settled++
		return 30, nil
	})
	top := give(topology.New(9, 16, 1, 1, 1, topology.Node{ID: 1, Weight: 1}), nil)
	top = give(top.Join(topology.Node{ID: 2, Weight: 1}))
	top = give(top.Begin(topology.Change{Kind: topology.KindAttach, Nodes: []unkai.NodeID{2}}, nil, 1))
	top = give(top.Proceed(nil, nil, 16, nil), nil)
	top = give(top.Pause(1))
	m.work(t.Context())
	m.running.Wait()
	if buckets, _ := m.Settled(); settled != 0 || len(buckets) != 0 {
		t.Errorf("%d buckets were brought for a paused job", settled)
	}
	top = give(top.Resume(2))
	m.work(t.Context())
	m.running.Wait()
	buckets, bytes := m.Settled()
	if len(buckets) != top.Moving() || settled != len(buckets) || slices.ContainsFunc(bytes, func(n int64) bool { return n != 30 }) {
		t.Errorf("%v, %v, %d buckets", buckets, bytes, settled)
	}
	top = give(top.Cancel())
	next, _ := top.Advance(nil, 2)
	top = give(next, nil)
	top = give(top.Forgot(map[unkai.Seat][]unkai.Bucket{2: all()}), nil)
	give(top.Attach(2))
	if buckets, _ := m.Settled(); len(buckets) != 0 {
		t.Errorf("%v were settled in an earlier epoch", buckets)
	}
}

// A joining replica that is slow holds up what goes to it, and nothing that sets out
// meanwhile; nor are more buckets brought at once than usual.
func TestASlowOneHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		begun, under, most := map[unkai.Bucket]int{}, 0, 0
		slow, answer := unkai.Bucket(16), make(chan struct{})
		m, give := moving(t, &keeper{}, func(_ context.Context, b unkai.Bucket, _ unkai.Epoch) (int64, error) {
			mu.Lock()
			if slow == 16 {
				slow = b
			}
			begun[b]++
			under++
			most = max(most, under)
			mu.Unlock()
			if b == slow {
				<-answer
			} else {
				time.Sleep(time.Millisecond)
			}
			mu.Lock()
			under--
			mu.Unlock()
			return 1, nil
		})
		top := give(topology.New(9, 16, 1, 1, 1, topology.Node{ID: 1, Weight: 1}), nil)
		for id := unkai.NodeID(2); id < 30; id++ { // so that two are brought at once
			top = give(top.Join(topology.Node{ID: id, Weight: 1}))
		}
		top = give(top.Begin(topology.Change{Kind: topology.KindAttach, Nodes: []unkai.NodeID{2, 3, 4}}, nil, 1))
		top = give(top.Proceed(nil, nil, 4, nil), nil)
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { m.Run(ctx) })
		arrived := func() []unkai.Bucket {
			time.Sleep(2 * longTurn)
			synctest.Wait()
			settled, _ := m.Settled()
			return settled
		}
		for left := top.Moving(); left > 1; {
			settled := arrived()
			if len(settled) == 0 {
				t.Errorf("%d buckets are left, and nothing is brought", left)
				break
			}
			top = give(top.Proceed(settled, settled, 4, nil), nil)
			top = give(top.Proceed(nil, settled, 4, nil), nil)
			left = top.Moving()
			m.Changed()
		}
		if close(answer); len(arrived()) != 1 {
			t.Errorf("the slow one has not arrived: %+v", top.Sets[slow])
		}
		stop()
		running.Wait()
		if most != 2 {
			t.Errorf("%d were brought at once", most)
		}
		for b, n := range begun {
			if n != 1 {
				t.Errorf("bucket %d was brought %d times", b, n)
			}
		}
	})
}

// What cannot be brought is tried again soon at first, and then once in a while, also while
// other buckets are on their way: each try may cost a message and a look at the store.
func TestFailuresAreTriedAgainInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		tries := map[unkai.Bucket]int{}
		slow, answer := unkai.Bucket(16), make(chan struct{})
		m, give := moving(t, &keeper{}, func(_ context.Context, b unkai.Bucket, _ unkai.Epoch) (int64, error) {
			mu.Lock()
			if slow == 16 {
				slow = b
			}
			tries[b]++
			mu.Unlock()
			if b == slow {
				<-answer
				return 1, nil
			}
			time.Sleep(time.Millisecond)
			return 0, errBrought
		})
		top := give(topology.New(9, 16, 1, 1, 1, topology.Node{ID: 1, Weight: 1}), nil)
		top = give(top.Join(topology.Node{ID: 2, Weight: 1}))
		top = give(top.Begin(topology.Change{Kind: topology.KindAttach, Nodes: []unkai.NodeID{2}}, nil, 1))
		give(top.Proceed(nil, nil, 16, nil), nil)
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { m.Run(ctx) })
		const seconds = 20
		time.Sleep(seconds * time.Second)
		close(answer)
		stop()
		running.Wait()
		for b, n := range tries {
			if b != slow && (n < seconds/2 || n > seconds+8) {
				t.Errorf("bucket %d was tried %d times in %d s", b, n, seconds)
			}
		}
		if len(tries) < 4 {
			t.Errorf("only %d buckets were tried", len(tries))
		}
	})
}

// Others leave a bucket to who is to bring it, however often that fails at first; but not
// when it fails still after a while, nor when it set out anew.
func TestOthersArePatientForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fails := true
		m, give := moving(t, &keeper{}, func(context.Context, unkai.Bucket, unkai.Epoch) (int64, error) {
			if fails {
				return 0, errState
			}
			return 1, nil
		})
		top := give(topology.New(9, 16, 1, 1, 1, topology.Node{ID: 1, Weight: 1}), nil)
		top = give(top.Join(topology.Node{ID: 2, Weight: 1}))
		top = give(top.Begin(topology.Change{Kind: topology.KindAttach, Nodes: []unkai.NodeID{2}}, nil, 1))
		top = give(top.Proceed(nil, nil, 16, nil), nil)
		b := unkai.Bucket(slices.IndexFunc(top.Sets, func(s topology.Set) bool { return len(s.Joining) > 0 }))
		try := func() {
			m.work(t.Context())
			m.running.Wait()
		}
		for range 5 {
			try()
			if !m.Pending(b) {
				t.Fatal("what fails at first is left to others")
			}
			time.Sleep(lenience / 10)
		}
		time.Sleep(10 * lenience) // in which others were brought
		if !m.Pending(b) {
			t.Error("what was not tried again is left to others")
		}
		try()
		if m.Pending(b) {
			t.Error("what fails for long is not left to others")
		}
		if m.mu.Lock(); !lasts(&m.stuck, b, top.Route(b).Since) || lasts(&m.stuck, b, top.Route(b).Since+1) {
			t.Error("what set out anew is not tried anew")
		}
		m.mu.Unlock()
	})
}

// Who has not heard that a bucket is on its way will bring it soon.
func TestWhoIsBehindSaysSo(t *testing.T) {
	top := topology.New(9, 16, 1, 1, 1, topology.Node{ID: 1, Weight: 1})
	if err := top.Seal(); err != nil {
		t.Fatal(err)
	}
	about := false
	r := &Repairer{Self: 1, Topology: func() *topology.Topology { return &top }, Pending: func(unkai.Bucket) bool { return about }}
	for _, test := range []struct {
		epoch unkai.Epoch
		about bool
		want  prospect
	}{{1, false, none}, {1, true, pending}, {2, false, behind}, {2, true, behind}, {0, true, none}} {
		about = test.about
		out, err := r.servePending(&reader{b: u32(u16(nil, 3), uint32(test.epoch))})
		if err != nil || len(out) != 1 || prospect(out[0]) != test.want {
			t.Errorf("%+v: %v, %v", test, out, err)
		}
	}
}

// Of more buckets than fit into a question all are asked for.
func TestOthersAreAskedForAllBuckets(t *testing.T) {
	top := topology.New(9, 4*maxBuckets, 1, 1, 1, topology.Node{ID: 1, Weight: 1})
	if err := top.Seal(); err != nil {
		t.Fatal(err)
	}
	var list []departure
	var which []int
	for b := range 2*maxBuckets + 1 {
		list, which = append(list, departure{bucket: unkai.Bucket(b)}), append(which, b)
	}
	r := &Repairer{Ask: func(_ context.Context, _ unkai.NodeID, q []byte) (reply []byte, _ error) {
		n := (len(q) - 1) / 6
		if n > maxBuckets {
			t.Errorf("asked for %d at once", n)
		}
		for range n {
			if asked(q[0]) == askPending {
				reply = append(reply, byte(pending))
			} else {
				reply = u64(u64(append(reply, byte(stateOK)), 7), 8)
			}
		}
		return reply, nil
	}}
	said := map[unkai.Bucket]prospect{}
	r.askPending(t.Context(), 2, &top, list, said)
	for _, d := range list {
		if said[d.bucket] != pending {
			t.Fatalf("of bucket %d it says %v", d.bucket, said[d.bucket])
		}
	}
	if all := r.askWhole(t.Context(), 2, &top, list, which); len(all) != len(list) || all[len(list)-1] != (whole{true, 7, 8}) {
		t.Errorf("%d of %d have answered", len(all), len(list))
	}
}
