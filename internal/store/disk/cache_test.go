package disk

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"unkai"
)

// TestCacheModel: a cache may forget, and must not be wrong.
func TestCacheModel(t *testing.T) {
	for seed := range 8 {
		rng := rand.New(rand.NewPCG(uint64(seed), 0))
		c, err := newCache(8<<10 + rng.IntN(32<<10))
		if err != nil {
			t.Fatal(err)
		}
		type want struct {
			value  []byte
			ballot unkai.Ballot
		}
		model := map[int]want{}
		gen := uint32(1)
		hits := 0
		for step := range 40_000 {
			i := rng.IntN(300)
			key := fmt.Appendf(nil, "key-%d", i)
			// Few hashes, so that they collide.
			n := name{mix(0, uint64(i%97)), gen, 0}
			switch op := rng.IntN(20); {
			case op < 8:
				w := want{bytes.Repeat([]byte{byte(step)}, rng.IntN(300)), unkai.Ballot(step)}
				c.put(n, key, w.value, about{ballot: w.ballot, valueLen: len(w.value), accessed: uint32(step)})
				model[i] = w
			case op < 9:
				if slot := c.find(n, key); slot >= 0 {
					c.remove(slot)
				}
				delete(model, i)
			case op < 10 && rng.IntN(200) == 0:
				gen++ // the bucket is dropped
				clear(model)
			default:
				slot := c.find(n, key)
				if slot < 0 {
					continue
				}
				hits++
				e := c.at(slot)
				e.mark(markRecent, true)
				w, ok := model[i]
				if !ok {
					t.Fatalf("seed %d, step %d: %s was removed and is there", seed, step, key)
				}
				if !bytes.Equal(e.record(), w.value) || e.ballot() != w.ballot || !bytes.Equal(e.key(), key) {
					t.Fatalf("seed %d, step %d: %s is another", seed, step, key)
				}
			}
			if c.used > len(c.ring) || c.live > len(c.index) {
				t.Fatalf("seed %d, step %d: %d bytes of %d, %d entries in %d slots", seed, step, c.used, len(c.ring), c.live, len(c.index))
			}
		}
		if hits == 0 {
			t.Error("nothing was ever found")
		}
		if err := c.close(); err != nil {
			t.Error(err)
		}
	}
}

// TestCacheSecondChance: what is read stays while others pass through.
func TestCacheSecondChance(t *testing.T) {
	c, err := newCache(64 << 10)
	if err != nil {
		t.Fatal(err)
	}
	hot := name{mix(0, 1<<40), 0, 0}
	c.put(hot, []byte("hot"), make([]byte, 100), about{})
	for i := range 10_000 {
		c.put(name{mix(0, uint64(i)), 0, 0}, fmt.Append(nil, i), make([]byte, 100), about{})
		slot := c.find(hot, []byte("hot"))
		if slot < 0 {
			t.Fatalf("gone after %d others", i)
		}
		c.at(slot).mark(markRecent, true)
	}
	if err := c.close(); err != nil {
		t.Error(err)
	}
}
