package antientropy

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/s2"
)

// noise does not compress.
func noise(n int) []byte {
	b, r := make([]byte, n), rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestPackingComesBack(t *testing.T) {
	var p packing
	for _, n := range []int{0, 100, packFrom, 100 << 10, maxBrought + 1<<20} {
		m := append(about(askBring, 7, 9), bytes.Repeat([]byte("records "), n/8)...)
		packed, pays := p.pack(nil, m)
		if pays != (len(m) >= packFrom) {
			t.Errorf("%d bytes: %v", len(m), pays)
		}
		if !pays {
			continue
		}
		if len(packed) > len(m)/2 || asked(packed[0]) != askBringPacked || !bytes.Equal(packed[1:aboutLen], m[1:aboutLen]) {
			t.Errorf("%d bytes became %d: % x", len(m), len(packed), packed[:aboutLen])
		}
		if body, err := unpack(nil, packed[aboutLen:]); err != nil || !bytes.Equal(body, m[aboutLen:]) {
			t.Errorf("%d bytes came back as %d, %v", len(m)-aboutLen, len(body), err)
		}
	}
}

// What does not compress is sent as it is, and only now and then looked at again.
func TestPackingHasToPay(t *testing.T) {
	var p packing
	m := append(about(askBring, 7, 9), noise(64<<10)...)
	same := append(about(askBring, 7, 9), make([]byte, 64<<10)...)
	for round := range 3 {
		if _, pays := p.pack(nil, m); pays {
			t.Fatal("noise is sent compressed")
		}
		for i := range packSkip {
			if _, pays := p.pack(nil, same); pays {
				t.Fatalf("round %d: tried again after %d messages", round, i)
			}
		}
	}
	for range 3 {
		if _, pays := p.pack(nil, same); !pays {
			t.Error("what compresses is sent as it is")
		}
	}
}

func TestUnpackBelievesNoLength(t *testing.T) {
	for _, b := range [][]byte{nil, {1}, {0xff, 0xff, 0xff, 0xff, 0x0f}, s2.Encode(nil, noise(100))[:50], {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}} {
		if out, err := unpack(nil, b); err == nil {
			t.Errorf("% x became %d bytes", b, len(out))
		}
	}
	if n := testing.AllocsPerRun(10, func() { _, _ = unpack(nil, []byte{0xff, 0xff, 0xff, 0x7f, 0}) }); n > 8 {
		t.Errorf("%v allocations for a lie", n)
	}
}

func BenchmarkPack(b *testing.B) {
	for name, m := range map[string][]byte{"noise": noise(maxBrought), "text": bytes.Repeat([]byte("some text that comes again, "), maxBrought/28)} {
		b.Run(name, func(b *testing.B) {
			var room []byte
			m := append(about(askBring, 7, 9), m...)
			b.SetBytes(int64(len(m)))
			for b.Loop() {
				room, _ = new(packing).pack(room, m)
			}
		})
	}
}
