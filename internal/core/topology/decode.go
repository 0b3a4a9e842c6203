package topology

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"unkai"
	"unkai/internal/core/ring"
)

// Errors of encoded topologies.
var (
	// ErrBase says that a delta is not of this topology.
	ErrBase = errors.New("it is the difference from another topology")

	errSpoiled = errors.New("topology: its encoding is damaged")
	errSum     = errors.New("topology: its checksum does not fit")
)

// How long everything but the sets may be, and a whole topology as text.
const (
	maxHead = 4 << 20
	maxText = 16 << 20
)

// Decode is the topology, sealed, of which b is the whole.
func Decode(b []byte) (*Topology, error) {
	if len(b) == 0 {
		return nil, errSpoiled
	}
	switch b[0] {
	case formText:
		t := new(Topology)
		if len(b) > maxText {
			return nil, errSpoiled
		}
		if err := json.Unmarshal(b, t); err != nil {
			return nil, fmt.Errorf("topology: %w", err)
		}
		return t, t.Seal()
	case formWhole:
	case formDelta:
		return nil, ErrBase
	default:
		return nil, fmt.Errorf("topology: its encoding %d is not known here; it was written by another version", b[0])
	}
	r := reader{b: b[1:]}
	sum := r.sum()
	t, head := r.head()
	// Each bucket takes a byte at least: what is allocated is bounded by what came.
	if r.err == nil && (!ring.ValidBuckets(t.Buckets) || len(r.b) < t.Buckets) {
		r.fail()
	}
	if r.err != nil {
		return nil, r.err
	}
	t.Sets = make([]Set, t.Buckets)
	for b := 0; b < t.Buckets && r.err == nil; b++ {
		r.set(t, b)
	}
	return r.end(t, head, sum, nil, nil)
}

// Base is the epoch and sum of the topology that a delta is the difference from.
func Base(delta []byte) (epoch unkai.Epoch, sum uint64, err error) {
	r := reader{b: delta}
	epoch, sum = r.base()
	return epoch, sum, r.err
}

// Follow is the sealed topology that a delta makes of a sealed one. An error that is
// ErrBase says that it was made of another.
func (t *Topology) Follow(delta []byte) (*Topology, error) {
	r := reader{b: delta}
	epoch, base := r.base()
	if r.err != nil {
		return nil, r.err
	}
	if epoch != t.Epoch || base != t.Sum() {
		return nil, ErrBase
	}
	sum := r.sum()
	next, head := r.head()
	count := r.number(uint64(len(r.b)) / 2) // each takes two bytes at least
	if r.err == nil && (next.Epoch <= t.Epoch || next.Cluster != t.Cluster || next.Buckets != t.Buckets || next.Seats < t.Seats) {
		r.fail()
	}
	if r.err != nil {
		return nil, r.err
	}
	next.Sets = slices.Clone(t.Sets)
	changed := make([]unkai.Bucket, 0, min(count, uint64(len(t.Sets))))
	at := uint64(0)
	for i := range count {
		gap := r.number(uint64(len(t.Sets)))
		at += gap
		if r.err != nil || at >= uint64(len(t.Sets)) || i > 0 && gap == 0 {
			return nil, errSpoiled
		}
		r.set(next, int(at))
		changed = append(changed, unkai.Bucket(at))
	}
	return r.end(next, head, sum, t.seal, changed)
}

// reader takes an encoding apart. After its first error it gives zeros.
type reader struct {
	b    []byte
	came []unkai.Bucket // of the sets that have followed
	err  error
}

func (r *reader) fail() {
	if r.err == nil {
		r.err = errSpoiled
	}
	r.b = nil
}

// number is one that is not larger than most.
func (r *reader) number(most uint64) uint64 {
	n, used := binary.Uvarint(r.b)
	if used <= 0 || n > most {
		r.fail()
		return 0
	}
	r.b = r.b[used:]
	return n
}

func (r *reader) sum() uint64 {
	if len(r.b) < 8 {
		r.fail()
		return 0
	}
	n := binary.LittleEndian.Uint64(r.b)
	r.b = r.b[8:]
	return n
}

func (r *reader) base() (unkai.Epoch, uint64) {
	if len(r.b) == 0 || r.b[0] != formDelta {
		r.fail()
		return 0, 0
	}
	r.b = r.b[1:]
	return unkai.Epoch(r.number(math.MaxUint32)), r.sum()
}

func (r *reader) head() (*Topology, []byte) {
	n := r.number(min(uint64(len(r.b)), maxHead))
	t := new(Topology)
	if r.err != nil || n > uint64(len(r.b)) {
		r.fail()
		return t, nil
	}
	head := r.b[:n:n]
	r.b = r.b[n:]
	type plain Topology
	if err := json.Unmarshal(head, &struct {
		*plain
		Sets *struct{} `json:"sets,omitempty"`
	}{plain: (*plain)(t)}); err != nil {
		r.err = fmt.Errorf("topology: %w", err)
	}
	t.Sets = nil
	return t, slices.Clone(head)
}

// set reads a bucket's.
func (r *reader) set(t *Topology, b int) {
	s := &t.Sets[b]
	if n := r.number(uint64(len(r.came))); n > 0 {
		*s = t.Sets[r.came[n-1]]
		return
	}
	*s = Set{Epoch: t.Epoch - unkai.Epoch(r.number(uint64(t.Epoch)))}
	for _, list := range s.lists() {
		*list = r.seats()
	}
	r.came = append(r.came, unkai.Bucket(b))
}

func (r *reader) seats() []unkai.Seat {
	n := r.number(uint64(len(r.b))) // each takes a byte at least
	if n == 0 || r.err != nil {
		return nil
	}
	out := make([]unkai.Seat, n)
	for i := range out {
		out[i] = unkai.Seat(r.number(math.MaxUint16))
	}
	return out
}

// end is what was read, sealed, if nothing is left over and the sum fits.
func (r *reader) end(t *Topology, head []byte, sum uint64, was *seal, changed []unkai.Bucket) (*Topology, error) {
	if len(r.b) > 0 {
		r.fail()
	}
	if r.err != nil {
		return nil, r.err
	}
	if err := t.sealAs(head, was, changed); err != nil {
		return nil, err
	}
	if t.Sum() != sum {
		return nil, errSum
	}
	return t, nil
}
