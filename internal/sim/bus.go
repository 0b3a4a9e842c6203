package sim

import (
	"bytes"
	"cmp"
	"container/heap"
	"hash/fnv"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing/synctest"
	"time"

	"unkai"
	"unkai/internal/peer"
)

// bus delivers everything that happens between nodes, one thing at a time: it
// waits until all is still, puts what was sent meanwhile in an order that does
// not depend on who came first, lets the seed decide when each arrives, and lets
// the next thing happen. So one seed is one run.
type bus struct {
	mu    sync.Mutex
	fresh []*event      // sent since all was still
	wake  chan struct{} // there are some

	// The rest belongs to the goroutine in run.
	rng   *rand.Rand
	queue queue
	count uint64 // events so far
	done  uint64 // those of them that have happened
	trace uint64 // a hash over all of them
	log   func(e *event)
	watch func(e *event) // is shown each, when all is still after it
}

// event is something that happens at a moment.
type event struct {
	at   time.Time
	seq  uint64 // in the order in which they were given their moment
	name string
	from unkai.NodeID
	to   unkai.NodeID
	kind peer.Kind
	body []byte
	of   uint64 // the question that an answer is to
	do   func()
	plan func(e *event) // of a fresh one: gives it its moment, or drops it
}

// collectEvery is how many events happen between two runs of the garbage
// collector. Each leaves some kilobytes behind.
const collectEvery = 1 << 13

func newBus(seed uint64) *bus {
	return &bus{wake: make(chan struct{}, 1), rng: rand.New(rand.NewPCG(seed, 0xb05))}
}

// send hands over an event from any goroutine. plan is run when all is still.
func (b *bus) send(e *event) {
	b.mu.Lock()
	b.fresh = append(b.fresh, e)
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// after has something happen later; only for the goroutine in run.
func (b *bus) after(d time.Duration, e *event) {
	b.count++
	e.at, e.seq = time.Now().Add(d), b.count
	heap.Push(&b.queue, e)
}

// collect plans what was sent.
func (b *bus) collect() {
	b.mu.Lock()
	fresh := b.fresh
	b.fresh = nil
	b.mu.Unlock()
	slices.SortStableFunc(fresh, func(x, y *event) int {
		return cmp.Or(cmp.Compare(x.name, y.name), cmp.Compare(x.from, y.from), cmp.Compare(x.to, y.to), cmp.Compare(x.kind, y.kind), bytes.Compare(x.body, y.body), cmp.Compare(x.of, y.of))
	})
	for _, e := range fresh {
		e.plan(e)
	}
}

// run lets things happen until stop is closed.
func (b *bus) run(stop <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var last *event
	for {
		synctest.Wait()
		b.collect()
		if last != nil && b.watch != nil {
			b.watch(last)
		}
		last = nil
		wait := time.Hour
		if len(b.queue) > 0 {
			wait = time.Until(b.queue[0].at)
		}
		if wait > 0 {
			timer.Reset(wait)
			select {
			case <-stop:
				return
			case <-timer.C:
			case <-b.wake:
			}
			continue
		}
		if b.done++; b.done%collectEvery == 0 {
			runtime.GC()
		}
		e := heap.Pop(&b.queue).(*event)
		b.note(e)
		e.do()
		last = e
	}
}

// note adds an event to the trace.
func (b *bus) note(e *event) {
	h := fnv.New64a()
	var head [40]byte
	put := func(i int, v uint64) {
		for k := range 8 {
			head[i*8+k] = byte(v >> (8 * k))
		}
	}
	put(0, b.trace)
	put(1, uint64(time.Now().UnixNano()))
	put(2, uint64(e.from))
	put(3, uint64(e.to))
	put(4, uint64(e.kind))
	for _, part := range [][]byte{head[:], []byte(e.name), e.body} {
		h.Write(part) //nolint:errcheck // it cannot fail
	}
	b.trace = h.Sum64()
	if b.log != nil {
		b.log(e)
	}
}

// queue is a heap of events by moment.
type queue []*event

func (q queue) Len() int { return len(q) }

func (q queue) Less(i, j int) bool {
	if !q[i].at.Equal(q[j].at) {
		return q[i].at.Before(q[j].at)
	}
	return q[i].seq < q[j].seq
}

func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

func (q *queue) Push(x any) { *q = append(*q, x.(*event)) }

func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return e
}
