// Package command is the law of what an operation does to an item. The server,
// the tests against memcached and the linearizability model all use this one
// function, so that they cannot disagree.
package command

import (
	"math"
	"strconv"

	"unkai"
)

// Outcome is what Apply decided.
type Outcome struct {
	// Item that shall stand; the zero Item: the key shall be absent. Its Value
	// may alias the old value, the operation's, or the scratch buffer.
	Item unkai.Item
	// Changed says that Item is not what was there: it must be written, and
	// Result holds only when it has been.
	Changed bool
	// Replaced says that the change put a new item in the place of the old one:
	// the marks of having been read begin anew.
	Replaced bool
	Result   unkai.Result
}

// Law is what the operations need to know beside the item.
type Law struct {
	// Now in milliseconds since 1970.
	Now int64
	// CAS is the cas unique for a changed item, never used for this key before.
	CAS uint64
	// MaxValue is the longest value that may result, in bytes.
	MaxValue int
}

// Apply says what op makes of old, the zero Item when the key is absent.
// Scratch may be used for a new value; the grown buffer is returned, for the
// next call.
//
// An item that has expired is absent, and finding it so is a change by itself:
// once anybody was told that it is gone, it must be gone for everybody,
// whatever their clocks say.
func (l Law) Apply(old unkai.Item, op *unkai.Op, scratch []byte) (Outcome, []byte) {
	before := old.Expiry
	expired := old.Exists() && old.Expiry != 0 && old.Expiry <= l.Now
	if expired {
		old = unkai.Item{}
	}
	out, scratch := l.apply(old, op, scratch)
	if expired && !out.Changed {
		out.Changed, out.Item = true, unkai.Item{}
	}
	out.Result.ExpiryBefore = before
	return out, scratch
}

func (l Law) apply(old unkai.Item, op *unkai.Op, scratch []byte) (Outcome, []byte) {
	switch op.Kind {
	case unkai.Get:
		return l.get(old, op), scratch
	case unkai.Touch:
		return touch(old, op), scratch
	case unkai.Set, unkai.Add, unkai.Replace:
		return l.store(old, op), scratch
	case unkai.Append, unkai.Prepend:
		return l.extend(old, op, scratch)
	case unkai.Increment, unkai.Decrement:
		return l.count(old, op, scratch)
	default:
		return l.remove(old, op), scratch
	}
}

// Blind reports whether op's outcome does not depend on what was there.
func Blind(op *unkai.Op) bool { return op.Kind == unkai.Set && !op.Compare }

// ReadsOnly reports whether op can never change an item that is neither stale
// nor expired.
func ReadsOnly(op *unkai.Op) bool {
	return op.Kind == unkai.Get && !op.Retouch && !op.Vivify && op.Recache == 0
}

func answer(s unkai.Status) Outcome { return Outcome{Result: unkai.Result{Status: s}} }

func unchanged(it unkai.Item) Outcome {
	return Outcome{Item: it, Result: unkai.Result{Status: unkai.OK, Item: it, Size: len(it.Value)}}
}

func changed(it unkai.Item) Outcome {
	out := unchanged(it)
	out.Changed = true
	return out
}

func replaced(it unkai.Item) Outcome {
	out := changed(it)
	out.Replaced = true
	return out
}

// unique is the cas unique for what op leaves behind.
func (l Law) unique(op *unkai.Op) uint64 {
	if op.NewCAS != 0 {
		return op.NewCAS
	}
	return l.CAS
}

func (l Law) get(old unkai.Item, op *unkai.Op) Outcome {
	if !old.Exists() {
		if !op.Vivify {
			return answer(unkai.Miss)
		}
		out := replaced(unkai.Item{CAS: l.unique(op), Expiry: op.VivifyExpiry, Won: true})
		out.Result.Created, out.Result.Won = true, true
		return out
	}
	it := old
	expiry := old.Expiry
	if op.Retouch && op.RecacheLast {
		expiry = op.Expiry
	}
	wins := op.Meta && !old.Won &&
		(old.Stale || op.Recache != 0 && expiry != 0 && expiry < op.Recache)
	if wins {
		it.Won = true
	}
	if op.Retouch {
		it.Expiry = op.Expiry
	}
	out := unchanged(it)
	out.Changed = it.Won != old.Won || it.Expiry != old.Expiry
	out.Result.Won, out.Result.WonBefore = wins, old.Won
	return out
}

func touch(old unkai.Item, op *unkai.Op) Outcome {
	if !old.Exists() {
		return answer(unkai.Miss)
	}
	it := old
	it.Expiry = op.Expiry
	out := unchanged(it)
	out.Changed = it.Expiry != old.Expiry
	return out
}

func (l Law) store(old unkai.Item, op *unkai.Op) Outcome {
	it := unkai.Item{Value: op.Value, Flags: op.Flags, Expiry: op.Expiry, CAS: l.unique(op)}
	switch {
	case op.Kind == unkai.Add:
		if old.Exists() {
			return answer(unkai.NotStored)
		}
	case op.Compare:
		if !old.Exists() {
			return answer(unkai.Miss)
		}
		if op.CAS != old.CAS {
			if !op.Invalidate || op.CAS == 0 || op.CAS > old.CAS {
				return answer(unkai.Exists)
			}
			// A late value takes only the place of the value.
			it.Stale, it.Won, it.Expiry = true, old.Won, old.Expiry
		}
	case op.Kind == unkai.Replace:
		if !old.Exists() {
			return answer(unkai.NotStored)
		}
	}
	return replaced(it)
}

func (l Law) extend(old unkai.Item, op *unkai.Op, scratch []byte) (Outcome, []byte) {
	if !old.Exists() {
		if !op.Vivify {
			return answer(unkai.NotStored), scratch
		}
		return replaced(unkai.Item{
			Value: op.Value, Flags: op.Flags, Expiry: op.VivifyExpiry, CAS: l.unique(op),
		}), scratch
	}
	if op.Compare && op.CAS != 0 && op.CAS != old.CAS {
		return answer(unkai.Exists), scratch
	}
	if len(old.Value)+len(op.Value) > l.MaxValue {
		return answer(unkai.NotStored), scratch
	}
	first, second := old.Value, op.Value
	if op.Kind == unkai.Prepend {
		first, second = second, first
	}
	start := len(scratch)
	scratch = append(append(scratch, first...), second...)
	return replaced(unkai.Item{
		Value: scratch[start:len(scratch):len(scratch)], Flags: old.Flags, Expiry: old.Expiry, CAS: l.unique(op),
	}), scratch
}

func (l Law) count(old unkai.Item, op *unkai.Op, scratch []byte) (Outcome, []byte) {
	start := len(scratch)
	if !old.Exists() {
		if !op.Vivify {
			return answer(unkai.Miss), scratch
		}
		scratch = strconv.AppendUint(scratch, op.Initial, 10)
		out := replaced(unkai.Item{
			Value: scratch[start:len(scratch):len(scratch)], Expiry: op.VivifyExpiry, CAS: l.unique(op),
		})
		out.Result.Number, out.Result.Created = op.Initial, true
		return out, scratch
	}
	if len(old.Value) == 0 { // memcached looks at this first
		return answer(unkai.NotNumber), scratch
	}
	if op.Compare && op.CAS != 0 && op.CAS != old.CAS {
		return answer(unkai.Exists), scratch
	}
	n, ok := number(old.Value)
	if !ok {
		return answer(unkai.NotNumber), scratch
	}
	if op.Kind == unkai.Increment {
		n += op.Delta
	} else {
		n -= min(op.Delta, n)
	}
	scratch = strconv.AppendUint(scratch, n, 10)
	it := old
	it.CAS = l.unique(op)
	if op.Retouch {
		it.Expiry = op.Expiry
	}
	grown := len(scratch)-start > len(old.Value)
	if grown {
		it.Stale, it.Won = false, false
	}
	// As in memcached a shorter number keeps the length of the older one.
	for len(scratch)-start < len(old.Value) {
		scratch = append(scratch, ' ')
	}
	it.Value = scratch[start:len(scratch):len(scratch)]
	out := changed(it)
	out.Replaced = grown
	out.Result.Number = n
	return out, scratch
}

// number reads a value as memcached does, that is as strtoull does: white
// space, a sign, digits, and then the end, white space or a zero byte. A minus
// is taken where the negated number wraps around to a positive one.
func number(v []byte) (uint64, bool) {
	i := 0
	for i < len(v) && isSpace(v[i]) {
		i++
	}
	negative := i < len(v) && v[i] == '-'
	if negative || i < len(v) && v[i] == '+' {
		i++
	}
	var n uint64
	digits := false
	for ; i < len(v) && v[i] >= '0' && v[i] <= '9'; i++ {
		d := uint64(v[i] - '0')
		if n > (math.MaxUint64-d)/10 {
			return 0, false
		}
		n, digits = n*10+d, true
	}
	if negative {
		n = -n
		if int64(n) < 0 {
			return 0, false
		}
	}
	return n, digits && (i == len(v) || v[i] == 0 || isSpace(v[i]))
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

func (l Law) remove(old unkai.Item, op *unkai.Op) Outcome {
	if !old.Exists() {
		return answer(unkai.Miss)
	}
	if op.Compare && op.CAS != old.CAS {
		return answer(unkai.Exists)
	}
	if !op.Invalidate && !op.DropValue {
		return Outcome{Changed: true, Replaced: true, Result: unkai.Result{Status: unkai.OK}}
	}
	it := old
	it.CAS = l.unique(op)
	if op.DropValue {
		it = unkai.Item{CAS: it.CAS}
	}
	if op.Retouch {
		it.Expiry = op.Expiry
	}
	if op.Invalidate {
		it.Stale, it.Won = true, false
	}
	out := changed(it)
	out.Replaced = op.DropValue
	return out
}
