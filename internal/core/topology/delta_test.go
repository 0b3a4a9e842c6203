package topology

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"reflect"
	"runtime"
	"slices"
	"testing"

	"unkai"
)

// travels checks that what has become of a topology arrives elsewhere as it is: whole, and as
// the difference from the one before and from an older one. What was made by parts is what
// is made at once.
func (h *history) travels(before *Topology) {
	if !h.some(3) { // it takes a while
		return
	}
	top := &h.top
	again := *top
	if again.was = nil; again.Seal() != nil || !reflect.DeepEqual(again.routes, top.routes) || again.Sum() != top.Sum() {
		h.Fatalf("epoch %d is sealed otherwise by parts than at once", top.Epoch)
	}
	whole := top.Encode()
	got, err := Decode(whole)
	if err != nil {
		h.Fatal(err)
	}
	h.same(got, whole)
	if h.far == nil || h.some(2) {
		defer func() { h.far = got }()
	}
	for _, base := range []*Topology{before, h.far} {
		if base == nil || base.seal == nil || base.Epoch >= top.Epoch {
			continue
		}
		delta := top.Delta(base)
		if got, err = base.Follow(delta); err != nil {
			h.Fatalf("from epoch %d to %d: %v", base.Epoch, top.Epoch, err)
		}
		h.same(got, whole)
		if epoch, sum, err := Base(delta); err != nil || epoch != base.Epoch || sum != base.Sum() {
			h.Fatalf("its base is %d, %x, %v", epoch, sum, err)
		}
		if _, err := got.Follow(delta); !errors.Is(err, ErrBase) {
			h.Fatalf("it was followed twice: %v", err)
		}
	}
}

// same checks that a topology that has arrived says what the present one does.
func (h *history) same(got *Topology, whole []byte) {
	if !bytes.Equal(got.Encode(), whole) || got.Sum() != h.top.Sum() {
		h.Fatalf("epoch %d is encoded otherwise when it has arrived", h.top.Epoch)
	}
	if !reflect.DeepEqual(got.routes, h.top.routes) {
		h.Fatalf("epoch %d has other routes when it has arrived", h.top.Epoch)
	}
	a, err := json.Marshal(got)
	b, err2 := json.Marshal(&h.top)
	if err != nil || err2 != nil || !bytes.Equal(a, b) {
		h.Fatalf("epoch %d is\n%s when it has arrived, and was\n%s", h.top.Epoch, a, b)
	}
}

// twoTurns is a topology of 16 buckets on its way, and the next one.
func twoTurns(t testing.TB) (was, now *Topology) {
	a := crowded(t, 4, 16)
	b := turn(&a)
	if err := b.Seal(); err != nil {
		t.Fatal(err)
	}
	return &a, &b
}

// A delta is never applied to what it was not made of, though the epoch be the same.
func TestADeltaIsOfOneTopology(t *testing.T) {
	was, now := twoTurns(t)
	delta := now.Delta(was)
	other := *was
	other.was, other.Sets = nil, slices.Clone(was.Sets)
	last := &other.Sets[15]
	*last = Set{Epoch: last.Epoch, Replicas: []unkai.Seat{4, 1, 2}}
	if err := other.Seal(); err != nil {
		t.Fatal(err)
	}
	weighed := *was
	weighed.was, weighed.Nodes = nil, slices.Clone(was.Nodes)
	weighed.Nodes[0].Weight = 7
	if err := weighed.Seal(); err != nil {
		t.Fatal(err)
	}
	later := now.Flush()
	if err := later.Seal(); err != nil {
		t.Fatal(err)
	}
	for what, base := range map[string]*Topology{"another set": &other, "another node": &weighed, "the result": now, "a later one": &later} {
		if got, err := base.Follow(delta); !errors.Is(err, ErrBase) {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
	if d := was.Delta(now); d != nil {
		t.Error("a delta leads back")
	}
	foreign := New(2, 16, 3, 2, 2, Node{ID: 1, Weight: 1})
	wide := New(1, 32, 3, 2, 2, Node{ID: 1, Weight: 1})
	for _, base := range []*Topology{&foreign, &wide} {
		if err := base.Seal(); err != nil {
			t.Fatal(err)
		}
		if now.Delta(base) != nil {
			t.Error("a delta leads from one cluster to another")
		}
	}
	if _, err := Decode(delta); !errors.Is(err, ErrBase) {
		t.Errorf("taken for a whole: %v", err)
	}
}

// Whatever one bit is turned, or wherever it is cut off: nothing comes of it.
func TestADamagedEncodingIsRefused(t *testing.T) {
	was, now := twoTurns(t)
	check := func(what string, b []byte, read func([]byte) (*Topology, error)) {
		for i := range b {
			if got, err := read(b[:i]); err == nil {
				t.Fatalf("%s: %d bytes of %d are enough: %v", what, i, len(b), got)
			}
			for bit := range 8 {
				bad := slices.Clone(b)
				bad[i] ^= 1 << bit
				if _, err := read(bad); err == nil {
					t.Fatalf("%s: bit %d of byte %d was turned, and nobody sees it", what, bit, i)
				}
			}
		}
		if _, err := read(append(slices.Clone(b), 0)); err == nil {
			t.Errorf("%s: there is more of it", what)
		}
	}
	check("whole", now.Encode(), Decode)
	check("delta", now.Delta(was), was.Follow)
}

// What was written before there were other forms is read.
func TestTextIsRead(t *testing.T) {
	_, now := twoTurns(t)
	text, err := json.Marshal(now)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(append(text, '\n'))
	if err != nil || !bytes.Equal(got.Encode(), now.Encode()) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := Decode([]byte{9, 9, 9}); err == nil {
		t.Error("a form of which nobody knows")
	}
}

// What another version adds to the head stays in it, and is no reason to take a topology
// for another.
func TestALaterHeadIsKept(t *testing.T) {
	was, now := twoTurns(t)
	var more map[string]any
	if err := json.Unmarshal(now.seal.head, &more); err != nil {
		t.Fatal(err)
	}
	more["colour"] = "blue"
	later := *now
	head, err := json.Marshal(more)
	if err != nil {
		t.Fatal(err)
	}
	if err := later.sealAs(head, nil, nil); err != nil {
		t.Fatal(err)
	}
	got, err := was.Follow(later.Delta(was))
	if err != nil || got.Sum() != later.Sum() || !bytes.Equal(got.Encode(), later.Encode()) {
		t.Errorf("%v, %v", got, err)
	}
}

// A turn of one part of all buckets costs what that part does, and not what all do.
func TestADeltaIsShort(t *testing.T) {
	was := crowded(t, 4, 4096)
	now := turn(&was)
	if err := now.Seal(); err != nil {
		t.Fatal(err)
	}
	whole, delta := len(now.Encode()), len(now.Delta(&was))
	text, err := json.Marshal(&now)
	if err != nil {
		t.Fatal(err)
	}
	if delta*2 > whole || whole*10 > len(text) {
		t.Errorf("a delta of %d bytes, %d for the whole, %d as text", delta, whole, len(text))
	}
}

// What says that it is long, and is not, takes no memory.
func TestALengthIsNotBelieved(t *testing.T) {
	was, now := twoTurns(t)
	much := binary.AppendUvarint(nil, 1<<40)
	head := func(text string) []byte {
		return append(binary.AppendUvarint(make([]byte, 0, 64), uint64(len(text))), text...)
	}
	whole := func(parts ...[]byte) []byte {
		return slices.Concat(append([][]byte{{formWhole}, make([]byte, 8)}, parts...)...)
	}
	delta := func(parts ...[]byte) []byte {
		d := now.Delta(was)
		return slices.Concat(append([][]byte{d[:1+1+8], make([]byte, 8)}, parts...)...)
	}
	wide, like := head(`{"epoch":3,"buckets":65536}`), head(string(now.seal.head))
	for what, b := range map[string][]byte{
		"a head":            whole(much),
		"buckets":           whole(wide),
		"buckets, and some": whole(wide, make([]byte, 1000)),
		"replicas":          whole(head(`{"epoch":3,"buckets":16}`), []byte{0, 0}, much, make([]byte, 100)),
		"no seats":          whole(head(`{"epoch":3,"buckets":4096}`), []byte{0, 9}, make([]byte, 5000)),
		"differences":       delta(like, much),
		"more than buckets": delta(like, []byte{200, 1}, bytes.Repeat([]byte{0}, 500)),
		"a far bucket":      delta(like, []byte{1}, much),
		"seats":             delta(like, []byte{1, 0, 0, 0}, much),
		"text":              append([]byte(`{"epoch":1,"nodes":[`), bytes.Repeat([]byte("{},"), 3<<20)...),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Decode(b)
		_, err2 := was.Follow(b)
		runtime.ReadMemStats(&after)
		if err == nil || err2 == nil || after.TotalAlloc-before.TotalAlloc > 1<<20 {
			t.Errorf("%s: %v, %v, %d bytes", what, err, err2, after.TotalAlloc-before.TotalAlloc)
		}
	}
}

func FuzzDecode(f *testing.F) {
	was, now := twoTurns(f)
	f.Add(now.Encode())
	f.Add(now.Delta(was))
	f.Add([]byte(`{"epoch":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := Decode(b); err == nil {
			if again, err := Decode(got.Encode()); err != nil || again.Sum() != got.Sum() {
				t.Errorf("%v: %v", got, err)
			}
		}
		if got, err := was.Follow(b); err == nil && (got.Epoch <= was.Epoch || len(got.routes) != 16) {
			t.Errorf("%v", got)
		}
		_, _, _ = Base(b)
	})
}
