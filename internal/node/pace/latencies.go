package pace

import (
	"math/bits"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// kind tells apart what clients wait for: a write takes several times as long as a
// read, and what comes of mixing them says nothing about either.
type kind int

const (
	reads kind = iota
	writes
	kinds
)

// Latencies counts how long clients' batches took. The zero value is ready, and
// is safe for concurrent use.
type Latencies struct {
	stripes [8]struct { // cores would fight for one
		open   [kinds]atomic.Int64
		counts [kinds][slots]atomic.Uint32
	}
}

const (
	// slots are as wide as an eighth of what they begin with, and the first as unit.
	slots = 8 * 22
	unit  = 10 // 2^10 ns: a microsecond, or so
)

// Batch is one that has begun.
type Batch struct {
	stripe uint32
	kind   kind
	began  time.Time
}

// Begin notes that a batch has begun, which may write something.
func (l *Latencies) Begin(mayWrite bool) Batch {
	b := Batch{stripe: rand.Uint32() % uint32(len(l.stripes)), kind: reads, began: time.Now()}
	if mayWrite {
		b.kind = writes
	}
	l.stripes[b.stripe].open[b.kind].Add(1)
	return b
}

// End counts how long a batch took.
func (l *Latencies) End(b Batch) {
	s := &l.stripes[b.stripe]
	s.counts[b.kind][slot(time.Since(b.began))].Add(1)
	s.open[b.kind].Add(-1)
}

// open is how many batches have begun and not ended.
func (l *Latencies) open(k kind) (n int64) {
	for s := range l.stripes {
		n += l.stripes[s].open[k].Load()
	}
	return n
}

func slot(took time.Duration) int {
	v := uint64(max(took, 0)) >> unit
	if v < 8 {
		return int(v)
	}
	octave := bits.Len64(v) - 4
	return min(8*octave+int(v>>octave), slots-1)
}

// within is the middle of what a slot counts.
func within(slot int) time.Duration {
	if slot < 8 {
		return time.Duration(2*slot+1) << (unit - 1)
	}
	octave := slot/8 - 1
	return time.Duration(2*(slot%8+8)+1) << (octave + unit - 1)
}

// tally is how many batches took how long.
type tally [slots]uint32

// all is what was counted since the start. It wraps around, as what is taken from
// it does.
func (l *Latencies) all(k kind) (out tally) {
	for s := range l.stripes {
		for i := range out {
			out[i] += l.stripes[s].counts[k][i].Load()
		}
	}
	return out
}

// since is what has been counted since an earlier tally.
func (t *tally) since(before *tally) (out tally) {
	for i := range t {
		out[i] = t[i] - before[i]
	}
	return out
}

func (t *tally) add(u *tally) {
	for i := range t {
		t[i] += u[i]
	}
}

func (t *tally) count() (n int) {
	for _, c := range t {
		n += int(c)
	}
	return n
}

// slowest is how long the hundredth part that took longest took at least; of fewer
// than a hundred, the longest.
func (t *tally) slowest() time.Duration {
	beyond := t.count() / 100
	for i := slots - 1; i > 0; i-- {
		if n := int(t[i]); n > beyond {
			return within(i)
		} else {
			beyond -= n
		}
	}
	return within(0)
}
