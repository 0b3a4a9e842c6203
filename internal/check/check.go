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

// Draw writes a page that shows the history and where it stops making sense.
func (v Verdict) Draw(w io.Writer) error { return porcupine.Visualize(v.model, v.info, w) }

// state is what the register holds. An operation in doubt does not tell its cas
// unique: then the unique is not known until somebody reads it, and a history in
// which it was guessed before cannot be judged.
type state struct {
	item    unkai.Item
	unknown bool
}

func model() porcupine.Model {
	return porcupine.Model{
		Partition: partition,
		Init:      func() any { return state{} },
		Step: func(s, in, out any) (bool, any) {
			return step(s.(state), in.(unkai.Op), out.(unkai.Result))
		},
		Equal: func(a, b any) bool {
			x, y := a.(state), b.(state)
			return x.unknown == y.unknown && sameItem(x.item, y.item)
		},
		DescribeOperation: func(in, out any) string { return describe(in.(unkai.Op), out.(unkai.Result)) },
		DescribeState:     func(s any) string { return fmt.Sprintf("%q", s.(state).item.Value) },
	}
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

// guess stands for a cas unique that nobody has been told.
const guess = math.MaxUint64

// step says whether the register, in state s, may answer op with res, and its
// state afterwards.
func step(s state, op unkai.Op, res unkai.Result) (bool, any) {
	if res.Status == unkai.InDoubt {
		out, _ := command.Law{CAS: guess, MaxValue: unkai.MaxValueLen}.Apply(s.item, &op, nil)
		if !out.Changed {
			return true, s
		}
		return true, state{item: out.Item, unknown: out.Item.CAS == guess}
	}
	if s.unknown {
		s = s.learn(op, res)
	}
	out, _ := command.Law{CAS: res.Item.CAS, MaxValue: unkai.MaxValueLen}.Apply(s.item, &op, nil)
	if !explains(out.Result, op, res) {
		return false, s
	}
	if !out.Changed {
		return true, s
	}
	return true, state{item: out.Item}
}

// learn takes what an answer says of a cas unique that was not known.
func (s state) learn(op unkai.Op, res unkai.Result) state {
	switch {
	case op.Compare && res.Status == unkai.OK:
		s.item.CAS, s.unknown = op.CAS, false
	case (op.Kind == unkai.Get || op.Kind == unkai.Touch) && res.Status == unkai.OK:
		s.item.CAS, s.unknown = res.Item.CAS, false
	}
	return s
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
