package manager_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"unkai"
	"unkai/internal/core/decree"
	"unkai/internal/core/topology"
	"unkai/internal/node/manager"
)

// told is what the tests look at of a question or an answer.
type told struct {
	Do     string        `json:"do"`
	Epoch  unkai.Epoch   `json:"epoch,omitempty"`
	Ballot decree.Ballot `json:"ballot"`
	Value  []byte        `json:"value,omitempty"`
	Known  known         `json:"known"`
	News   *news         `json:"news"`
	Lacks  *known        `json:"lacks"`
	OK     bool          `json:"ok"`
	Error  string        `json:"error"`
}

type known struct {
	Epoch unkai.Epoch `json:"epoch"`
	Sum   uint64      `json:"sum"`
}

type news struct {
	Steps [][]byte `json:"steps"`
	Whole []byte   `json:"whole"`
}

// trio is three managers, and all that passed between them.
type trio struct {
	t      *testing.T
	all    map[unkai.NodeID]*manager.Manager
	files  map[unkai.NodeID]*memory
	cut    map[unkai.NodeID]bool
	mu     sync.Mutex
	passed []told
}

type trioWire struct {
	n    *trio
	from unkai.NodeID
}

func (w trioWire) Ask(_ context.Context, to unkai.NodeID, q []byte) ([]byte, error) {
	if w.n.cut[to] || w.n.cut[w.from] {
		return nil, errLost
	}
	a := w.n.all[to].Serve(w.from, q)
	for _, text := range [][]byte{q, a} {
		var m told
		if err := json.Unmarshal(text, &m); err != nil {
			w.n.t.Error(err)
		}
		w.n.mu.Lock()
		w.n.passed = append(w.n.passed, m)
		w.n.mu.Unlock()
	}
	return a, nil
}

// newTrio is three nodes, of which the first alone is the manager, so that they speak one
// at a time.
func newTrio(t *testing.T) *trio {
	c := &trio{t: t, all: map[unkai.NodeID]*manager.Manager{}, files: map[unkai.NodeID]*memory{}, cut: map[unkai.NodeID]bool{}}
	top := topology.New(1, 1024, 3, 2, 2, topology.Node{ID: 1, Weight: 1})
	for id := unkai.NodeID(2); id <= 3; id++ {
		var err error
		if top, err = top.Join(topology.Node{ID: id, Weight: 1}); err != nil {
			t.Fatal(err)
		}
	}
	for id := unkai.NodeID(1); id <= 3; id++ {
		c.start(id, top)
	}
	return c
}

func (c *trio) start(id unkai.NodeID, top topology.Topology) {
	c.files[id] = &memory{}
	m, err := manager.Open(manager.Config{
		Self: id, Topology: c.files[id], Decree: &memory{}, Network: trioWire{c, id}, Now: now,
		Log: slog.New(slog.DiscardHandler), Changed: func() {}, Timeout: time.Second,
	}, func() (topology.Topology, error) { return top, nil })
	if err != nil {
		c.t.Fatal(err)
	}
	c.all[id] = m
}

func (c *trio) close() {
	for _, m := range c.all {
		if err := m.Close(); err != nil {
			c.t.Error(err)
		}
	}
}

// change changes a little, and waits until who can hear it has.
func (c *trio) change() {
	c.t.Helper()
	if err := c.all[1].Flush(0); err != nil {
		c.t.Fatal(err)
	}
	synctest.Wait()
}

// agree checks that all have kept the same.
func (c *trio) agree() {
	c.t.Helper()
	for id, f := range c.files {
		if !bytes.Equal(f.b, c.files[1].b) || c.all[id].Topology().Epoch != c.all[1].Topology().Epoch {
			c.t.Errorf("node %d knows epoch %d, and the first %d; or they keep different things", id, c.all[id].Topology().Epoch, c.all[1].Topology().Epoch)
		}
	}
}

// took is how many changes, and how many wholes, were passed since.
func (c *trio) took() (steps, wholes int) {
	for _, m := range c.passed {
		if m.News != nil {
			steps += len(m.News.Steps)
			if len(m.News.Whole) > 0 {
				wholes++
			}
		}
	}
	c.passed = nil
	return steps, wholes
}

func TestWhoMissedChangesIsToldThem(t *testing.T) {
	for _, c := range []struct{ missed, steps, wholes int }{{1, 1, 0}, {3, 3, 0}, {40, 0, 1}} {
		synctest.Test(t, func(t *testing.T) {
			n := newTrio(t)
			defer n.close()
			n.cut[3] = true
			for range c.missed {
				n.change()
			}
			n.cut[3] = false
			n.took()
			if err := n.all[3].Catch(t.Context(), 2); err != nil { // who has learned it itself
				t.Fatal(err)
			}
			if steps, wholes := n.took(); steps != c.steps || wholes != c.wholes {
				t.Errorf("missed %d: %d changes and %d wholes were passed", c.missed, steps, wholes)
			}
			n.agree()
			if err := n.all[3].Catch(t.Context(), 2); err != nil {
				t.Fatal(err)
			}
			if steps, wholes := n.took(); steps+wholes > 0 {
				t.Errorf("%d changes and %d wholes were passed for nothing", steps, wholes)
			}
		})
	}
}

// Who is told of a change on top of one that it has missed is told that one too, at once.
func TestWhoIsToldOfALaterChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTrio(t)
		defer n.close()
		n.cut[3] = true
		n.change()
		n.change()
		n.cut[3] = false
		n.took()
		n.change()
		if steps, wholes := n.took(); steps != 2+3 || wholes > 0 { // to each other one, and the three that it lacks
			t.Errorf("%d changes and %d wholes were passed", steps, wholes)
		}
		n.agree()
	})
}

// Who is ahead of the one it asks stays so.
func TestWhoAsksOneBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTrio(t)
		defer n.close()
		n.cut[3] = true
		n.change()
		n.cut[3] = false
		n.took()
		if err := n.all[2].Catch(t.Context(), 3); err != nil {
			t.Fatal(err)
		}
		if steps, wholes := n.took(); steps+wholes > 0 || n.all[2].Topology().Epoch != n.all[1].Topology().Epoch {
			t.Errorf("%d changes, %d wholes, epoch %d", steps, wholes, n.all[2].Topology().Epoch)
		}
	})
}

// A change is never made to another topology than the one that it is of, though the epoch
// be the same: who has another is told the whole.
func TestAnotherTopologyOfTheSameEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTrio(t)
		defer n.close()
		other := *n.all[3].Topology()
		if err := n.all[3].Close(); err != nil {
			t.Fatal(err)
		}
		other.N, other.R, other.W = 5, 3, 3
		n.start(3, other)
		n.change()
		if steps, wholes := n.took(); steps != 2 || wholes != 1 {
			t.Errorf("%d changes and %d wholes were passed", steps, wholes)
		}
		n.agree()
	})
}

// A manager votes about what follows the topology that it knows, and about no other; and
// accepts only what can be made of that.
func TestAManagerVotesOnWhatItKnows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTrio(t)
		defer n.close()
		base := n.all[1].Topology()
		flushed := base.Flush()
		if err := flushed.Seal(); err != nil {
			t.Fatal(err)
		}
		foreign := *base
		foreign.N, foreign.R, foreign.W = 5, 3, 3
		if err := foreign.Seal(); err != nil {
			t.Fatal(err)
		}
		after := foreign.Flush()
		if err := after.Seal(); err != nil {
			t.Fatal(err)
		}
		right, wrong := known{base.Epoch, base.Sum()}, known{base.Epoch, foreign.Sum()}
		for what, q := range map[string]told{
			"a prepare on another topology": {Do: "prepare", Known: wrong},
			"an accept on another topology": {Do: "accept", Known: wrong, Value: after.Delta(&foreign)},
			"a change of another topology":  {Do: "accept", Known: right, Value: after.Delta(&foreign)},
		} {
			q.Epoch, q.Ballot = base.Epoch+1, decree.Ballot{Counter: 1, Node: 2}
			a := n.serve(q)
			if a.OK || a.Lacks == nil || a.Lacks.Epoch != base.Epoch || n.all[1].Pending() {
				t.Errorf("%s: %+v", what, a)
			}
		}
		q := told{Do: "accept", Epoch: base.Epoch + 1, Ballot: decree.Ballot{Counter: 1, Node: 2}, Known: right, Value: flushed.Delta(base)}
		spoilt := q
		spoilt.Value = append([]byte(nil), q.Value...)
		spoilt.Value[len(spoilt.Value)-1] ^= 1
		if a := n.serve(spoilt); a.OK || n.all[1].Pending() {
			t.Errorf("one that nobody could learn: %+v", a)
		}
		if a := n.serve(q); !a.OK || !n.all[1].Pending() {
			t.Errorf("the right one: %+v", a)
		}
	})
}

func (c *trio) serve(q told) (a told) {
	c.t.Helper()
	text, err := json.Marshal(q)
	if err == nil {
		err = json.Unmarshal(c.all[1].Serve(2, text), &a)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}
