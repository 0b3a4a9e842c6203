package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"unkai"
)

// keyring gives out keys. Each is used for a number of operations only, which
// the judge can oversee.
type keyring struct {
	cfg  Config
	mu   sync.Mutex
	used []int
	born []int // ages before this one are not looked at any more
}

const (
	perKey    = 4 // clients that work on one key
	keysEach  = 8 // keys that a client works on
	opsPerKey = 100
)

func (k *keyring) key(place int) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	for len(k.used) <= place {
		k.used = append(k.used, 0)
	}
	k.used[place]++
	return fmt.Appendf(nil, "k%d.%d", place, k.used[place]/opsPerKey)
}

// ahead are the keys that were used, and those that will be until each has had so many
// more ages.
func (k *keyring) ahead(more int) (keys [][]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for place := range (k.cfg.Clients + perKey - 1) / perKey * keysEach {
		ages := more
		if place < len(k.used) {
			ages += k.used[place] / opsPerKey
		}
		for age := range ages + 1 {
			keys = append(keys, fmt.Appendf(nil, "k%d.%d", place, age))
		}
	}
	return keys
}

// doubt ages a key: each operation in doubt doubles what the judge has to think of.
func (k *keyring) doubt(key []byte) {
	var place, age int
	if _, err := fmt.Sscanf(string(key), "k%d.%d", &place, &age); err != nil {
		panic(err) // keys are made here
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.used[place]/opsPerKey == age {
		k.used[place] += opsPerKey / 5
	}
}

// all are the keys that were used.
func (k *keyring) all() (keys [][]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for place, n := range k.used {
		for age := range n/opsPerKey + 1 {
			if place >= len(k.born) || age >= k.born[place] {
				keys = append(keys, fmt.Appendf(nil, "k%d.%d", place, age))
			}
		}
	}
	return keys
}

// renew has other keys used than those so far, which are not looked at any more.
func (k *keyring) renew() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.born = make([]int, len(k.used))
	for place := range k.used {
		k.born[place] = k.used[place]/opsPerKey + 1
		k.used[place] = k.born[place] * opsPerKey
	}
}

// serve has clients ask for so long.
func (w *World) serve(d time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	var clients sync.WaitGroup
	for i := range w.cfg.Clients {
		clients.Go(func() { w.client(ctx, i) })
	}
	clients.Wait()
}

var errCrashed = errors.New("the node crashed")

// client asks for one operation, or some together, after the other.
func (w *World) client(ctx context.Context, number int) {
	r := rand.New(rand.NewPCG(w.cfg.Seed, uint64(number)+1000))
	seen := map[string]uint64{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(r.ExpFloat64() * float64(w.cfg.Rest))):
		}
		h := w.hosts[r.IntN(len(w.hosts))]
		n, gone := h.running()
		if n == nil {
			continue
		}
		ops := make([]unkai.Op, 1+max(0, r.IntN(6)-3))
		ends := make([]func(unkai.Result), len(ops))
		for i := range ops {
			ops[i] = w.anyOp(r, w.keys.key(number/perKey*keysEach+r.IntN(keysEach)), seen)
			ends[i] = w.result.History.Begin(number, ops[i])
		}
		since := w.flushed()
		for i, res := range ask(n, gone, ops) {
			ends[i](res)
			w.count(number, h, &ops[i], res, since)
			if res.Status == unkai.OK && res.Item.CAS != 0 {
				clear(seen) // the latest only: older ones are of no use
				seen[string(ops[i].Key)] = res.Item.CAS
			}
		}
	}
}

// asker is what ask needs of a node.
type asked interface{ Do(b *unkai.Batch) }

// ask has a node do operations. If it crashes meanwhile they are in doubt.
func ask(n asked, gone chan struct{}, ops []unkai.Op) []unkai.Result {
	done := make(chan []unkai.Result, 1)
	go func() {
		b := &unkai.Batch{Ops: ops}
		for len(b.Results) < len(b.Ops) {
			n.Do(b)
		}
		done <- b.Results
	}()
	select {
	case res := <-done:
		return res
	case <-gone:
		res := make([]unkai.Result, len(ops))
		for i := range res {
			res[i] = unkai.Result{Status: unkai.InDoubt, Err: errCrashed}
		}
		return res
	}
}

// count notes an answer to what was asked since a flush.
func (w *World) count(client int, h *host, op *unkai.Op, res unkai.Result, since uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.flushes.returns(op.Key, res, since) {
		w.errs = append(w.errs, fmt.Errorf("host %d answers what of %s was flushed: %q, cas %v", h.number, op.Key, res.Item.Value, unkai.Ballot(res.Item.CAS)))
	}
	switch res.Status {
	case unkai.Failed:
		w.result.NotApplied++
	case unkai.InDoubt:
		w.result.InDoubt++
		w.keys.doubt(op.Key)
	default:
		w.result.Answered++
	}
	w.logf("client %d at host %d: %v %s cas %v=%v, expiry %d: %d %q %d %v %v", client, h.number, op.Kind, op.Key, op.Compare, unkai.Ballot(op.CAS), op.Expiry, res.Status, res.Item.Value, res.Number, unkai.Ballot(res.Item.CAS), res.Err)
}

// anyOp draws an operation.
func (w *World) anyOp(r *rand.Rand, key []byte, seen map[string]uint64) unkai.Op {
	op := unkai.Op{Key: key, Meta: true}
	op.Kind = []unkai.Kind{
		unkai.Get, unkai.Get, unkai.Get, unkai.Get, unkai.Set, unkai.Set, unkai.Set, unkai.Add, unkai.Replace,
		unkai.Append, unkai.Prepend, unkai.Increment, unkai.Increment, unkai.Decrement, unkai.Delete, unkai.Touch,
	}[r.IntN(16)]
	switch op.Kind {
	case unkai.Set, unkai.Add, unkai.Replace, unkai.Append, unkai.Prepend:
		op.Value = strconv.AppendInt(nil, r.Int64N(1000), 10)
	case unkai.Increment, unkai.Decrement:
		op.Delta = uint64(1 + r.IntN(5))
	}
	if r.IntN(10) == 0 { // it expires soon, by whichever clock
		op.Expiry = time.Now().UnixMilli() + 1 + r.Int64N(20_000)
	}
	if cas := seen[string(key)]; cas != 0 && r.IntN(2) == 0 && (op.Kind == unkai.Set || op.Kind == unkai.Delete) {
		op.Compare, op.CAS = true, cas
	}
	return op
}

// readAll reads every key at every node when nothing goes wrong any more: each
// must answer, and the history says what.
func (w *World) readAll() {
	for _, h := range w.hosts {
		n, gone := h.running()
		if n == nil {
			continue
		}
		for _, key := range w.keys.all() {
			op := unkai.Op{Key: key, Meta: true}
			until := time.Now().Add(patience)
			for {
				end := w.result.History.Begin(1000+h.number, op)
				since := w.flushed()
				res := ask(n, gone, []unkai.Op{op})[0]
				end(res)
				w.count(1000+h.number, h, &op, res, since)
				if res.Status == unkai.OK || res.Status == unkai.Miss {
					break
				}
				if time.Now().After(until) {
					w.fail(fmt.Errorf("host %d cannot read %s after all was healed: %w", h.number, key, res.Err))
					break
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
	}
}
