package memory

import (
	"encoding/binary"
	"hash/crc32"

	"unkai"
	"unkai/internal/store"
)

// A record in its slot. Integers are little-endian.
//
//	byte  0      4  crc32c of the bucket and everything from byte 9 on
//	      4      4  time of last access   } change on reading,
//	      8      1  fetched               } without the sum
//	      9      1  length of the key
//	     10      1  fields: which optional parts follow, and the marks
//	     11      1  1: the promise is the next ballot of the same seat
//	     12      4  length of the value
//	     16      8  hash
//	     24      8  ballot
//	     32      4  epoch
//	     36      8  promise, if it is neither the ballot nor the next
//	             8  cas unique, if it is not the ballot
//	             4  flags, if not 0
//	             8  expiry, if not 0
//	             4  crc32c of the value, and 4 for the loc of each piece, if
//	                the value is kept in pieces
//	             …  key
//	             …  value, if it is not
//
// This never leaves the process, so it has no version.
const (
	atSum      = 0
	atAccessed = 4
	atFetched  = 8
	atCovered  = 9
	atKeyLen   = 9
	atFields   = 10
	atNext     = 11
	atLen      = 12
	atHash     = 16
	atBallot   = 24
	atEpoch    = 32
	fixedLen   = 36
)

const (
	fieldTombstone = 1 << iota
	fieldStale
	fieldWon
	fieldPromise
	fieldCAS
	fieldFlags
	fieldExpiry
	fieldPieces
)

// optional is the length of the optional parts but the pieces.
var optional = func() (n [256]uint8) {
	for f := range n {
		for mark, length := range map[int]uint8{fieldPromise: 8, fieldCAS: 8, fieldFlags: 4, fieldExpiry: 8} {
			if f&mark != 0 {
				n[f] += length
			}
		}
	}
	return n
}()

// Values that do not fit into one slot are cut into whole pages, then into the
// largest slots, and a rest.

// pieces is how many pieces a value of n bytes has.
func pieces(n int) int {
	rest := n % pageSize
	return n/pageSize + (rest+maxSlot-1)/maxSlot
}

// pieceLen is the length of the next piece when n bytes remain.
func pieceLen(n int) int {
	if n >= pageSize {
		return pageSize
	}
	return min(n, maxSlot)
}

// layout is how a record is going to be kept.
type layout struct {
	fields byte
	size   int // of the slot
}

func layoutOf(key []byte, r *store.Record) layout {
	var f byte
	if r.Tombstone {
		f |= fieldTombstone
	}
	if r.Item.Stale {
		f |= fieldStale
	}
	if r.Item.Won {
		f |= fieldWon
	}
	if r.Promise != r.Ballot && r.Promise != r.Ballot.Heir() {
		f |= fieldPromise
	}
	if own := uint64(r.Ballot); !r.Tombstone && r.Item.CAS != own {
		f |= fieldCAS
	}
	if r.Item.Flags != 0 {
		f |= fieldFlags
	}
	if r.Item.Expiry != 0 {
		f |= fieldExpiry
	}
	size := fixedLen + int(optional[f]) + len(key)
	if size+len(r.Item.Value) <= maxSlot {
		return layout{f, size + len(r.Item.Value)}
	}
	return layout{f | fieldPieces, size + 4 + 4*pieces(len(r.Item.Value))}
}

// piecesAt is where the sum and the locs of the pieces are.
func (l layout) piecesAt() int { return fixedLen + int(optional[l.fields]) }

// sum is the checksum of a head of n bytes, in that bucket.
func sum(b unkai.Bucket, slot []byte, n int) uint32 {
	return crc32.Update(uint32(b), castagnoli, slot[atCovered:n])
}

// encode writes the head of a record, whose pieces have been written.
func encode(slot []byte, l layout, w *store.Write, accessed uint32) {
	b, hash, key, r := w.Bucket, w.Hash, w.Key, &w.Record
	le := binary.LittleEndian
	slot = slot[:l.size]
	le.PutUint32(slot[atAccessed:], accessed)
	slot[atFetched] = 0
	if w.Fetched {
		slot[atFetched] = 1
	}
	slot[atKeyLen] = byte(len(key))
	slot[atFields] = l.fields
	slot[atNext] = 0
	if r.Promise != r.Ballot && l.fields&fieldPromise == 0 {
		slot[atNext] = 1
	}
	le.PutUint32(slot[atLen:], uint32(len(r.Item.Value)))
	le.PutUint64(slot[atHash:], hash)
	le.PutUint64(slot[atBallot:], uint64(r.Ballot))
	le.PutUint32(slot[atEpoch:], uint32(r.Epoch))
	at := fixedLen
	if l.fields&fieldPromise != 0 {
		le.PutUint64(slot[at:], uint64(r.Promise))
		at += 8
	}
	if l.fields&fieldCAS != 0 {
		le.PutUint64(slot[at:], r.Item.CAS)
		at += 8
	}
	if l.fields&fieldFlags != 0 {
		le.PutUint32(slot[at:], r.Item.Flags)
		at += 4
	}
	if l.fields&fieldExpiry != 0 {
		le.PutUint64(slot[at:], uint64(r.Item.Expiry))
		at += 8
	}
	if l.fields&fieldPieces != 0 {
		copy(slot[l.size-len(key):], key)
	} else {
		at += copy(slot[at:], key)
		copy(slot[at:], r.Item.Value)
	}
	le.PutUint32(slot[atSum:], sum(b, slot, l.size))
}

// head is a record in its slot, cut up but not necessarily right.
type head struct {
	slot   []byte // exactly the head
	fields byte
	keyAt  int
	keyLen int
	length int // of the value
}

// parse cuts up what is in a slot. It reports false if that cannot be.
func parse(mem []byte) (h head, ok bool) {
	if len(mem) < fixedLen {
		return head{}, false
	}
	h.fields = mem[atFields]
	h.keyLen = int(mem[atKeyLen])
	h.length = int(binary.LittleEndian.Uint32(mem[atLen:]))
	h.keyAt = fixedLen + int(optional[h.fields])
	var size int
	if h.fields&fieldPieces != 0 {
		if h.length > unkai.MaxValueLen {
			return head{}, false
		}
		h.keyAt += 4 + 4*pieces(h.length)
		size = h.keyAt + h.keyLen
	} else {
		size = h.keyAt + h.keyLen + h.length
	}
	if size > maxSlot || size > len(mem) {
		return head{}, false
	}
	h.slot = mem[:size]
	return h, true
}

// intact reports whether the head is as it was written.
func (h *head) intact(b unkai.Bucket) bool {
	return sum(b, h.slot, len(h.slot)) == binary.LittleEndian.Uint32(h.slot[atSum:])
}

func (h *head) key() []byte     { return h.slot[h.keyAt : h.keyAt+h.keyLen] }
func (h *head) inPieces() bool  { return h.fields&fieldPieces != 0 }
func (h *head) tombstone() bool { return h.fields&fieldTombstone != 0 }
func (h *head) hash() uint64    { return binary.LittleEndian.Uint64(h.slot[atHash:]) }
func (h *head) ballot() unkai.Ballot {
	return unkai.Ballot(binary.LittleEndian.Uint64(h.slot[atBallot:]))
}

func (h *head) promise() unkai.Ballot {
	if h.slot[atNext] != 0 {
		return h.ballot().Heir()
	}
	if h.fields&fieldPromise == 0 {
		return h.ballot()
	}
	return unkai.Ballot(binary.LittleEndian.Uint64(h.slot[fixedLen:]))
}

func (h *head) kind() store.Kind {
	r := store.Record{Ballot: h.ballot(), Promise: h.promise(), Tombstone: h.tombstone()}
	return r.Kind()
}

// value is the value of a record that is not in pieces.
func (h *head) value() []byte { return h.slot[h.keyAt+h.keyLen:] }

// locs are the pieces, 4 bytes each; sum is that of the value in them.
func (h *head) locs() (locs []byte, sum uint32) {
	at := fixedLen + int(optional[h.fields])
	return h.slot[at+4 : h.keyAt], binary.LittleEndian.Uint32(h.slot[at:])
}

// record is the record without its value.
func (h *head) record() store.Record {
	le := binary.LittleEndian
	r := store.Record{
		Ballot:    h.ballot(),
		Epoch:     unkai.Epoch(le.Uint32(h.slot[atEpoch:])),
		Tombstone: h.tombstone(),
	}
	r.Promise = h.promise()
	if !r.Tombstone {
		r.Item.CAS = uint64(r.Ballot)
	}
	r.Item.Stale, r.Item.Won = h.fields&fieldStale != 0, h.fields&fieldWon != 0
	rest := h.slot[fixedLen:]
	if h.fields&fieldPromise != 0 {
		rest = rest[8:]
	}
	if h.fields&fieldCAS != 0 {
		r.Item.CAS, rest = le.Uint64(rest), rest[8:]
	}
	if h.fields&fieldFlags != 0 {
		r.Item.Flags, rest = le.Uint32(rest), rest[4:]
	}
	if h.fields&fieldExpiry != 0 {
		r.Item.Expiry = int64(le.Uint64(rest))
	}
	return r
}

// appendValue appends the value to dst. It reports false, and dst as it was,
// if the pieces are damaged.
func (v *view) appendValue(dst []byte, h *head) ([]byte, bool) {
	if !h.inPieces() {
		return append(dst, h.value()...), true
	}
	start := len(dst)
	locs, want := h.locs()
	for n := h.length; n > 0; locs = locs[4:] {
		l := pieceLen(n)
		mem := v.at(binary.LittleEndian.Uint32(locs))
		if len(mem) < l {
			return dst[:start], false
		}
		if start == len(dst) && cap(dst)-start < h.length {
			dst = append(make([]byte, 0, start+h.length), dst...)
		}
		dst = append(dst, mem[:l]...)
		n -= l
	}
	if crc32.Checksum(dst[start:], castagnoli) != want {
		return dst[:start], false
	}
	return dst, true
}
