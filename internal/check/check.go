// Package check records what clients asked and were told, and judges whether a
// store that treats each key as one linearizable register could have answered
// so. The register's law is core/command, which other tests pin to memcached.
package check

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"

	"unkai"
	"unkai/internal/core/command"
)

// History collects operations. It is safe for concurrent use.
type History struct {
	clock atomic.Int64 // orders calls and returns; it is no time
	mu    sync.Mutex
	ops   []porcupine.Operation
}

// Begin notes that an operation is about to be asked. Call the function that it
// returns with the answer.
//
// An operation that was certainly not applied leaves nothing in the history. One
// that is in doubt may take effect at any later moment, or never.
func (h *History) Begin(client int, op unkai.Op) func(unkai.Result) {
	op.Key, op.Value = bytes.Clone(op.Key), bytes.Clone(op.Value)
	call := h.clock.Add(1)
	return func(r unkai.Result) {
		if r.Status == unkai.Failed {
			return
		}
		r.Item.Value = bytes.Clone(r.Item.Value)
		end := h.clock.Add(1)
		if r.Status == unkai.InDoubt {
			end = math.MaxInt64
		}
		h.mu.Lock()
		h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: op, Call: call, Output: r, Return: end})
		h.mu.Unlock()
	}
}

// Len is how many operations the history has.
func (h *History) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.ops)
}

// Verdict is what Judge found.
type Verdict struct {
	// OK says that the history is linearizable.
	OK bool
	// Undecided says that time ran out before that was known.
	Undecided bool

	model porcupine.Model
	info  porcupine.LinearizationInfo
}

// Judge looks for an order of the operations that explains all answers, for at
// most the given time. Each key is judged by itself. At most some eight clients
// should work on one key, or time will not suffice.
func (h *History) Judge(limit time.Duration) Verdict {
	h.mu.Lock()
	ops := slices.Clone(h.ops)
	h.mu.Unlock()
	m := model()
	res, info := porcupine.CheckOperationsVerbose(m, ops, limit)
	return Verdict{OK: res == porcupine.Ok, Undecided: res == porcupine.Unknown, model: m, info: info}
}

// Guilty are the keys whose operations are not linearizable by themselves, each
// judged for at most the given time.
func (h *History) Guilty(limit time.Duration) (keys []string) {
	h.mu.Lock()
	ops := slices.Clone(h.ops)
	h.mu.Unlock()
	for _, part := range partition(ops) {
		if porcupine.CheckOperationsTimeout(model(), part, limit) == porcupine.Illegal {
			keys = append(keys, string(part[0].Input.(unkai.Op).Key))
		}
	}
	slices.Sort(keys)
	return keys
}

// Draw writes a page that shows the history and where it stops making sense.
func (v Verdict) Draw(w io.Writer) error { return porcupine.Visualize(v.model, v.info, w) }

// state is what the register holds. An operation in doubt does not tell its cas
// unique: then the unique is not known until an answer tells it.
type state struct {
	item    unkai.Item
	unknown bool
}

func model() porcupine.Model {
	m := porcupine.NondeterministicModel{
		Partition: partition,
		Init:      func() []any { return []any{state{}} },
		Step: func(s, in, out any) []any {
			return step(s.(state), in.(unkai.Op), out.(unkai.Result))
		},
		Equal: func(a, b any) bool {
			x, y := a.(state), b.(state)
			return x.unknown == y.unknown && sameItem(x.item, y.item)
		},
		DescribeOperation: func(in, out any) string { return describe(in.(unkai.Op), out.(unkai.Result)) },
		DescribeState:     func(s any) string { return fmt.Sprintf("%q", s.(state).item.Value) },
	}
	return m.ToModel()
}

func partition(ops []porcupine.Operation) [][]porcupine.Operation {
	byKey := map[string][]porcupine.Operation{}
	for _, o := range ops {
		k := string(o.Input.(unkai.Op).Key)
		byKey[k] = append(byKey[k], o)
	}
	out := make([][]porcupine.Operation, 0, len(byKey))
	for _, part := range byKey {
		out = append(out, part)
	}
	return out
}

func sameItem(a, b unkai.Item) bool {
	return bytes.Equal(a.Value, b.Value) && a.Flags == b.Flags && a.CAS == b.CAS && a.Stale == b.Stale && a.Won == b.Won && a.Expiry == b.Expiry
}

// guess stands for a cas unique that nobody has been told. It is above every
// other, and low is below.
const (
	guess = math.MaxUint64
	low   = 1
)

// step gives the states in which the register may be after it answered op with
// res in state s; none if it may not answer so.
//
// An item that expires may be gone from any moment on: which clock decides is not
// known here. Once it is gone it must stay so.
func step(s state, op unkai.Op, res unkai.Result) []any {
	after := s.step(op, res)
	if s.item.Expiry != 0 {
		after = append(after, state{}.step(op, res)...)
	}
	return after
}

func (s state) step(op unkai.Op, res unkai.Result) (after []any) {
	for _, cas := range s.uniques(op, res) {
		before := s.item
		before.CAS = cas
		law := command.Law{CAS: res.Item.CAS, MaxValue: unkai.MaxValueLen}
		if res.Status == unkai.InDoubt {
			law.CAS = guess
		}
		out, _ := law.Apply(before, &op, nil)
		if res.Status != unkai.InDoubt && !explains(out.Result, op, res) {
			continue
		}
		if !out.Changed {
			out.Item = before
		}
		unknown := out.Item.CAS == guess || s.unknown && out.Item.CAS == low
		if unknown {
			out.Item.CAS = guess
		}
		after = append(after, state{out.Item, unknown})
	}
	return after
}

// uniques are what the item's cas unique may be, as far as that makes a
// difference to op.
func (s state) uniques(op unkai.Op, res unkai.Result) []uint64 {
	switch {
	case !s.unknown:
		return []uint64{s.item.CAS}
	case (op.Kind == unkai.Get || op.Kind == unkai.Touch) && res.Status == unkai.OK:
		return []uint64{res.Item.CAS}
	case !op.Compare || op.CAS == 0:
		return []uint64{guess}
	case op.Invalidate && op.CAS > low:
		return []uint64{guess, op.CAS, low}
	default:
		return []uint64{guess, op.CAS}
	}
}

func explains(want unkai.Result, op unkai.Op, got unkai.Result) bool {
	if want.Status != got.Status {
		return false
	}
	if got.Status != unkai.OK {
		return true
	}
	switch op.Kind {
	case unkai.Get:
		return (op.NoValue || bytes.Equal(want.Item.Value, got.Item.Value)) && want.Item.Flags == got.Item.Flags &&
			want.Item.CAS == got.Item.CAS && want.Won == got.Won
	case unkai.Increment, unkai.Decrement:
		return want.Number == got.Number
	}
	return true
}

func describe(op unkai.Op, res unkai.Result) string {
	s := fmt.Sprintf("%v(%q", op.Kind, op.Key)
	if len(op.Value) > 0 {
		s += fmt.Sprintf(", %q", op.Value)
	}
	if op.Compare {
		s += fmt.Sprintf(", cas %v", unkai.Ballot(op.CAS))
	}
	s += ") → "
	switch res.Status {
	case unkai.OK:
		if op.Kind == unkai.Get {
			return s + fmt.Sprintf("%q, cas %v", res.Item.Value, unkai.Ballot(res.Item.CAS))
		}
		return s + "ok"
	case unkai.InDoubt:
		return s + "in doubt"
	}
	return s + fmt.Sprintf("status %d", res.Status)
}
