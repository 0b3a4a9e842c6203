package topology

import (
	"encoding/json"
	"fmt"
	"testing"

	"unkai"
)

// crowded is a cluster of so many nodes and buckets to which another node is coming: half of
// its buckets have arrived, some are on their way and the rest wait for their turn.
func crowded(t testing.TB, nodes, buckets int) Topology {
	top := New(1, buckets, 3, 2, 2, Node{ID: 1, Weight: 1})
	ids := []unkai.NodeID{}
	join := func(id unkai.NodeID) {
		var err error
		if top, err = top.Join(Node{ID: id, Weight: 1}); err != nil {
			t.Fatal(err)
		}
	}
	for id := unkai.NodeID(2); id <= unkai.NodeID(nodes); id++ {
		join(id)
		ids = append(ids, id)
	}
	var err error
	if top, err = top.Attach(ids...); err != nil {
		t.Fatal(err)
	}
	var heard []unkai.Seat
	for _, n := range top.Nodes {
		heard = append(heard, n.Seat)
	}
	top = top.Proceed(all(buckets), nil, 0, nil)
	top = top.Proceed(nil, all(buckets), 0, nil)
	forgot := map[unkai.Seat][]unkai.Bucket{}
	for _, seat := range heard {
		forgot[seat] = top.Strayed(seat)
	}
	top = top.Forgot(forgot)
	join(unkai.NodeID(nodes + 1))
	top, err = top.Begin(Change{Kind: KindAttach, Nodes: []unkai.NodeID{unkai.NodeID(nodes + 1)}}, nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	moving := top.Moving()
	for top.Moving() > moving/2 {
		top = turn(&top)
	}
	if err := top.Seal(); err != nil {
		t.Fatal(err)
	}
	return top
}

func all(buckets int) (out []unkai.Bucket) {
	for b := range buckets {
		out = append(out, unkai.Bucket(b))
	}
	return out
}

// turn is the topology when what is on its way has arrived, and was heard of.
func turn(t *Topology) Topology {
	return t.Proceed(all(t.Buckets), all(t.Buckets), t.Buckets/16, nil)
}

func sizes(b *testing.B, f func(b *testing.B, was, now *Topology)) {
	for _, s := range []struct{ nodes, buckets int }{{4, 1024}, {4, 65536}, {30, 8192}} {
		b.Run(fmt.Sprintf("%d nodes/%d buckets", s.nodes, s.buckets), func(b *testing.B) {
			if len(made[s]) == 0 { // it takes a while
				was := crowded(b, s.nodes, s.buckets)
				now := turn(&was)
				if err := now.Seal(); err != nil {
					b.Fatal(err)
				}
				made[s] = []*Topology{&was, &now}
			}
			f(b, made[s][0], made[s][1])
		})
	}
}

var made = map[struct{ nodes, buckets int }][]*Topology{}

func BenchmarkJSON(b *testing.B) {
	sizes(b, func(b *testing.B, _, now *Topology) {
		text, _ := json.Marshal(now)
		for b.Loop() {
			got := new(Topology)
			if err := json.Unmarshal(text, got); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(text)), "bytes")
	})
}

func BenchmarkWhole(b *testing.B) {
	sizes(b, func(b *testing.B, _, now *Topology) {
		whole := now.Encode()
		b.Run("encode", func(b *testing.B) {
			for b.Loop() {
				now.Encode()
			}
		})
		b.Run("decode", func(b *testing.B) {
			for b.Loop() {
				if _, err := Decode(whole); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(whole)), "bytes")
		})
	})
}

func BenchmarkDelta(b *testing.B) {
	sizes(b, func(b *testing.B, was, now *Topology) {
		delta := now.Delta(was)
		b.Run("make", func(b *testing.B) {
			for b.Loop() {
				now.Delta(was)
			}
		})
		b.Run("follow", func(b *testing.B) {
			for b.Loop() {
				if _, err := was.Follow(delta); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(delta)), "bytes")
		})
	})
}

func BenchmarkSeal(b *testing.B) {
	sizes(b, func(b *testing.B, was, now *Topology) {
		for _, parts := range []bool{false, true} {
			b.Run(fmt.Sprintf("by parts %v", parts), func(b *testing.B) {
				for b.Loop() {
					next := *now
					if parts {
						next.was = was.seal
					}
					if err := next.Seal(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	})
}

func BenchmarkProceed(b *testing.B) {
	sizes(b, func(b *testing.B, was, _ *Topology) {
		for b.Loop() {
			turn(was)
		}
	})
}
