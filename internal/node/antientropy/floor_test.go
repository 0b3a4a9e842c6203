package antientropy_test

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"unkai"
	"unkai/internal/store"
)

// Who joins a bucket knows up to where the replicas before it have forgotten: or a
// round that does not know what became of its value would take a key that was deleted
// and purged for one that never was.
func TestFloorsMoveWithTheirBuckets(t *testing.T) {
	grow(t, 100, func(t *testing.T, g *growing) {
		floors := map[unkai.Bucket]unkai.Ballot{}
		for i := range 100 {
			do(g.nodes[0].coordinator, unkai.Op{Kind: unkai.Delete, Key: key(i)})
			q := g.call(string(key(i)))
			for _, n := range g.nodes {
				was := g.held(t, n, string(key(i)))
				if err := n.engine.Purge(q.Bucket, q.Hash, q.Key, was.Ballot); err != nil {
					t.Fatal(err)
				}
				floors[q.Bucket] = max(floors[q.Bucket], n.engine.Floor(q.Bucket))
			}
		}
		g.begin(t)
		g.move(t, 3*time.Second)
		if said := g.honest(t); said != 3 {
			t.Errorf("%d of 3 replicas have settled everything", said)
		}
		for _, b := range g.moving() {
			if got := g.nodes[3].engine.Floor(b); got != floors[b] {
				t.Errorf("bucket %d has forgotten up to %v where it joins, and up to %v before", b, got, floors[b])
			}
		}
	})
}

// forgetful is an engine that cannot take over a floor.
type forgetful struct{ store.Engine }

func (forgetful) RaiseFloor(unkai.Bucket, unkai.Ballot) error { return store.ErrBroken }

// Who cannot tell enough of the joining replicas has not settled the bucket.
func TestNothingIsSettledWithoutItsFloor(t *testing.T) {
	grow(t, 100, func(t *testing.T, g *growing) {
		for b := range unkai.Bucket(16) {
			if err := g.nodes[0].engine.RaiseFloor(b, 9); err != nil {
				t.Fatal(err)
			}
		}
		for _, n := range g.nodes[1:] {
			e := n.engine.(*scanned)
			e.Engine = forgetful{e.Engine}
		}
		g.wrap = func(e store.Engine) store.Engine { return forgetful{e} }
		g.begin(t)
		g.move(t, 3*time.Second)
		for i, m := range g.movers[:3] {
			want := g.moving()
			if i == 0 {
				want = nil
			}
			if buckets, _ := m.Settled(); !slices.Equal(buckets, want) {
				t.Errorf("node %d has settled %v, want %v", i+1, buckets, want)
			}
		}
	})
}

// A floor that no ballots lead to is not believed: it would stay for good, and nothing new
// could be written to the bucket any more.
func TestFloorOutOfReach(t *testing.T) {
	grow(t, 10, func(t *testing.T, g *growing) {
		g.begin(t)
		b := g.moving()[0]
		tell := func(floor unkai.Ballot) error {
			question := []byte{10} // raise the floor
			question = binary.LittleEndian.AppendUint16(question, uint16(b))
			question = binary.LittleEndian.AppendUint32(question, uint32(g.top.Load().Route(b).Epoch))
			question = binary.LittleEndian.AppendUint64(question, uint64(floor))
			_, err := g.nodes[3].Serve(1, question)
			return err
		}
		engine := g.nodes[3].engine
		for _, counter := range []uint64{1<<48 - 1, 3<<46 + 1} {
			if err := tell(unkai.MakeBallot(counter, 1)); err == nil || engine.Floor(b) != 0 {
				t.Errorf("counter %d: %v, and the floor is %v", counter, err, engine.Floor(b))
			}
		}
		last := unkai.MakeBallot(3<<46, 1)
		if err := tell(last); err != nil || engine.Floor(b) != last {
			t.Errorf("%v, and the floor is %v", err, engine.Floor(b))
		}
	})
}
