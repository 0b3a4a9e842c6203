package antientropy

import (
	"encoding/binary"
	"errors"

	"unkai"
	"unkai/internal/core/ring"
	"unkai/internal/node/replica"
	"unkai/internal/store"
)

// The questions between those who compare replicas, and their answers. Integers are
// little-endian; a list begins with its length, 4 bytes.
//
//	1  what is asked, and then
//	roots:    of each bucket  2  bucket   4  epoch
//	pending:  of each bucket  2  bucket   4  epoch
//	whole:    of each bucket  2  bucket   4  epoch
//	the others begin with     2  bucket   4  epoch
//	sums:     1  level        list of     4  node
//	list:     1  level        list of     4  node
//	records:  list of         8  hash     8  ballot   key
//	adopt:    list of         entries
//	settle:   list of         key
//	level:    list of         8  hash     8  ballot   4  epoch    key
//	survey:   1  level
//	bring:    1  level        list of     brought
//	packed:   what bring has, as a block of S2
//	floor:    8  forgotten up to
//
// Answers:
//
//	roots:    of each bucket  1  state    1  depth    8  root   4  records
//	pending:  of each bucket  1  whether it is about to bring it, or has not heard of it
//	whole:    of each bucket  1  state    8  root   8  forgotten up to
//	the others begin with     1  state
//	sums:     list of         8  sum
//	list:     8  forgotten up to   list of  versions
//	records:  list of         entries; those that did not fit, or have changed, are left out
//	adopt:    list of         1  fate
//	settle, floor: nothing more
//	level:    of each         1  whether it is
//	survey:   1  level    list of     8  sum
//	bring:    1  whether one could not be taken over
//	          1  level    list of     8  sum, if a level was asked for; 255 for none
//
//	key:      1  length, and so many bytes
//	version:  8  hash   8  ballot   4  epoch   1  marks   key
//	entry:    8  hash   1  marks   4  accessed   key
//	          4  length, and a record in the store's format, with its checksum
//	brought:  key   length as a varint, and a record
type asked uint8

const (
	askRoots asked = 1 + iota
	askSums
	askList
	askRecords
	askAdopt
	askSettle
	askLevel
	askSurvey
	askBring
	askFloor
	askPending
	askWhole
	askBringPacked
)

// state is how a replica stands to a question about a bucket.
type state uint8

const (
	stateOK       state = iota
	stateFenced         // it knows another epoch of the bucket, or does not hold it
	stateUnknown        // it has not counted the bucket yet
	stateTooLarge       // the answer would be; ask for less
)

// fate is what has become of a record that was to be adopted.
type fate uint8

const (
	fateLevel   fate = iota // it is here, or something after it
	fateAdopted             // it is here now
	fateRefused             // something higher was promised: it has to be settled
	fateFailed              // the store could not, or the epoch has passed; another time
)

const (
	markTombstone = 1 << iota
	markFetched
)

// Limits of messages. An answer may be longer by one record.
const (
	maxList    = 4 << 20 // bytes of an answer to list
	maxRecords = 1 << 20 // bytes of records in a message
	maxKeys    = 512     // keys in a message about keys
	maxBuckets = 4096    // buckets in a question for roots
	maxNodes   = 64 << 10
)

// errShort: a message ends too early, or is not one.
var errShort = errors.New("a message about a bucket's records is not well formed")

// version is what a replica holds of a key.
type version struct {
	hash      uint64
	ballot    unkai.Ballot
	epoch     unkai.Epoch
	tombstone bool
}

// entry is a record on its way, with its key and the marks of having been read.
type entry struct {
	hash     uint64
	key      []byte
	record   store.Record
	fetched  bool
	accessed uint32
}

func u16(b []byte, v uint16) []byte { return binary.LittleEndian.AppendUint16(b, v) }
func u32(b []byte, v uint32) []byte { return binary.LittleEndian.AppendUint32(b, v) }
func u64(b []byte, v uint64) []byte { return binary.LittleEndian.AppendUint64(b, v) }

func appendKey(b, key []byte) []byte { return append(append(b, byte(len(key))), key...) }

// aboutLen is how long what about gives is.
const aboutLen = 7

// about begins a question about one bucket.
func about(a asked, b unkai.Bucket, e unkai.Epoch) []byte {
	return u32(u16([]byte{byte(a)}, uint16(b)), uint32(e))
}

func appendNodes(q []byte, level int, nodes []uint32) []byte {
	q = u32(append(q, byte(level)), uint32(len(nodes)))
	for _, n := range nodes {
		q = u32(q, n)
	}
	return q
}

func appendVersion(b []byte, key []byte, v *version) []byte {
	b = u32(u64(u64(b, v.hash), uint64(v.ballot)), uint32(v.epoch))
	marks := byte(0)
	if v.tombstone {
		marks = markTombstone
	}
	return appendKey(append(b, marks), key)
}

// appendEntry appends a record without its promise, which is its holder's own.
func appendEntry(b []byte, e *entry) []byte {
	marks := byte(0)
	if e.fetched {
		marks = markFetched
	}
	b = appendKey(u32(append(u64(b, e.hash), marks), e.accessed), e.key)
	rec := e.record
	rec.Promise = rec.Ballot
	b = u32(b, uint32(store.EncodedLen(&rec)))
	return store.AppendRecord(b, e.key, &rec)
}

// reader reads what append wrote. Once a message ends too early it gives zeros, and
// says so at last.
type reader struct {
	b     []byte
	short bool
}

func (in *reader) take(n int) []byte {
	if n < 0 || len(in.b) < n {
		in.short, in.b = true, nil
		return nil
	}
	out := in.b[:n:n]
	in.b = in.b[n:]
	return out
}

func (in *reader) u8() byte {
	if b := in.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (in *reader) u16() uint16 {
	if b := in.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (in *reader) u32() uint32 {
	if b := in.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (in *reader) u64() uint64 {
	if b := in.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (in *reader) key() []byte { return in.take(int(in.u8())) }

// list is the length of a list of elements that have at least size bytes.
func (in *reader) list(size, most int) int {
	n := int(in.u32())
	if n > most || n > len(in.b)/size {
		in.short, in.b = true, nil
		return 0
	}
	return n
}

func (in *reader) bucket() (unkai.Bucket, unkai.Epoch) {
	return unkai.Bucket(in.u16()), unkai.Epoch(in.u32())
}

func (in *reader) version() (v version, key []byte) {
	v.hash, v.ballot, v.epoch = in.u64(), unkai.Ballot(in.u64()), unkai.Epoch(in.u32())
	v.tombstone = in.u8()&markTombstone != 0
	return v, in.key()
}

// entry reads a record of a bucket. Its checksum has to be right, its hash that of its key,
// and its ballot one that a node can come to. Key and value alias the message.
func (in *reader) entry(space ring.Space, b unkai.Bucket) (e entry, err error) {
	e.hash = in.u64()
	e.fetched = in.u8()&markFetched != 0
	e.accessed = in.u32()
	e.key = in.key()
	raw := in.take(int(in.u32()))
	if in.short || len(e.key) == 0 || len(e.key) > unkai.MaxKeyLen || e.hash != space.Hash(e.key) || space.Bucket(e.hash) != b {
		return e, errShort
	}
	if e.record, err = store.DecodeRecord(e.key, raw); err == nil {
		err = replica.CheckReach(e.record.Ballot, e.record.Promise)
	}
	return e, err
}

// end is the error of a message that was not read to its end, or beyond.
func (in *reader) end() error {
	if in.short || len(in.b) > 0 {
		return errShort
	}
	return nil
}

// adoption is the call that brings an entry to a replica.
func (e *entry) adoption(b unkai.Bucket, at unkai.Epoch) replica.Call {
	return replica.Call{
		Epoch: at, Bucket: b, Hash: e.hash, Key: e.key, Ballot: e.record.Ballot, Item: e.record.Item,
		Under: e.record.Epoch, Fetched: e.fetched, Accessed: e.accessed,
	}
}
