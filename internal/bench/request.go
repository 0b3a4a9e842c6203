package bench

import (
	"slices"
	"strconv"
)

// kind is what a request asks.
type kind uint8

const (
	get kind = iota
	set
	kinds // how many there are
)

func (k kind) String() string { return [...]string{"get", "set"}[k] }

// requests builds requests out of templates in which only the digits of the
// key change, and in a set the size. It is read-only and shared.
type requests struct {
	values     *values
	digits     int // of every key: the same number, so that templates fit
	keyLen     int
	get, set   []byte // up to the end of the get; up to the size of the set
	getAt      int    // where the digits begin
	setAt      int
	afterSize  string
	replyAfter int // where in the first line of a hit the key begins; -1: it is not there
}

func newRequests(l *Load) *requests {
	digits := len(strconv.Itoa(l.Keys - 1))
	blank := string(slices.Repeat([]byte{'0'}, digits))
	r := &requests{values: newValues(l.Seed), digits: digits, keyLen: len(l.Prefix) + digits, afterSize: "\r\n"}
	switch l.Protocol {
	case Meta:
		r.get = []byte("mg " + l.Prefix + blank + " v\r\n")
		r.set = []byte("ms " + l.Prefix + blank + " ")
		r.getAt, r.setAt, r.replyAfter = len("mg ")+len(l.Prefix), len("ms ")+len(l.Prefix), -1
	default:
		r.get = []byte("get " + l.Prefix + blank + "\r\n")
		r.set = []byte("set " + l.Prefix + blank + " 0 0 ")
		r.getAt, r.setAt, r.replyAfter = len("get ")+len(l.Prefix), len("set ")+len(l.Prefix), len("VALUE ")
	}
	return r
}

// appendGet appends a request for the value of key id.
func (r *requests) appendGet(dst []byte, id uint64) []byte {
	at := len(dst) + r.getAt
	dst = append(dst, r.get...)
	putDigits(dst[at:at+r.digits], id)
	return dst
}

// appendSet appends a request to store size bytes under key id.
func (r *requests) appendSet(dst []byte, id uint64, size int) []byte {
	at := len(dst) + r.setAt
	dst = append(dst, r.set...)
	putDigits(dst[at:at+r.digits], id)
	dst = strconv.AppendInt(dst, int64(size), 10)
	dst = append(dst, r.afterSize...)
	dst = r.values.append(dst, id, size)
	return append(dst, "\r\n"...)
}

// isKey reports whether b is the name of key id.
func (r *requests) isKey(b []byte, id uint64) bool {
	if len(b) != r.keyLen || string(b[:r.keyLen-r.digits]) != string(r.get[r.getAt-(r.keyLen-r.digits):r.getAt]) {
		return false
	}
	for i := len(b) - 1; i >= r.keyLen-r.digits; i-- {
		if b[i] != byte('0'+id%10) {
			return false
		}
		id /= 10
	}
	return id == 0
}

// putDigits writes id in decimal, with zeros in front to fill b.
func putDigits(b []byte, id uint64) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = byte('0' + id%10)
		id /= 10
	}
}
