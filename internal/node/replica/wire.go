package replica

import (
	"encoding/binary"
	"errors"
	"fmt"

	"unkai"
	"unkai/internal/store"
)

// The encoding of a Call between nodes. Integers are little-endian.
//
// Question:
//
//	1  what is asked          4  epoch      2  bucket   8  hash
//	1  marks                  4  access     1  length of the key, and the key
//	of a Prepare and an Accept also   8  ballot
//	of an Accept also                 8  next promise   item
//
// Answer:
//
//	1  status   4  epoch   8  seen   1  marks   4  accessed   4  size
//	8  ballot   8  promise   4  epoch of the record
//	of a Prepare also   8  the bucket's floor
//	item
//	or, when it is Failed or Unknown, the error behind the marks
//
// Item:  1 marks  8 cas unique  4 flags  8 expiry  value, to the end
type asked uint8

const (
	askRead asked = 1 + iota
	askPrepare
	askAccept
)

const (
	markNoValue = 1 << iota
	markFetched
	markTombstone
	markFull // the error is that the store is full
)

const (
	itemExists = 1 << iota
	itemStale
	itemWon
)

func appendQuestion(dst []byte, a asked, c *Call) []byte {
	marks, access := byte(0), uint32(c.Access)
	if c.NoValue && a != askAccept {
		marks |= markNoValue
	}
	if a == askAccept { // of another call these are left over from an earlier use
		access = c.Accessed
		if c.Fetched {
			marks |= markFetched
		}
	}
	dst = append(dst, byte(a))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(c.Epoch))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(c.Bucket))
	dst = binary.LittleEndian.AppendUint64(dst, c.Hash)
	dst = append(dst, marks)
	dst = binary.LittleEndian.AppendUint32(dst, access)
	dst = append(dst, byte(len(c.Key)))
	dst = append(dst, c.Key...)
	if a == askRead {
		return dst
	}
	dst = binary.LittleEndian.AppendUint64(dst, uint64(c.Ballot))
	if a == askPrepare {
		return dst
	}
	dst = binary.LittleEndian.AppendUint64(dst, uint64(c.Next))
	return appendItem(dst, &c.Item)
}

func appendItem(dst []byte, it *unkai.Item) []byte {
	marks := byte(0)
	if it.Exists() {
		marks |= itemExists
	}
	if it.Stale {
		marks |= itemStale
	}
	if it.Won {
		marks |= itemWon
	}
	dst = append(dst, marks)
	dst = binary.LittleEndian.AppendUint64(dst, it.CAS)
	dst = binary.LittleEndian.AppendUint32(dst, it.Flags)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(it.Expiry))
	return append(dst, it.Value...)
}

// errShort: a message ends too early, or is not one.
var errShort = errors.New("a message of a replica is not well formed")

// cursor reads what append wrote; once it has come to an end too early it gives
// zeros and says so at last.
type cursor struct {
	b     []byte
	short bool
}

func (r *cursor) take(n int) []byte {
	if len(r.b) < n {
		r.short = true
		r.b = nil
		return make([]byte, n) // of at most 255 bytes: only keys are not of fixed size
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *cursor) u8() byte    { return r.take(1)[0] }
func (r *cursor) u16() uint16 { return binary.LittleEndian.Uint16(r.take(2)) }
func (r *cursor) u32() uint32 { return binary.LittleEndian.Uint32(r.take(4)) }
func (r *cursor) u64() uint64 { return binary.LittleEndian.Uint64(r.take(8)) }

// item reads an item up to the end; its value aliases the message.
func (r *cursor) item() (it unkai.Item) {
	marks := r.u8()
	it.CAS = r.u64()
	it.Flags = r.u32()
	it.Expiry = int64(r.u64())
	it.Stale, it.Won = marks&itemStale != 0, marks&itemWon != 0
	it.Value = r.b
	r.b = nil
	if (marks&itemExists != 0) != it.Exists() || !it.Exists() && len(it.Value) > 0 {
		r.short = true
	}
	if len(it.Value) == 0 {
		it.Value = nil
	}
	return it
}

// readQuestion reads a question into c. Key and value alias b.
func readQuestion(b []byte, c *Call) (asked, error) {
	r := cursor{b: b}
	a := asked(r.u8())
	c.Epoch = unkai.Epoch(r.u32())
	c.Bucket = unkai.Bucket(r.u16())
	c.Hash = r.u64()
	marks := r.u8()
	c.NoValue, c.Fetched = a != askAccept && marks&markNoValue != 0, a == askAccept && marks&markFetched != 0
	access := r.u32()
	c.Key = r.take(int(r.u8()))
	var ballot, next unkai.Ballot
	switch a {
	case askRead:
		c.Access = store.Access(access)
	case askPrepare:
		ballot = unkai.Ballot(r.u64())
	case askAccept:
		c.Accessed = access
		ballot, next = unkai.Ballot(r.u64()), unkai.Ballot(r.u64())
		c.Item = r.item()
	default:
		r.short = true
	}
	if r.short || len(r.b) > 0 || len(c.Key) == 0 || len(c.Key) > unkai.MaxKeyLen || a != askRead && ballot == 0 {
		return 0, errShort
	}
	if err := CheckReach(ballot, next); err != nil {
		return 0, err
	}
	c.Ballot, c.Next = ballot, next
	return a, nil
}

// maxErrorText is how much of an error another node is told, in bytes.
const maxErrorText = 200

func appendAnswer(dst []byte, a asked, c *Call) []byte {
	dst = append(dst, byte(c.Status))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(c.Epoch))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(c.Seen))
	marks := byte(0)
	if c.Err != nil {
		if errors.Is(c.Err, store.ErrFull) {
			marks |= markFull
		}
		text := c.Err.Error()
		return append(append(dst, marks), text[:min(len(text), maxErrorText)]...)
	}
	f := &c.Found
	if a == askAccept || c.Status != OK {
		return append(dst, marks)
	}
	if f.Fetched {
		marks |= markFetched
	}
	if f.Record.Tombstone {
		marks |= markTombstone
	}
	dst = append(dst, marks)
	dst = binary.LittleEndian.AppendUint32(dst, f.Accessed)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(f.Size))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(f.Record.Ballot))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(f.Record.Promise))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(f.Record.Epoch))
	if a == askPrepare {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(c.Forgot))
	}
	return appendItem(dst, &f.Record.Item)
}

// readAnswer reads an answer into c; values are appended to c.Buf.
func readAnswer(b []byte, a asked, c *Call) error {
	r := cursor{b: b}
	c.Status = Status(r.u8())
	epoch, seen := unkai.Epoch(r.u32()), unkai.Ballot(r.u64())
	marks := r.u8()
	if r.short || c.Status < OK || c.Status > Unknown {
		return errShort
	}
	if err := CheckReach(seen); err != nil {
		return err
	}
	c.Seen = seen
	if c.Status == Fenced {
		c.Epoch = epoch
	}
	if c.Status == Failed || c.Status == Unknown {
		c.Err = fmt.Errorf("%s", r.b)
		if marks&markFull != 0 {
			c.Err = fullElsewhere(r.b)
		}
		return nil
	}
	if a == askAccept || c.Status != OK {
		return nil
	}
	f := store.Found{Fetched: marks&markFetched != 0, Accessed: r.u32(), Size: int(r.u32())}
	f.Record.Ballot, f.Record.Promise = unkai.Ballot(r.u64()), unkai.Ballot(r.u64())
	f.Record.Epoch, f.Record.Tombstone = unkai.Epoch(r.u32()), marks&markTombstone != 0
	var forgot unkai.Ballot
	if a == askPrepare {
		forgot = unkai.Ballot(r.u64())
	}
	f.Record.Item = r.item()
	if r.short {
		return errShort
	}
	if err := CheckReach(f.Record.Ballot, f.Record.Promise, forgot); err != nil {
		return err
	}
	if a == askPrepare {
		c.Forgot = forgot
	}
	start := len(c.Buf)
	c.Buf = append(c.Buf, f.Record.Item.Value...)
	if len(c.Buf) > start {
		f.Record.Item.Value = c.Buf[start:]
	}
	c.Found = f
	return nil
}

// fullElsewhere is the error of a replica whose store is full.
type fullElsewhere string

func (e fullElsewhere) Error() string { return string(e) }

// Is makes it store.ErrFull.
func (e fullElsewhere) Is(target error) bool { return target == store.ErrFull }

// MemcacheText is what a client of memcached expects to be told.
func (e fullElsewhere) MemcacheText() string { return "out of memory storing object" }
