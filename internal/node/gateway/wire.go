package gateway

import (
	"encoding/binary"
	"errors"

	"unkai"
	"unkai/internal/node/coordinator"
	"unkai/internal/store"
)

// The encoding of operations and results between nodes: a version, then one
// after another. Numbers are varints, so that what is not set costs a byte.
const wireVersion = 1

var errShort = errors.New("a message of a gateway is not well formed")

const (
	markCompare = 1 << iota
	markVivify
	markRetouch
	markRecacheLast
	markInvalidate
	markDropValue
	markMeta
	markNoValue
	markNoBump
)

func mark(on bool, bit uint64) uint64 {
	if on {
		return bit
	}
	return 0
}

func appendBytes(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

// appendOp appends an operation.
func appendOp(dst []byte, op *unkai.Op) []byte {
	marks := mark(op.Compare, markCompare) | mark(op.Vivify, markVivify) | mark(op.Retouch, markRetouch) |
		mark(op.RecacheLast, markRecacheLast) | mark(op.Invalidate, markInvalidate) | mark(op.DropValue, markDropValue) |
		mark(op.Meta, markMeta) | mark(op.NoValue, markNoValue) | mark(op.NoBump, markNoBump)
	dst = append(dst, byte(op.Kind))
	dst = binary.AppendUvarint(dst, marks)
	dst = appendBytes(dst, op.Key)
	dst = appendBytes(dst, op.Value)
	for _, n := range [...]uint64{uint64(op.Flags), op.CAS, op.NewCAS, op.Delta, op.Initial} {
		dst = binary.AppendUvarint(dst, n)
	}
	for _, n := range [...]int64{op.Expiry, op.VivifyExpiry, op.Recache} {
		dst = binary.AppendVarint(dst, n)
	}
	return dst
}

// cursor reads what append wrote; once it has come to an end too early it gives
// zeros and says so at last.
type cursor struct {
	b     []byte
	short bool
}

func (r *cursor) fail() { r.short, r.b = true, nil }

func (r *cursor) u8() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	n := r.b[0]
	r.b = r.b[1:]
	return n
}

func (r *cursor) uvarint() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *cursor) varint() int64 {
	n, size := binary.Varint(r.b)
	if size <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *cursor) bytes() []byte {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	if n == 0 {
		return nil
	}
	return out
}

// op reads an operation; key and value alias the message.
func (r *cursor) op(op *unkai.Op) {
	op.Kind = unkai.Kind(r.u8())
	marks := r.uvarint()
	op.Key, op.Value = r.bytes(), r.bytes()
	op.Flags, op.CAS, op.NewCAS = uint32(r.uvarint()), r.uvarint(), r.uvarint()
	op.Delta, op.Initial = r.uvarint(), r.uvarint()
	op.Expiry, op.VivifyExpiry, op.Recache = r.varint(), r.varint(), r.varint()
	op.Compare, op.Vivify, op.Retouch = marks&markCompare != 0, marks&markVivify != 0, marks&markRetouch != 0
	op.RecacheLast, op.Invalidate, op.DropValue = marks&markRecacheLast != 0, marks&markInvalidate != 0, marks&markDropValue != 0
	op.Meta, op.NoValue, op.NoBump = marks&markMeta != 0, marks&markNoValue != 0, marks&markNoBump != 0
	if op.Kind >= unkai.Kinds || len(op.Key) == 0 || len(op.Key) > unkai.MaxKeyLen || len(op.Value) > unkai.MaxValueLen {
		r.fail()
	}
}

// maxOps bounds the operations of one message.
const maxOps = 1024

// readOps reads all operations of a message into b.
func readOps(msg []byte, b *unkai.Batch) error {
	r := cursor{b: msg}
	if r.u8() != wireVersion {
		return errShort
	}
	for len(r.b) > 0 {
		if len(b.Ops) == maxOps {
			return errShort
		}
		r.op(b.Add())
	}
	if r.short || len(b.Ops) == 0 {
		return errShort
	}
	return nil
}

const (
	markStale = 1 << iota
	markWonItem
	markCreated
	markWon
	markWonBefore
	markFetched
	markError
	markFull
	markMoved
	markElsewhere
	markAway
)

// maxErrorText is how much of an error another node is told, in bytes.
const maxErrorText = 200

// appendResult appends a result.
func appendResult(dst []byte, res *unkai.Result) []byte {
	marks := mark(res.Item.Stale, markStale) | mark(res.Item.Won, markWonItem) | mark(res.Created, markCreated) |
		mark(res.Won, markWon) | mark(res.WonBefore, markWonBefore) | mark(res.Fetched, markFetched) | mark(res.Err != nil, markError)
	if res.Err != nil {
		marks |= mark(errors.Is(res.Err, store.ErrFull), markFull) | mark(errors.Is(res.Err, coordinator.ErrMoved), markMoved) |
			mark(errors.Is(res.Err, coordinator.ErrElsewhere), markElsewhere) | mark(errors.Is(res.Err, coordinator.ErrAway), markAway)
	}
	dst = append(dst, byte(res.Status))
	dst = binary.AppendUvarint(dst, marks)
	if res.Err != nil {
		text := res.Err.Error()
		dst = appendBytes(dst, []byte(text[:min(len(text), maxErrorText)]))
	}
	dst = appendBytes(dst, res.Item.Value)
	for _, n := range [...]uint64{res.Item.CAS, uint64(res.Item.Flags), uint64(res.Size), res.Number, uint64(res.Accessed)} {
		dst = binary.AppendUvarint(dst, n)
	}
	dst = binary.AppendVarint(dst, res.Item.Expiry)
	return binary.AppendVarint(dst, res.ExpiryBefore)
}

// result reads a result; its value aliases the message.
func (r *cursor) result(res *unkai.Result) {
	res.Status = unkai.Status(r.u8())
	marks := r.uvarint()
	if marks&markError != 0 {
		e := elsewhere{string(r.bytes()), marks}
		if res.Err = e; marks&markFull != 0 {
			res.Err = full{e}
		}
	}
	res.Item.Value = r.bytes()
	res.Item.CAS, res.Item.Flags, res.Size = r.uvarint(), uint32(r.uvarint()), int(r.uvarint())
	res.Number, res.Accessed = r.uvarint(), uint32(r.uvarint())
	res.Item.Expiry, res.ExpiryBefore = r.varint(), r.varint()
	res.Item.Stale, res.Item.Won = marks&markStale != 0, marks&markWonItem != 0
	res.Created, res.Won = marks&markCreated != 0, marks&markWon != 0
	res.WonBefore, res.Fetched = marks&markWonBefore != 0, marks&markFetched != 0
	bad := res.Status == unkai.Failed || res.Status == unkai.InDoubt
	if res.Status == unkai.Unanswered || res.Status > unkai.InDoubt || bad != (res.Err != nil) {
		r.fail()
	}
}

// elsewhere is an error of another node.
type elsewhere struct {
	text  string
	marks uint64
}

func (e elsewhere) Error() string { return e.text }

// Is tells the errors that are acted upon.
func (e elsewhere) Is(target error) bool {
	switch target {
	case store.ErrFull:
		return e.marks&markFull != 0
	case coordinator.ErrMoved:
		return e.marks&markMoved != 0
	case coordinator.ErrElsewhere:
		return e.marks&markElsewhere != 0
	case coordinator.ErrAway:
		return e.marks&markAway != 0
	}
	return false
}

// full is elsewhere's error of a full store, in words that clients of memcached
// know.
type full struct{ elsewhere }

// MemcacheText is what a client of memcached expects to be told.
func (full) MemcacheText() string { return "out of memory storing object" }
