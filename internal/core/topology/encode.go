package topology

import (
	"encoding/binary"

	"unkai"
)

// A topology is sent and kept in one of two forms (docs/decisions/0023):
//
//	whole   1, sum of it, head, a set for each bucket
//	delta   2, epoch and sum of its base, sum of the result, head, number of buckets
//	        that differ, and of each how far it is from the one before, and its set
//
// The head is everything but the sets, as JSON, after its length. A set is a number: 0,
// after which the set itself follows, or which of those that have followed it is. Sums are
// 8 bytes, other numbers as varints.
const (
	formWhole = 1
	formDelta = 2
	formText  = '{' // JSON; what was written before there were others
)

// Encode is the whole of a sealed topology. It is the same for the same topology.
func (t *Topology) Encode() []byte {
	w := writer{t: t, b: make([]byte, 0, len(t.seal.head)+3*len(t.Sets)+64)}
	w.b = append(w.b, formWhole)
	w.sum(t.Sum())
	w.head()
	for b := range t.Sets {
		w.set(b)
	}
	return w.b
}

// Delta is what makes a sealed topology of an earlier one, nil if that is of another kind.
func (t *Topology) Delta(base *Topology) []byte {
	if len(base.Sets) != len(t.Sets) || base.Cluster != t.Cluster || base.Epoch >= t.Epoch || base.Seats > t.Seats {
		return nil
	}
	changed := t.differ(base.Sets)
	w := writer{t: t, b: make([]byte, 0, len(t.seal.head)+4*len(changed)+64)}
	w.b = append(w.b, formDelta)
	w.number(uint64(base.Epoch))
	w.sum(base.Sum())
	w.sum(t.Sum())
	w.head()
	w.number(uint64(len(changed)))
	at := 0
	for _, b := range changed {
		w.number(uint64(int(b) - at))
		at = int(b)
		w.set(at)
	}
	return w.b
}

type writer struct {
	t    *Topology
	b    []byte
	sets int            // that have followed
	at   map[uint64]ref // by hash
}

// ref is a set that has followed.
type ref struct {
	number int // from 1
	bucket int // of which it is
}

func (w *writer) number(n uint64) { w.b = binary.AppendUvarint(w.b, n) }

func (w *writer) sum(n uint64) { w.b = binary.LittleEndian.AppendUint64(w.b, n) }

func (w *writer) head() {
	w.number(uint64(len(w.t.seal.head)))
	w.b = append(w.b, w.t.seal.head...)
}

func (w *writer) set(b int) {
	s := &w.t.Sets[b]
	h := s.hash()
	if r, ok := w.at[h]; ok && w.t.Sets[r.bucket].equal(s) {
		w.number(uint64(r.number))
		return
	}
	if w.at == nil {
		w.at = map[uint64]ref{}
	}
	w.sets++
	w.at[h] = ref{w.sets, b}
	w.number(0)
	w.number(uint64(w.t.Epoch - s.Epoch))
	for _, list := range s.lists() {
		w.seats(*list)
	}
}

func (w *writer) seats(list []unkai.Seat) {
	w.number(uint64(len(list)))
	for _, seat := range list {
		w.number(uint64(seat))
	}
}
