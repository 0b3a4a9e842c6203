package memcache

import (
	"encoding/base64"
	"errors"
	"strconv"
	"strings"

	"unkai"
)

// request is how to answer some of a batch's operations.
type request struct {
	format format
	quiet  bool // noreply, or the meta flag q
	base64 bool
	first  int // of its operations
	ops    int
	flags  []byte // of a meta command, as they came
	key    []byte // of a meta command, as it came
	text   string // of an answer that needs no operation
}

// format is which kind of reply a request gets.
type format uint8

const (
	plain format = iota // text, and no operations
	values
	valuesWithCAS
	partOfValues // values of which more follow in another batch
	partWithCAS
	stored
	deleted
	touched
	number
	metaGet
	metaSet
	metaDelete
	metaNumber
	metaDebug
)

// say answers with a line, when its turn comes.
func (c *conn) say(text string) {
	c.requests = append(c.requests, request{format: plain, text: text, first: len(c.batch.Ops)})
}

// endReply ends a request's reply, after those of its operations.
func (c *conn) endReply(q *request) {
	switch q.format {
	case plain:
		if q.text != "" {
			c.line(q.text)
		}
	case values, valuesWithCAS:
		if !c.cut {
			c.out = append(c.out, "END\r\n"...)
		}
		c.cut = false
	}
}

// ofValues reports whether a request of that format is a get of the classic protocol.
func (f format) ofValues() bool { return f >= values && f <= partWithCAS }

// meta reports whether a request of that format came by the meta protocol.
func (f format) meta() bool { return f >= metaGet }

func (c *conn) line(text string) {
	c.out = append(c.out, text...)
	c.out = append(c.out, '\r', '\n')
}

// reply answers one operation.
func (c *conn) reply(q *request, i int) {
	op, res := &c.batch.Ops[i], &c.batch.Results[i]
	c.count.result(op, res)
	if q.format.meta() {
		c.count[cmdMeta]++
	}
	if q.format.ofValues() && c.cut {
		return
	}
	if res.Err != nil {
		c.fail(q, res)
		c.cut = q.format.ofValues()
		return
	}
	switch q.format {
	case values, partOfValues:
		c.value(op, res, false)
	case valuesWithCAS, partWithCAS:
		c.value(op, res, true)
	case stored:
		c.short(q, res.Status, "STORED")
	case deleted:
		c.short(q, res.Status, "DELETED")
	case touched:
		c.short(q, res.Status, "TOUCHED")
	case number:
		if res.Status == unkai.OK && !q.quiet {
			c.out = strconv.AppendUint(c.out, res.Number, 10)
			c.out = append(c.out, '\r', '\n')
			return
		}
		c.short(q, res.Status, "")
	default:
		c.meta(q, op, res)
	}
}

func (c *conn) value(op *unkai.Op, res *unkai.Result, withCAS bool) {
	if res.Status != unkai.OK {
		return
	}
	out := c.out
	out = append(out, "VALUE "...)
	out = append(out, op.Key...)
	out = append(out, ' ')
	out = strconv.AppendUint(out, uint64(res.Item.Flags), 10)
	out = append(out, ' ')
	out = strconv.AppendUint(out, uint64(len(res.Item.Value)), 10)
	if withCAS {
		out = append(out, ' ')
		out = strconv.AppendUint(out, res.Item.CAS, 10)
	}
	out = append(out, '\r', '\n')
	c.out = out
	c.data(res.Item.Value)
}

const (
	notNumber = "CLIENT_ERROR cannot increment or decrement non-numeric value"
	tooLarge  = "SERVER_ERROR object too large for cache"
)

func (c *conn) short(q *request, s unkai.Status, ok string) {
	if q.quiet {
		return
	}
	switch s {
	case unkai.OK:
		c.line(ok)
	case unkai.Miss:
		c.line("NOT_FOUND")
	case unkai.Exists:
		c.line("EXISTS")
	case unkai.NotStored:
		c.line("NOT_STORED")
	case unkai.NotNumber:
		c.line(notNumber)
	default:
		c.line(tooLarge)
	}
}

// textError is an error that says how memcached would put it.
type textError interface{ MemcacheText() string }

// maxError is how much of an error a client is told, in bytes.
const maxError = 200

// fail answers an operation that went wrong. A client that wants no replies
// gets none of these either, as from memcached.
func (c *conn) fail(q *request, res *unkai.Result) {
	c.s.total.failures.Add(1)
	if res.Status == unkai.InDoubt {
		c.s.total.doubts.Add(1)
	}
	if q.quiet && !q.format.meta() {
		return
	}
	var te textError
	var text string
	switch {
	case errors.Is(res.Err, errNoRoom{}):
		text = noReadMemory
	case res.Status == unkai.InDoubt: // some replica may have it, whatever others say
		text = "in doubt: " + res.Err.Error()
	case errors.As(res.Err, &te):
		text = te.MemcacheText()
	default:
		text = "not applied: " + res.Err.Error()
	}
	text = strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, text)
	c.out = append(c.out, "SERVER_ERROR "...)
	c.line(text[:min(len(text), maxError)])
}

// metaStatus is the two letters that begin a meta reply.
func metaStatus(q *request, res *unkai.Result) string {
	switch res.Status {
	case unkai.OK:
		return "HD"
	case unkai.Miss:
		if q.format == metaGet || q.format == metaDebug {
			return "EN"
		}
		return "NF"
	case unkai.Exists:
		return "EX"
	default:
		return "NS"
	}
}

// hush reports whether a quiet meta command says nothing of this outcome.
func hush(q *request, res *unkai.Result) bool {
	if !q.quiet {
		return false
	}
	switch q.format {
	case metaGet:
		return res.Status == unkai.Miss
	case metaNumber:
		return res.Status == unkai.OK && !res.Created
	default:
		return res.Status == unkai.OK
	}
}

func (c *conn) meta(q *request, op *unkai.Op, res *unkai.Result) {
	if res.Status == unkai.NotNumber {
		c.line(notNumber)
		return
	}
	if hush(q, res) {
		return
	}
	if q.format == metaDebug {
		c.debug(q, op, res)
		return
	}
	ok := res.Status == unkai.OK
	withValue := ok && (q.format == metaGet && !op.NoValue || q.format == metaNumber && hasFlag(q.flags, 'v'))
	var digits [20]byte
	number := digits[:0]
	switch {
	case withValue && q.format == metaNumber:
		number = strconv.AppendUint(number, res.Number, 10)
		c.out = append(c.out, "VA "...)
		c.out = strconv.AppendUint(c.out, uint64(len(number)), 10)
	case withValue:
		c.out = append(c.out, "VA "...)
		c.out = strconv.AppendUint(c.out, uint64(len(res.Item.Value)), 10)
	default:
		c.out = append(c.out, metaStatus(q, res)...)
	}
	c.metaFlags(q, op, res, ok)
	if ok && q.format == metaGet {
		if res.WonBefore {
			c.out = append(c.out, " Z"...)
		}
		if res.Item.Stale {
			c.out = append(c.out, " X"...)
		}
		if res.Won {
			c.out = append(c.out, " W"...)
		}
	}
	c.out = append(c.out, '\r', '\n')
	switch {
	case withValue && q.format == metaNumber:
		c.out = append(append(c.out, number...), '\r', '\n')
	case withValue:
		c.data(res.Item.Value)
	}
}

// metaFlags answers the flags that ask for something, in the order in which
// they came. A t before a T tells the older time to live.
func (c *conn) metaFlags(q *request, op *unkai.Op, res *unkai.Result, ok bool) {
	expiry := expiryAtFirst(op, res)
	for flags := q.flags; ; {
		var f []byte
		if f, flags = nextToken(flags); len(f) == 0 {
			return
		}
		switch f[0] {
		case 'O':
			c.out = append(append(c.out, ' '), f...)
			continue
		case 'k':
			c.out = append(append(c.out, " k"...), q.key...)
			if q.base64 {
				c.out = append(c.out, " b"...)
			}
			continue
		case 'T':
			expiry = op.Expiry
			continue
		case 'N':
			if res.Created {
				expiry, _ = parseExpiry(f[1:], c.s.cfg.Now()) // it was read before
			}
			continue
		}
		if q.format == metaSet {
			if f[0] == 'c' {
				cas := uint64(0)
				if ok {
					cas = res.Item.CAS
				}
				c.out = strconv.AppendUint(append(c.out, " c"...), cas, 10)
			}
			continue
		}
		if !ok || q.format == metaDelete {
			continue
		}
		switch f[0] {
		case 'c':
			c.out = strconv.AppendUint(append(c.out, " c"...), res.Item.CAS, 10)
		case 't':
			c.out = append(c.out, " t"...)
			c.out = strconv.AppendInt(c.out, timeLeft(expiry, c.s.cfg.Now()), 10)
		}
		if q.format != metaGet {
			continue
		}
		switch f[0] {
		case 's':
			c.out = strconv.AppendInt(append(c.out, " s"...), int64(res.Size), 10)
		case 'f':
			c.out = strconv.AppendUint(append(c.out, " f"...), uint64(res.Item.Flags), 10)
		case 'h':
			h := byte('0')
			if res.Fetched {
				h = '1'
			}
			c.out = append(c.out, ' ', 'h', h)
		case 'l':
			c.out = strconv.AppendInt(append(c.out, " l"...), sinceAccess(res, c.s.cfg.Now()), 10)
		}
	}
}

// expiryAtFirst is the expiry before any flag has changed it.
func expiryAtFirst(op *unkai.Op, res *unkai.Result) int64 {
	switch {
	case res.Created:
		return 0
	case op.Retouch:
		return res.ExpiryBefore
	}
	return res.Item.Expiry
}

// timeLeft is the seconds until a moment; -1: never.
func timeLeft(expiry, now int64) int64 {
	if expiry == 0 {
		return -1
	}
	return max((expiry-now+999)/1000, 0)
}

func sinceAccess(res *unkai.Result, now int64) int64 {
	if res.Accessed == 0 {
		return 0
	}
	return max(now/1000-int64(res.Accessed), 0)
}

// debug answers me, with the time to live negated as memcached 1.6.18 has it.
// The class is always 1: there are no slab classes.
func (c *conn) debug(q *request, op *unkai.Op, res *unkai.Result) {
	if res.Status != unkai.OK {
		c.line("EN")
		return
	}
	now := c.s.cfg.Now()
	c.out = append(append(c.out, "ME "...), q.key...)
	exp := timeLeft(res.Item.Expiry, now)
	if exp > 0 {
		exp = -exp
	}
	c.out = strconv.AppendInt(append(c.out, " exp="...), exp, 10)
	c.out = strconv.AppendInt(append(c.out, " la="...), sinceAccess(res, now), 10)
	c.out = strconv.AppendUint(append(c.out, " cas="...), res.Item.CAS, 10)
	fetch := " fetch=no"
	if res.Fetched {
		fetch = " fetch=yes"
	}
	c.out = append(c.out, fetch...)
	c.out = strconv.AppendInt(append(c.out, " cls=1 size="...), int64(len(op.Key)+res.Size), 10)
	c.out = append(c.out, '\r', '\n')
}

func appendBase64(dst, src []byte) ([]byte, error) { return base64.StdEncoding.AppendDecode(dst, src) }
