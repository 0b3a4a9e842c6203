package peer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
)

func frames() []frame {
	return []frame{
		{what: question, kind: Replica, id: 1, body: []byte("hello")},
		{what: beat},
		{what: answer, kind: Copy, id: 1<<40 + 7, body: bytes.Repeat([]byte("x"), readBuffer+1)},
		{what: refusal, kind: 255, id: 2, body: []byte("no")},
		{what: answer, kind: Copy, id: 3, body: bytes.Repeat([]byte("large"), LargeBody)},
		{what: answer, id: 4},
	}
}

func wireOf(list []frame) (b []byte) {
	for _, f := range list {
		if p := pack(f.body); p.b != nil {
			b = append(b, p.seal(f)...)
		} else {
			b = appendFrame(b, f)
		}
	}
	return b
}

// However the bytes come, the frames are the same.
func TestFramesComeBack(t *testing.T) {
	want := frames()
	b := wireOf(want)
	for name, src := range map[string]io.Reader{
		"at once": bytes.NewReader(b), "in halves": iotest.HalfReader(bytes.NewReader(b)),
		"one by one": iotest.OneByteReader(bytes.NewReader(b)), "with the end": iotest.DataErrReader(bytes.NewReader(b)),
	} {
		r := frameReader{src: src}
		for i, w := range want {
			f, err := r.next()
			if err != nil || f.what != w.what || f.kind != w.kind || f.id != w.id || !bytes.Equal(f.body, w.body) {
				t.Fatalf("%s: frame %d came as %v %v %v %d: %v", name, i, f.what, f.kind, f.id, len(f.body), err)
			}
		}
		if _, err := r.next(); !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: at the end: %v", name, err)
		}
		if len(r.buf) > readBuffer {
			t.Errorf("%s: the buffer is still %d bytes long", name, len(r.buf))
		}
	}
}

// No single damaged bit passes, and no frame that is cut off.
func TestDamageIsFound(t *testing.T) {
	whole := wireOf(frames()[:1])
	for bit := range len(whole) * 8 {
		b := bytes.Clone(whole)
		b[bit/8] ^= 1 << (bit % 8)
		r := frameReader{src: bytes.NewReader(b)}
		if f, err := r.next(); err == nil {
			t.Errorf("bit %d: passed as %+v", bit, f)
		}
	}
	for n := 1; n < len(whole); n++ {
		r := frameReader{src: bytes.NewReader(whole[:n])}
		if _, err := r.next(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes of a frame: %v", n, err)
		}
	}
}

// A length that is only announced sets no memory aside.
func TestMemoryIsForBytesThatCame(t *testing.T) {
	b := binary.LittleEndian.AppendUint32(nil, MaxBody+frameTail)
	b = append(b, make([]byte, 300<<10)...)
	r := frameReader{src: bytes.NewReader(b)}
	if _, err := r.next(); !errors.Is(err, io.ErrUnexpectedEOF) || len(r.buf) > 1<<20 {
		t.Errorf("%v with %d bytes of memory", err, len(r.buf))
	}
	binary.LittleEndian.PutUint32(b, MaxBody+frameTail+1)
	r = frameReader{src: bytes.NewReader(b)}
	if _, err := r.next(); !errors.Is(err, errLength) {
		t.Error(err)
	}
}

func TestTheHighestCommonVersion(t *testing.T) {
	for _, c := range []struct{ aOld, aNew, bOld, bNew, want uint8 }{
		{1, 1, 1, 1, 1}, {1, 3, 2, 5, 3}, {2, 5, 1, 3, 3}, {1, 2, 3, 4, 0}, {3, 4, 1, 2, 0}, {1, 9, 4, 4, 4},
	} {
		a, b := &hello{oldest: c.aOld, newest: c.aNew}, &hello{oldest: c.bOld, newest: c.bNew}
		if got := version(a, b); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}

func TestOneRequestAlwaysHasRoom(t *testing.T) {
	for _, c := range []struct {
		open, openBytes, waiting, more int
		want                           bool
	}{
		{0, 0, 0, MaxBody, true}, {1, 1, 0, MaxBody, false}, {1, 1, 0, MaxBody - 1, true},
		{maxServed - 1, 0, 0, 0, true}, {maxServed, 0, 0, 0, false},
		{0, 0, maxGather, 0, true}, {0, 0, maxGather + 1, 0, false},
	} {
		i := &inbound{open: c.open, openBytes: c.openBytes}
		i.waiting = c.waiting
		if got := i.hasRoom(c.more); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// FuzzFrames feeds the reader with anything, in pieces of any length.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{}, uint64(1))
	f.Add(wireOf(frames()[:2]), uint64(2))
	f.Add(wireOf(append(frames()[3:4], frames()[5])), uint64(3))
	f.Add([]byte("\xff\xff\xff\xff garbage"), uint64(4))
	f.Add(binary.LittleEndian.AppendUint32(nil, MaxBody), uint64(5))
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) {
		r := frameReader{src: &pieces{b: b, r: rand.New(rand.NewPCG(seed, 0))}}
		var again []byte
		for {
			f, err := r.next()
			if err != nil {
				break
			}
			again = appendFrame(again, f)
		}
		if !bytes.HasPrefix(b, again) {
			t.Error("the frames that were read are not those that came")
		}
		if len(r.buf) > 2*max(len(b), readBuffer) {
			t.Errorf("%d bytes of memory for %d bytes", len(r.buf), len(b))
		}
	})
}

type pieces struct {
	b []byte
	r *rand.Rand
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.b) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.b[:1+p.r.IntN(len(p.b))])
	p.b = p.b[n:]
	return n, nil
}

// What one call costs here: two frames made, two checked.
func BenchmarkFrames(b *testing.B) {
	body, buf := make([]byte, 200), []byte(nil)
	for b.Loop() {
		for range 2 {
			buf = appendFrame(buf[:0], frame{what: question, body: body})
			if _, _, ok, err := parseFrame(buf); !ok || err != nil {
				b.Fatal(err)
			}
		}
	}
}
