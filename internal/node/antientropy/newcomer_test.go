package antientropy_test

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"unkai"
	"unkai/internal/store"
)

// Nobody settles a bucket without the replica that is new to it, though a quorum of the
// joining set holds everything: neither while that one is away, nor when it dies halfway,
// nor when it comes back empty-handed.
func TestNothingIsSettledWithoutTheNewcomer(t *testing.T) {
	for name, after := range map[string]int64{"away from the start": 0, "dies halfway": 40} {
		t.Run(name, func(t *testing.T) {
			grow(t, 300, func(t *testing.T, g *growing) {
				g.begin(t)
				newcomer := g.nodes[3]
				newcomer.away.Store(after == 0)
				var taken atomic.Int64
				newcomer.engine.(*scanned).write = func(*store.Write) {
					if taken.Add(1) == after {
						newcomer.away.Store(true)
					}
				}
				g.move(t, 5*time.Second)
				if !newcomer.away.Load() {
					t.Fatalf("it took over %d records and lives", taken.Load())
				}
				g.whole(t)
				newcomer.away.Store(false)
				g.move(t, 5*time.Second)
				if said := g.honest(t); said != 3 {
					t.Errorf("%d of 3 replicas have settled everything when it is back", said)
				}
				g.whole(t)
			})
		})
	}
}

// What clients write while the newcomer is away is chosen without it, and a round changes
// nothing of that. It is brought all the same, before anybody says that a bucket is settled.
func TestTheNewcomerIsBroughtWhatWasChosenWithoutIt(t *testing.T) {
	grow(t, 300, func(t *testing.T, g *growing) {
		g.begin(t)
		newcomer := g.nodes[3]
		for _, when := range []string{"before anything was brought", "when all was"} {
			newcomer.away.Store(true)
			for i := range 100 {
				do(g.nodes[i%3].coordinator,
					unkai.Op{Kind: unkai.Set, Key: key(i), Value: []byte(when)},
					unkai.Op{Kind: unkai.Delete, Key: key(100 + i)},
					unkai.Op{Kind: unkai.Set, Key: fmt.Append(key(i), when), Value: []byte("new")})
			}
			g.move(t, 2*time.Second)
			newcomer.away.Store(false)
			g.move(t, 5*time.Second)
			if said := g.honest(t); said != 3 {
				t.Errorf("%s: %d of 3 replicas have settled everything", when, said)
			}
			g.whole(t)
		}
	})
}

// whole checks that the newcomer holds all that the others have settled. Rounds of several
// replicas at one key may leave it with a lower ballot than they: each proposes again what
// the others did.
func (g *growing) whole(t *testing.T) {
	t.Helper()
	for i, m := range g.movers[:3] {
		buckets, _ := m.Settled()
		for _, b := range buckets {
			for e, err := range g.nodes[i].engine.Scan(b) {
				if err != nil {
					t.Fatal(err)
				}
				f, _, err := g.nodes[3].replica.Get(b, e.Hash, e.Key, nil)
				has := err == nil && (f.Record.Ballot >= e.Record.Ballot || f.Record.Epoch == e.Record.Epoch &&
					f.Record.Tombstone == e.Record.Tombstone && bytes.Equal(f.Record.Item.Value, e.Record.Item.Value))
				if !has {
					t.Errorf("node %d has settled bucket %d, and the newcomer lacks %q", i+1, b, e.Key)
				}
			}
		}
	}
}
