package bench

import (
	"math"
	"math/bits"
	"math/rand/v2"
)

// zipfExponent is that of the usual benchmarks of key-value stores.
const zipfExponent = 0.99

// picker chooses, for one connection, what comes next. The same seed and
// connection give the same sequence.
type picker struct {
	rng     rand.PCG
	keys    uint64
	reads   uint64 // a random number below it means a get
	all     bool   // only gets: the bound above cannot say so
	min     int
	sizes   uint64 // how many sizes there are
	zipf    *zipf
	next    uint64 // of a sequential distribution
	inOrder bool
}

func newPicker(l *Load, z *zipf, conn int) *picker {
	p := &picker{
		keys:    uint64(l.Keys),
		all:     l.Reads >= 100,
		min:     l.MinValue,
		sizes:   uint64(l.MaxValue-l.MinValue) + 1,
		zipf:    z,
		next:    uint64(conn) * uint64(l.Keys) / uint64(l.Connections),
		inOrder: l.Distribution == Sequential,
	}
	if !p.all {
		p.reads = uint64(l.Reads / 100 * (1 << 63) * 2)
	}
	p.rng.Seed(l.Seed, scramble(uint64(conn)))
	return p
}

func (p *picker) kind() kind {
	if p.all || p.reads > 0 && p.rng.Uint64() < p.reads {
		return get
	}
	return set
}

func (p *picker) key() uint64 {
	switch {
	case p.inOrder:
		id := p.next
		if p.next++; p.next == p.keys {
			p.next = 0
		}
		return id
	case p.zipf != nil:
		return p.zipf.pick(&p.rng)
	}
	return p.below(p.keys)
}

func (p *picker) size() int {
	if p.sizes == 1 {
		return p.min
	}
	return p.min + int(p.below(p.sizes))
}

// below is a random number less than n. Its bias is n/2^64.
func (p *picker) below(n uint64) uint64 {
	high, _ := bits.Mul64(p.rng.Uint64(), n)
	return high
}

// zipf picks the key of rank r with a probability in proportion to
// (r+1)^-zipfExponent, by rejection-inversion (Hörmann and Derflinger 1996):
// constant time and no table, however many keys. It is read-only.
type zipf struct {
	keys          uint64
	stride        uint64 // from one rank's key to the next one's
	first, spread float64
	sure          float64
}

func newZipf(keys int) *zipf {
	z := &zipf{keys: uint64(keys), stride: coprime(uint64(keys))}
	z.first = zipfArea(1.5) - 1
	z.spread = zipfArea(float64(keys)+0.5) - z.first
	z.sure = 2 - zipfAreaInverse(zipfArea(2.5)-zipfDensity(2))
	return z
}

// pick is a key. Popular keys are strewn over all of them, as names are in life.
func (z *zipf) pick(rng *rand.PCG) uint64 {
	high, low := bits.Mul64(z.rank(rng)-1, z.stride)
	_, id := bits.Div64(high, low, z.keys)
	return id
}

// rank is a number from 1 to the number of keys.
func (z *zipf) rank(rng *rand.PCG) uint64 {
	for {
		u := z.first + float64(rng.Uint64()>>11)/(1<<53)*z.spread
		x := zipfAreaInverse(u)
		k := min(max(math.Floor(x+0.5), 1), float64(z.keys))
		if k-x <= z.sure || u >= zipfArea(k+0.5)-zipfDensity(k) {
			return uint64(k)
		}
	}
}

func zipfDensity(x float64) float64 { return math.Exp(-zipfExponent * math.Log(x)) }
func zipfArea(x float64) float64 {
	return math.Expm1((1-zipfExponent)*math.Log(x)) / (1 - zipfExponent)
}
func zipfAreaInverse(u float64) float64 {
	return math.Exp(math.Log1p((1-zipfExponent)*u) / (1 - zipfExponent))
}

// coprime is a number near the golden section of n that shares no divisor with it.
func coprime(n uint64) uint64 {
	s := uint64(float64(n)*0.618) | 1
	for gcd(s, n) != 1 {
		s += 2
	}
	return s
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
