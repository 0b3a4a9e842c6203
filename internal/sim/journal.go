package sim

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"time"

	"unkai"
	"unkai/internal/store"
)

// change is one step of the journal: what it does to a bucket.
type change struct {
	bucket unkai.Bucket
	about  about
	key    string // of ofKey
	do     func(*Disk)
	told   *teller
	slow   bool // it may become durable after what was applied later
}

// about is what of a bucket a change is about, and so before and after what else it
// comes.
type about byte

const (
	ofKey   about = iota // comes before and after what is of the same key
	ofFloor              // only raises it: nothing but ofAll
	ofAll                // of all in the bucket
	ofNone               // changes nothing, and comes after everything before it
)

// teller tells one writer, when all changes of a write are durable.
type teller struct {
	w     *store.Write
	open  int
	order []byte // what it was about: the write is its owner's
}

// newTeller is one for so many changes.
func newTeller(w *store.Write, key []byte, promise unkai.Ballot, changes int) *teller {
	return &teller{w, changes, binary.BigEndian.AppendUint64(bytes.Clone(key), uint64(promise))}
}

func tell(w *store.Write, err error) {
	w.Err = err
	w.Done.WriteDone(w)
}

// Crash ends the engine as a loss of power does: of what was not durable the disk has a
// beginning, which may be nothing; or of each key a beginning of its own, as a disk has
// that keeps what it is given in several places.
func (e *Engine) Crash() {
	e.mu.Lock()
	if e.dead {
		e.mu.Unlock()
		return
	}
	e.dead = true
	lost := e.journal
	e.journal = nil
	n, apart := e.rng.IntN(len(lost)+1), e.rng.IntN(2) == 0
	if !e.disk.Lies {
		var gone waiting
		for i, c := range lost {
			if gone.before(&c) || !apart && i >= n || apart && e.rng.IntN(2) == 0 {
				gone.add(&c)
				continue
			}
			c.do(e.disk)
		}
	}
	e.mu.Unlock()
	e.nudge()
	for _, c := range lost {
		if c.told.w != nil {
			if c.slow {
				e.cut()
			}
			tell(c.told.w, fmt.Errorf("power was lost: %w", store.ErrBroken))
			c.told.w = nil
		}
	}
}

// oneOf is true in one of n cases. It draws by what it is about, so that it does not matter
// what else is drawn at the same moment, and in which order.
func (e *Engine) oneOf(n uint64, about ...any) bool {
	h := fnv.New64a()
	_, _ = fmt.Fprintln(h, append(about, e.seed)...) // it cannot fail
	return (h.Sum64()>>32)%n == 0
}

func (e *Engine) nudge() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// sync makes what was applied durable, a group at a time.
func (e *Engine) sync() {
	defer close(e.ended)
	for {
		time.Sleep(time.Nanosecond) // what is written at the same moment is in the same group
		e.mu.Lock()
		n, dead, closing := len(e.journal), e.dead, e.closing
		took := time.Duration(50_000 + e.rng.IntN(1_000_000))
		if e.rng.IntN(200) == 0 {
			took = time.Duration(e.rng.IntN(100_000_000))
		}
		e.mu.Unlock()
		switch {
		case dead || closing && n == 0:
			return
		case n == 0:
			<-e.wake
			continue
		}
		time.Sleep(took)
		e.mu.Lock()
		if e.dead {
			e.mu.Unlock()
			return
		}
		told := e.land(n)
		e.stats.Syncs++
		e.mu.Unlock()
		for _, t := range told {
			e.tell(t.order, func() { tell(t.w, nil) })
		}
	}
}

// land makes the first n changes durable, but for some that are slow, and for what must
// come after them. It gives those who are to be told. The lock is held.
func (e *Engine) land(n int) (told []*teller) {
	var late waiting
	rest := make([]change, 0, len(e.journal)-n)
	for _, c := range e.journal[:n] {
		if c.slow && e.oneOf(4, "late", c.key, e.stats.Syncs) || late.before(&c) {
			late.add(&c)
			rest = append(rest, c)
			continue
		}
		if !e.disk.Lies || e.rng.IntN(4) > 0 {
			c.do(e.disk)
		}
		if c.about == ofKey {
			e.landed(name(c.bucket, c.key))
		}
		if c.told.open--; c.told.open == 0 {
			told = append(told, c.told)
		}
	}
	e.journal = append(rest, e.journal[n:]...)
	return told
}

// landed forgets that one change of a key waits.
func (e *Engine) landed(name string) {
	if e.unsynced[name]--; e.unsynced[name] == 0 {
		delete(e.unsynced, name)
	}
}

// waiting are changes that have not become durable, or never will.
type waiting struct {
	any   bool
	of    map[unkai.Bucket]bool
	whole map[unkai.Bucket]bool
	keys  map[string]bool
}

func (w *waiting) add(c *change) {
	if !w.any {
		*w = waiting{true, map[unkai.Bucket]bool{}, map[unkai.Bucket]bool{}, map[string]bool{}}
	}
	switch c.about {
	case ofKey:
		w.of[c.bucket], w.keys[name(c.bucket, c.key)] = true, true
	case ofFloor:
		w.of[c.bucket] = true
	case ofAll:
		w.of[c.bucket], w.whole[c.bucket] = true, true
	}
}

// before reports whether one of them comes before c.
func (w *waiting) before(c *change) bool {
	switch c.about {
	case ofKey:
		return w.whole[c.bucket] || w.keys[name(c.bucket, c.key)]
	case ofFloor:
		return w.whole[c.bucket]
	case ofAll:
		return w.of[c.bucket]
	default:
		return w.any
	}
}

// apply does a change, now to what is seen and later to the disk. The lock is held.
func (e *Engine) apply(c change) {
	c.do(&e.now)
	if c.about == ofKey {
		e.unsynced[name(c.bucket, c.key)]++
	}
	e.journal = append(e.journal, c)
	e.nudge()
}

// Barrier implements store.Engine.
func (e *Engine) Barrier(w *store.Write) {
	e.mu.Lock()
	err := e.broken()
	if err == nil && len(e.journal) > 0 {
		e.apply(change{about: ofNone, do: func(*Disk) {}, told: newTeller(w, nil, 0, 1)})
		e.mu.Unlock()
		return
	}
	e.mu.Unlock()
	tell(w, err)
}

// durable does a change of a whole bucket and waits until it is durable.
func (e *Engine) durable(check func(*bucket) error, b unkai.Bucket, do func(*Disk)) error {
	return e.await(check, change{bucket: b, about: ofAll, do: do})
}

// await does a change, if nothing is to be said against it, and waits until it is durable.
func (e *Engine) await(check func(*bucket) error, c change) error {
	done := make(written, 1)
	w := &store.Write{Done: done}
	e.mu.Lock()
	err := e.broken()
	if err == nil {
		err = check(e.now.bucket(c.bucket))
	}
	if err != nil {
		e.mu.Unlock()
		return err
	}
	c.told = newTeller(w, nil, 0, 1)
	e.apply(c)
	e.mu.Unlock()
	<-done
	return w.Err
}
