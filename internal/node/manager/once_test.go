package manager_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"unkai"
	"unkai/internal/core/topology"
	"unkai/internal/node/manager"
)

// passage lets those questions and answers through that a test wants.
type passage struct {
	all  map[unkai.NodeID]*manager.Manager
	rule atomic.Pointer[func(from, to unkai.NodeID, do string) (there, back bool)]
}

// let changes the rule, also while questions are under way.
func (p *passage) let(rule func(from, to unkai.NodeID, do string) (there, back bool)) {
	p.rule.Store(&rule)
}

type passageWire struct {
	n    *passage
	from unkai.NodeID
}

func (w passageWire) Ask(ctx context.Context, to unkai.NodeID, q []byte) ([]byte, error) {
	var head struct {
		Do string `json:"do"`
	}
	if err := json.Unmarshal(q, &head); err != nil {
		return nil, err
	}
	there, back := (*w.n.rule.Load())(w.from, to, head.Do)
	time.Sleep(time.Millisecond)
	var a []byte
	if there {
		a = w.n.all[to].Serve(w.from, q)
	}
	if !there || !back {
		<-ctx.Done()
		return nil, errLost
	}
	return a, nil
}

// passages is a network of so many nodes that hold everything.
func passages(t *testing.T, nodes unkai.NodeID) (*passage, topology.Topology) {
	t.Helper()
	top := topology.New(1, 16, 3, 2, 2, topology.Node{ID: 1, Weight: 1})
	var others []unkai.NodeID
	var err error
	for id := unkai.NodeID(2); id <= nodes; id++ {
		if top, err = top.Join(topology.Node{ID: id, Weight: 1}); err != nil {
			t.Fatal(err)
		}
		others = append(others, id)
	}
	if top, err = top.Attach(others...); err != nil {
		t.Fatal(err)
	}
	net := &passage{all: map[unkai.NodeID]*manager.Manager{}}
	for id := unkai.NodeID(1); id <= nodes; id++ {
		m, err := manager.Open(manager.Config{
			Self: id, Topology: &memory{}, Decree: &memory{}, Network: passageWire{net, id}, Now: now,
			Log: slog.New(slog.DiscardHandler), Changed: func() {}, Timeout: time.Second,
		}, func() (topology.Topology, error) { return top, nil })
		if err != nil {
			t.Fatal(err)
		}
		net.all[id] = m
		t.Cleanup(func() {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return net, top
}

// A node proposes one topology at a ballot, also if it is no manager: else two could
// be decided for one epoch.
func TestABallotIsForOneTopology(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, top := passages(t, 4)
		ms := top.Managers
		var x unkai.NodeID
		for id := unkai.NodeID(1); id <= 4; id++ {
			if !slices.Contains(ms, id) {
				x = id
			}
		}
		if len(ms) != 3 || x == 0 {
			t.Fatalf("managers %v", ms)
		}
		change := func(at, node unkai.NodeID) error {
			ctx, cancel := context.WithTimeout(t.Context(), 900*time.Millisecond)
			defer cancel()
			_, err := net.all[at].Change(ctx, func(b *topology.Topology) (topology.Topology, error) {
				return b.Join(topology.Node{ID: node, Weight: 1})
			})
			return err
		}
		// 1: only the first manager accepts, and its answer is lost.
		net.let(func(_, to unkai.NodeID, do string) (bool, bool) {
			return do == "prepare" || to == ms[0], do == "prepare"
		})
		t.Log("first change:", change(x, 50))
		// 2: the others decide another one; nobody is told.
		net.let(func(_, to unkai.NodeID, do string) (bool, bool) {
			ok := to != ms[0] && do != "tell"
			return ok, ok
		})
		if err := change(x, 60); err != nil {
			t.Fatal("second change: ", err)
		}
		// 3: the first manager finishes what it has accepted, with the second.
		net.let(func(from, to unkai.NodeID, do string) (bool, bool) {
			ok := to == ms[1] && from != x && do != "tell"
			return ok, ok
		})
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		t.Log("finish:", net.all[ms[0]].Finish(ctx))
		a, b := net.all[x].Topology(), net.all[ms[0]].Topology()
		_, a50 := a.Node(50)
		_, b50 := b.Node(50)
		if a.Epoch == b.Epoch && a50 != b50 {
			t.Errorf("epoch %d was decided twice: at %v with node 50: %v, at %v: %v", a.Epoch, x, a50, ms[0], b50)
		}
		time.Sleep(5 * time.Second)
	})
}

// A flush by somebody else, which this node has not heard of, is not its own: what was
// stored between the two must go too.
func TestAFlushThatAnotherHasMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, _ := passages(t, 3)
		net.let(func(_, to unkai.NodeID, _ string) (bool, bool) { return to != 2, to != 2 })
		if err := net.all[1].Flush(0); err != nil {
			t.Fatal(err)
		}
		first := net.all[1].Topology().Flushed
		if heard := net.all[2].Topology().Epoch; heard >= first {
			t.Fatalf("the second has heard of epoch %d", heard)
		}
		net.let(func(unkai.NodeID, unkai.NodeID, string) (bool, bool) { return true, true })
		if err := net.all[2].Flush(0); err != nil {
			t.Fatal(err)
		}
		if second := net.all[2].Topology().Flushed; second <= first {
			t.Errorf("flushed in epoch %d, and then in %d", first, second)
		}
		time.Sleep(5 * time.Second)
	})
}

// Nobody is told of a topology that may be forgotten, and nothing is promised about
// the one after it.
func TestATopologyThatMayBeForgotten(t *testing.T) {
	file := &memory{}
	first := topology.New(1, 16, 3, 2, 2, topology.Node{ID: 1, Weight: 1})
	m, err := manager.Open(manager.Config{
		Self: 1, Topology: file, Decree: &memory{}, Network: nobody{}, Now: now,
		Log: slog.New(slog.DiscardHandler), Changed: func() {}, Timeout: time.Second,
	}, func() (topology.Topology, error) { return first, nil })
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}()
	file.breakWith(manager.ErrUncertain)
	if err := m.Flush(0); !errors.Is(err, manager.ErrInDoubt) {
		t.Errorf("a change that may be forgotten: %v", err)
	}
	ask := func() string { return string(m.Serve(2, []byte(`{"do":"fetch"}`))) }
	if got := ask(); !strings.Contains(got, "error") || strings.Contains(got, "whole") {
		t.Errorf("told of it: %s", got)
	}
	file.breakWith(nil)
	if got := ask(); strings.Contains(got, "error") || !strings.Contains(got, "whole") {
		t.Errorf("when it stands: %s", got)
	}
}

type nobody struct{}

func (nobody) Ask(context.Context, unkai.NodeID, []byte) ([]byte, error) { return nil, errLost }
