package bench

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
)

// patternWords is a power of two. The values of two keys never share eight
// bytes in a row, and one value repeats itself after 128 KiB only, so that a
// server which compresses gains nothing.
const patternWords = 16 << 10

// values makes what keys hold: the value of a key is the beginning, of whatever
// length, of the one endless stream that seed and key determine. So every value
// that is read shows whether it belongs to its key.
type values struct {
	seed    uint64
	pattern []uint64
}

func newValues(seed uint64) *values {
	v := &values{seed: seed, pattern: make([]uint64, patternWords)}
	rng := rand.NewPCG(seed, 0x76616c756573)
	for i := range v.pattern {
		v.pattern[i] = rng.Uint64()
	}
	return v
}

// word is eight bytes of the stream of the key with that mark.
func (v *values) word(mark uint64, i int) uint64 { return v.pattern[i&(patternWords-1)] ^ mark }

// mark tells keys and seeds apart.
func (v *values) mark(id uint64) uint64 { return scramble(id ^ scramble(v.seed)) }

// append appends the first size bytes of the value of key id.
func (v *values) append(dst []byte, id uint64, size int) []byte {
	mark := v.mark(id)
	dst = slices.Grow(dst, size)
	at := len(dst)
	dst = dst[:at+size]
	out, i := dst[at:], 0
	for ; len(out) >= 8; out = out[8:] {
		binary.LittleEndian.PutUint64(out, v.word(mark, i))
		i++
	}
	if len(out) > 0 {
		var last [8]byte
		binary.LittleEndian.PutUint64(last[:], v.word(mark, i))
		copy(out, last[:])
	}
	return dst
}

// matches reports whether b is the part of the value of key id that begins at
// byte at.
func (v *values) matches(id uint64, at int, b []byte) bool {
	mark := v.mark(id)
	for len(b) > 0 {
		if at%8 == 0 && len(b) >= 8 {
			if binary.LittleEndian.Uint64(b) != v.word(mark, at/8) {
				return false
			}
			at, b = at+8, b[8:]
			continue
		}
		if b[0] != byte(v.word(mark, at/8)>>(at%8*8)) {
			return false
		}
		at, b = at+1, b[1:]
	}
	return true
}

// scramble spreads neighbouring numbers over all 64 bits (the finaliser of
// splitmix64).
func scramble(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
