package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"unkai"
)

// The format of a record, version 1. Integers are little-endian.
//
//	byte  0      version (1)
//	byte  1      fields: which of the optional parts follow, and the marks
//	4     2      epoch
//	8     6      ballot
//	8            promise, if it is neither the ballot nor the next of its seat
//	8            cas unique, if it is not the ballot
//	4            flags, if not 0
//	8            expiry, if not 0
//	...          value
//	4            crc32c over the key and all the above
//
// A reader refuses a version it does not know, and fields that contradict each
// other: the record is then unknown, and never absent.
const (
	recordVersion = 1
	recordFixed   = 14
	recordSum     = 4

	// MaxRecordOverhead is how much longer an encoded record can be than its value.
	MaxRecordOverhead = recordFixed + 8 + 8 + 4 + 8 + recordSum
)

const (
	fieldTombstone = 1 << iota
	fieldStale
	fieldWon
	fieldPromise
	fieldCAS
	fieldFlags
	fieldExpiry
	fieldNext // the promise is the next ballot of the same seat

	fieldsOfItem = fieldStale | fieldWon | fieldCAS | fieldFlags | fieldExpiry
)

// promiseField says how the promise is kept.
func (r *Record) promiseField() byte {
	switch {
	case r.Promise == r.Ballot:
		return 0
	case r.Promise == r.Ballot.Heir():
		return fieldNext
	default:
		return fieldPromise
	}
}

// optional are the fields that take room, in their order.
var optional = [...]struct {
	mark byte
	n    int
}{{fieldPromise, 8}, {fieldCAS, 8}, {fieldFlags, 4}, {fieldExpiry, 8}}

// optionalLen is the length of the optional parts.
func optionalLen(fields byte) (n int) {
	for _, f := range optional {
		if fields&f.mark != 0 {
			n += f.n
		}
	}
	return n
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ownCAS reports whether the cas unique is not the ballot and has to be kept:
// after a touch, or when a client chose it. A tombstone has none.
func (r *Record) ownCAS() bool { return !r.Tombstone && r.Item.CAS != uint64(r.Ballot) }

// EncodedLen is the length of r in the record format, in bytes.
func EncodedLen(r *Record) int {
	n := recordFixed + recordSum + len(r.Item.Value)
	if r.promiseField() == fieldPromise {
		n += 8
	}
	if r.ownCAS() {
		n += 8
	}
	if r.Item.Flags != 0 {
		n += 4
	}
	if r.Item.Expiry != 0 {
		n += 8
	}
	return n
}

// AppendRecord appends r in the record format. The checksum covers the key, so
// that a record found under another key is known to be damaged.
func AppendRecord(dst, key []byte, r *Record) []byte {
	start := len(dst)
	fields := r.promiseField()
	if r.Tombstone {
		fields |= fieldTombstone
	}
	if r.Item.Stale {
		fields |= fieldStale
	}
	if r.Item.Won {
		fields |= fieldWon
	}
	dst = append(dst, recordVersion, 0)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(r.Epoch))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(r.Ballot))
	if fields&fieldPromise != 0 {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(r.Promise))
	}
	if r.ownCAS() {
		fields |= fieldCAS
		dst = binary.LittleEndian.AppendUint64(dst, r.Item.CAS)
	}
	if r.Item.Flags != 0 {
		fields |= fieldFlags
		dst = binary.LittleEndian.AppendUint32(dst, r.Item.Flags)
	}
	if r.Item.Expiry != 0 {
		fields |= fieldExpiry
		dst = binary.LittleEndian.AppendUint64(dst, uint64(r.Item.Expiry))
	}
	dst[start+1] = fields
	dst = append(dst, r.Item.Value...)
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, dst[start:])
	return binary.LittleEndian.AppendUint32(dst, sum)
}

// DecodeRecord reads what AppendRecord wrote for the same key. The value
// aliases b. The error is ErrDamaged, wrapped with what is wrong.
func DecodeRecord(key, b []byte) (Record, error) {
	if len(b) < recordFixed+recordSum {
		return Record{}, fmt.Errorf("%w: %d bytes are too few", ErrDamaged, len(b))
	}
	body := b[:len(b)-recordSum]
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, body)
	if want := binary.LittleEndian.Uint32(b[len(body):]); sum != want {
		return Record{}, fmt.Errorf("%w: checksum is %08x, want %08x", ErrDamaged, sum, want)
	}
	if b[0] != recordVersion {
		return Record{}, fmt.Errorf("%w: format version %d is not known here", ErrDamaged, b[0])
	}
	fields := b[1]
	r, rest := decodeFixed(body)
	if len(rest) < optionalLen(fields) {
		return Record{}, fmt.Errorf("%w: %d bytes are too few for fields %#x", ErrDamaged, len(b), fields)
	}
	if fields&fieldPromise != 0 && fields&fieldNext != 0 || fields&fieldsOfItem != 0 && (r.Tombstone || r.Ballot == 0) {
		return Record{}, fmt.Errorf("%w: fields %#x contradict each other", ErrDamaged, fields)
	}
	r.Promise = r.Ballot
	if fields&fieldNext != 0 {
		r.Promise = r.Ballot.Heir()
	}
	if !r.Tombstone {
		r.Item.CAS = uint64(r.Ballot)
	}
	r.Item.Stale, r.Item.Won = fields&fieldStale != 0, fields&fieldWon != 0
	if fields&fieldPromise != 0 {
		r.Promise, rest = unkai.Ballot(binary.LittleEndian.Uint64(rest)), rest[8:]
	}
	if fields&fieldCAS != 0 {
		r.Item.CAS, rest = binary.LittleEndian.Uint64(rest), rest[8:]
	}
	if fields&fieldFlags != 0 {
		r.Item.Flags, rest = binary.LittleEndian.Uint32(rest), rest[4:]
	}
	if fields&fieldExpiry != 0 {
		r.Item.Expiry, rest = int64(binary.LittleEndian.Uint64(rest)), rest[8:]
	}
	if len(rest) > 0 || r.Kind() == KindItem {
		r.Item.Value = rest
	}
	if err := r.Check(); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return r, nil
}

// decodeFixed reads the part that every record has, and leaves the rest.
func decodeFixed(body []byte) (Record, []byte) {
	return Record{
		Epoch:     unkai.Epoch(binary.LittleEndian.Uint32(body[2:])),
		Ballot:    unkai.Ballot(binary.LittleEndian.Uint64(body[6:])),
		Tombstone: body[1]&fieldTombstone != 0,
	}, body[recordFixed:]
}

// PromiseOf is the promise of an encoded record, of which nothing is verified.
func PromiseOf(b []byte) unkai.Ballot {
	ballot := unkai.Ballot(binary.LittleEndian.Uint64(b[6:]))
	switch {
	case b[1]&fieldNext != 0:
		return ballot.Heir()
	case b[1]&fieldPromise != 0 && len(b) >= recordFixed+8:
		return unkai.Ballot(binary.LittleEndian.Uint64(b[recordFixed:]))
	default:
		return ballot
	}
}
