package memcache

import (
	"errors"

	"unkai"
)

const (
	badFormat = "CLIENT_ERROR bad command line format"
	badChunk  = "CLIENT_ERROR bad data chunk"
	badExpiry = "CLIENT_ERROR invalid exptime argument"
	badDelta  = "CLIENT_ERROR invalid numeric delta argument"
	badDelete = "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]"
)

// command parses one request, whose line of lineLen bytes (its end included) is
// there. It reports false, and has done nothing, when the data block that
// belongs to it is not.
func (c *conn) command(line []byte, lineLen int) (special func(), complete bool) {
	name, rest := nextToken(line)
	switch string(name) {
	case "get":
		return nil, c.keys(values, rest, lineLen, false, 0)
	case "gets":
		return nil, c.keys(valuesWithCAS, rest, lineLen, false, 0)
	case "gat", "gats":
		return nil, c.getAndTouch(string(name) == "gats", rest, lineLen)
	case "set":
		return nil, c.update(unkai.Set, false, rest, lineLen)
	case "add":
		return nil, c.update(unkai.Add, false, rest, lineLen)
	case "replace":
		return nil, c.update(unkai.Replace, false, rest, lineLen)
	case "append":
		return nil, c.update(unkai.Append, false, rest, lineLen)
	case "prepend":
		return nil, c.update(unkai.Prepend, false, rest, lineLen)
	case "cas":
		return nil, c.update(unkai.Set, true, rest, lineLen)
	case "ms":
		return nil, c.metaSet(rest, lineLen)
	}
	c.r += lineLen
	switch string(name) {
	case "incr":
		c.arithmetic(unkai.Increment, rest)
	case "decr":
		c.arithmetic(unkai.Decrement, rest)
	case "delete":
		c.remove(rest)
	case "touch":
		c.touch(rest)
	case "mg":
		c.metaGet(rest)
	case "md":
		c.metaDelete(rest)
	case "ma":
		c.metaArithmetic(rest)
	case "me":
		c.metaDebug(rest)
	case "mn":
		c.say("MN")
	case "version":
		c.say("VERSION " + c.s.cfg.Version)
	case "verbosity":
		c.verbosity(rest)
	case "quit":
		c.quit = true
	case "flush_all":
		return c.flushAll(rest), true
	case "stats":
		section := string(rest)
		return func() { c.stats(section) }, true
	case "shutdown":
		c.say("ERROR: shutdown not enabled")
	default:
		c.say("ERROR")
	}
	return nil, true
}

// add puts an operation of the present request into the batch.
func (c *conn) add(key []byte) *unkai.Op {
	op := c.batch.Add()
	op.Key = key
	c.requests[len(c.requests)-1].ops++
	return op
}

// begin starts a request whose operations follow.
func (c *conn) begin(f format, quiet bool) *request {
	c.requests = append(c.requests, request{format: f, quiet: quiet, first: len(c.batch.Ops)})
	return &c.requests[len(c.requests)-1]
}

func isNoreply(token []byte) bool { return string(token) == "noreply" }

// update parses the commands that store a value.
func (c *conn) update(kind unkai.Kind, cas bool, rest []byte, lineLen int) bool {
	var f [maxFields][]byte
	n := fields(rest, &f)
	want := 4
	if cas {
		want = 5
	}
	if n != want && n != want+1 {
		c.r += lineLen
		c.say("ERROR")
		return true
	}
	quiet := isNoreply(f[n-1])
	complain := func(text string) string {
		if quiet {
			return ""
		}
		return text
	}
	flags, ok1 := parseUint(f[1])
	seconds, ok2 := parseInt(f[2])
	length, ok3 := parseUint(f[3])
	unique, ok4 := uint64(0), true
	if cas {
		unique, ok4 = parseUint(f[4])
	}
	if len(f[0]) > unkai.MaxKeyLen || !ok1 || !ok2 || !ok3 || !ok4 || length > maxDeclared {
		c.r += lineLen
		c.say(complain(badFormat))
		return true
	}
	if length > uint64(c.s.cfg.MaxValue) {
		c.count[storeTooLarge]++
		c.refuseValue(lineLen, int(length), complain(tooLarge))
		return true
	}
	value, ended, ok := c.body(lineLen, int(length), complain(noMemory))
	if !ok {
		return false
	}
	c.r += lineLen + int(length) + 2
	if !ended {
		c.say(complain(badChunk))
		return true
	}
	c.begin(stored, quiet)
	op := c.add(f[0])
	op.Kind, op.Value, op.Flags, op.Expiry = kind, value, uint32(flags), expiry(seconds, c.s.cfg.Now())
	op.Compare, op.CAS = cas, unique
	return true
}

// maxDeclared is the largest length of a value that memcached can read.
const maxDeclared = 1<<31 - 3

func (c *conn) arithmetic(kind unkai.Kind, rest []byte) {
	var f [maxFields][]byte
	n := fields(rest, &f)
	if n != 2 && n != 3 {
		c.say("ERROR")
		return
	}
	quiet := isNoreply(f[n-1])
	delta, ok := parseUint(f[1])
	switch {
	case len(f[0]) > unkai.MaxKeyLen:
		c.complain(quiet, badFormat)
	case !ok:
		c.complain(quiet, badDelta)
	default:
		c.begin(number, quiet)
		op := c.add(f[0])
		op.Kind, op.Delta = kind, delta
	}
}

// complain says what is wrong, unless the client wants no replies.
func (c *conn) complain(quiet bool, text string) {
	if !quiet {
		c.say(text)
	}
}

func (c *conn) remove(rest []byte) {
	var f [maxFields][]byte
	n := fields(rest, &f)
	if n < 1 || n > 3 {
		c.say("ERROR")
		return
	}
	quiet := isNoreply(f[n-1])
	if n > 1 {
		zero := string(f[1]) == "0"
		if n == 2 && !zero && !quiet || n == 3 && (!zero || !quiet) {
			c.complain(quiet, badDelete)
			return
		}
	}
	if len(f[0]) > unkai.MaxKeyLen {
		c.complain(quiet, badFormat)
		return
	}
	c.begin(deleted, quiet)
	c.add(f[0]).Kind = unkai.Delete
}

func (c *conn) touch(rest []byte) {
	var f [maxFields][]byte
	n := fields(rest, &f)
	if n != 2 && n != 3 {
		c.say("ERROR")
		return
	}
	quiet := isNoreply(f[n-1])
	seconds, ok := parseInt(f[1])
	switch {
	case len(f[0]) > unkai.MaxKeyLen:
		c.complain(quiet, badFormat)
	case !ok:
		c.complain(quiet, badExpiry)
	default:
		c.begin(touched, quiet)
		op := c.add(f[0])
		op.Kind, op.Expiry = unkai.Touch, expiry(seconds, c.s.cfg.Now())
	}
}

// verbosity is taken and does nothing: logs have a level of their own.
func (c *conn) verbosity(rest []byte) {
	var f [maxFields][]byte
	n := fields(rest, &f)
	if n == 0 || n > 2 {
		c.say("ERROR")
		return
	}
	quiet := isNoreply(f[n-1])
	if _, ok := parseUint(f[0]); !ok && (!quiet || n > 1) {
		c.complain(quiet, badFormat)
		return
	}
	c.complain(quiet, "OK")
}

func (c *conn) flushAll(rest []byte) func() {
	var f [maxFields][]byte
	n := fields(rest, &f)
	if n > 2 {
		c.say("ERROR")
		return nil
	}
	quiet := n > 0 && isNoreply(f[n-1])
	at := c.s.cfg.Now()
	if n == 2 || n == 1 && !quiet {
		seconds, ok := parseInt(f[0])
		if !ok {
			c.complain(quiet, badExpiry)
			return nil
		}
		if seconds > 0 {
			at = expiry(seconds, at)
		}
	}
	return func() {
		c.count[cmdFlush]++
		if err := c.s.cfg.FlushAll(at); err != nil {
			res := unkai.Result{Status: unkai.InDoubt, Err: err}
			if none := (NotApplied{}); errors.As(err, &none) {
				res = unkai.Result{Status: unkai.Failed, Err: none.Err}
			} else {
				c.s.cfg.Log.Error("flush_all failed", "err", err)
			}
			if !quiet {
				c.fail(&request{}, &res)
			}
			return
		}
		if !quiet {
			c.line("OK")
		}
	}
}
