package memcache

import (
	"unkai"
)

const (
	maxMetaFlags = 17
	maxOpaque    = 32

	badMetaFlags = "CLIENT_ERROR invalid or duplicate flag"
	badMetaToken = "CLIENT_ERROR bad token in command line format"
	badMetaKey   = "CLIENT_ERROR error decoding key"
	badOpaque    = "CLIENT_ERROR opaque token too long"
	manyFlags    = "CLIENT_ERROR options flags are too long"
)

// metaFlags are the flags of a meta command, as far as they say what to do.
// What they ask for in the reply is read again when the reply is made.
type metaFlags struct {
	value, quiet, noBump, base64, invalidate, drop bool
	mode                                           byte
	hasMode, hasCAS, hasExpiry, vivify             bool
	lastVivify, lastRecache                        bool // N, R came after T
	cas, newCAS, delta, initial, flags             uint64
	expiry, vivifyExpiry, recache                  int64
}

// parseMetaFlags reads flags; what is wrong with them is text for the client.
func (c *conn) parseMetaFlags(flags []byte) (f metaFlags, wrong string) {
	f.delta = 1
	var seen [4]uint32
	now := c.s.cfg.Now()
	if len(flags) > 2*maxMetaFlags && fields(flags, &[maxFields][]byte{}) > maxMetaFlags {
		return f, manyFlags
	}
	for {
		var token []byte
		if token, flags = nextToken(flags); len(token) == 0 {
			return f, ""
		}
		b, arg := token[0], token[1:]
		if b >= 127 {
			return f, "CLIENT_ERROR invalid flag"
		}
		if seen[b/32]&(1<<(b%32)) != 0 {
			return f, "CLIENT_ERROR duplicate flag"
		}
		seen[b/32] |= 1 << (b % 32)
		ok := true
		switch b {
		case 'O':
			if len(token) > maxOpaque {
				return f, badOpaque
			}
		case 'k', 's', 't', 'c', 'f', 'l', 'h', 'P', 'L':
		case 'v':
			f.value = true
		case 'q':
			f.quiet = true
		case 'u':
			f.noBump = true
		case 'b':
			f.base64 = true
		case 'I':
			f.invalidate = true
		case 'x':
			f.drop = true
		case 'N':
			f.vivify, f.lastVivify = true, true
			f.vivifyExpiry, ok = parseExpiry(arg, now)
		case 'T':
			f.hasExpiry, f.lastVivify, f.lastRecache = true, false, false
			f.expiry, ok = parseExpiry(arg, now)
		case 'R':
			f.lastRecache = true
			f.recache, ok = parseExpiry(arg, now)
		case 'C':
			f.hasCAS = true
			f.cas, ok = parseUint(arg)
		case 'E':
			f.newCAS, ok = parseUint(arg)
		case 'F':
			if f.flags, ok = parseUint(arg); !ok {
				return f, badFormat
			}
		case 'D':
			if f.delta, ok = parseUint(arg); !ok {
				return f, "CLIENT_ERROR invalid numeric delta value"
			}
		case 'J':
			if f.initial, ok = parseUint(arg); !ok {
				return f, "CLIENT_ERROR invalid numeric initial value"
			}
		case 'M':
			if len(arg) != 1 {
				return f, "CLIENT_ERROR incorrect length for M token"
			}
			f.mode, f.hasMode = arg[0], true
		default:
			return f, "CLIENT_ERROR invalid flag"
		}
		if !ok {
			return f, badMetaToken
		}
	}
}

func parseExpiry(b []byte, now int64) (int64, bool) {
	seconds, ok := parseInt(b)
	return expiry(seconds, now), ok
}

// created is the expiry of an item that the command makes: N's, or that of a T
// behind it.
func (f *metaFlags) created() int64 {
	if f.hasExpiry && !f.lastVivify {
		return f.expiry
	}
	return f.vivifyExpiry
}

// metaKey gives the key that a meta command means; nil: it says what is wrong.
func (c *conn) metaKey(token []byte, f *metaFlags) ([]byte, string) {
	if !f.base64 {
		return token, ""
	}
	start := len(c.scratch)
	var err error
	c.scratch, err = appendBase64(c.scratch, token)
	if err != nil || len(c.scratch) == start {
		c.scratch = c.scratch[:start]
		return nil, badMetaKey
	}
	return c.scratch[start:len(c.scratch):len(c.scratch)], ""
}

// metaBegin parses what the meta commands have in common. It returns nil when
// it has answered with what is wrong.
func (c *conn) metaBegin(fm format, rest []byte, wrongFlags string) (*unkai.Op, metaFlags) {
	token, flags := nextToken(rest)
	if len(token) == 0 {
		c.say("ERROR")
		return nil, metaFlags{}
	}
	if len(token) > unkai.MaxKeyLen {
		c.say(badFormat)
		return nil, metaFlags{}
	}
	f, wrong := c.parseMetaFlags(flags)
	var key []byte
	if wrong == "" {
		key, wrong = c.metaKey(token, &f)
	}
	if wrong != "" {
		if wrongFlags != "" && wrong != badOpaque && wrong != manyFlags {
			wrong = wrongFlags
		}
		c.say(wrong)
		return nil, f
	}
	q := c.begin(fm, f.quiet)
	q.flags, q.key, q.base64 = flags, token, f.base64
	return c.add(key), f
}

func (c *conn) metaGet(rest []byte) {
	op, f := c.metaBegin(metaGet, rest, "")
	if op == nil {
		return
	}
	op.Meta, op.NoValue, op.NoBump, op.Recache, op.NewCAS = true, !f.value, f.noBump, f.recache, f.newCAS
	op.Retouch, op.Expiry, op.RecacheLast = f.hasExpiry, f.expiry, f.lastRecache
	op.Vivify, op.VivifyExpiry = f.vivify, f.created()
}

func (c *conn) metaDelete(rest []byte) {
	op, f := c.metaBegin(metaDelete, rest, badMetaFlags)
	if op == nil {
		return
	}
	op.Kind = unkai.Delete
	op.Compare, op.CAS, op.NewCAS = f.hasCAS, f.cas, f.newCAS
	op.Invalidate, op.DropValue = f.invalidate, f.drop
	op.Retouch, op.Expiry = f.hasExpiry, f.expiry
}

func (c *conn) metaArithmetic(rest []byte) {
	op, f := c.metaBegin(metaNumber, rest, badMetaFlags)
	if op == nil {
		return
	}
	op.Kind = unkai.Increment
	switch {
	case !f.hasMode, f.mode == 'I', f.mode == 'i', f.mode == '+':
	case f.mode == 'D', f.mode == 'd', f.mode == '-':
		op.Kind = unkai.Decrement
	default:
		c.takeBack("CLIENT_ERROR invalid mode for ma M token")
		return
	}
	op.Delta, op.Initial, op.NewCAS = f.delta, f.initial, f.newCAS
	op.Compare, op.CAS = f.hasCAS, f.cas
	op.Retouch, op.Expiry = f.hasExpiry, f.expiry
	op.Vivify, op.VivifyExpiry = f.vivify, f.created()
}

// takeBack answers the last request with text instead.
func (c *conn) takeBack(text string) {
	c.requests = c.requests[:len(c.requests)-1]
	c.batch.Ops = c.batch.Ops[:len(c.batch.Ops)-1]
	c.say(text)
}

func (c *conn) metaDebug(rest []byte) {
	key, rest := nextToken(rest)
	// Of the flags memcached heeds b only, and what else there is it ignores.
	name, wrong := key, ""
	if len(key) > 0 && len(key) <= unkai.MaxKeyLen {
		key, wrong = c.metaKey(key, &metaFlags{base64: hasFlag(rest, 'b')})
	}
	if wrong != "" || len(key) == 0 || len(key) > unkai.MaxKeyLen {
		c.say(badFormat)
		return
	}
	c.begin(metaDebug, false).key = name
	op := c.add(key)
	op.NoValue, op.NoBump = true, true
}

// metaSet parses ms, which has a data block.
func (c *conn) metaSet(rest []byte, lineLen int) bool {
	token, rest := nextToken(rest)
	size, flags := nextToken(rest)
	if len(token) == 0 {
		c.r += lineLen
		c.say("ERROR")
		return true
	}
	length, ok := parseUint(size)
	if len(token) > unkai.MaxKeyLen || !ok || length > maxDeclared {
		c.r += lineLen
		c.say(badFormat)
		return true
	}
	f, wrong := c.parseMetaFlags(flags)
	scratch := len(c.scratch)
	var key []byte
	if wrong == "" {
		key, wrong = c.metaKey(token, &f)
	}
	kind := unkai.Set
	if wrong == "" {
		kind, ok = setMode(&f)
		if !ok {
			wrong = "CLIENT_ERROR invalid mode for ms M token"
		}
	}
	if wrong == "" && length > uint64(c.s.cfg.MaxValue) {
		c.count[storeTooLarge]++
		wrong = tooLarge
	}
	if wrong != "" {
		c.refuseValue(lineLen, int(length), wrong)
		return true
	}
	// As everything that goes wrong with an ms, also one with q.
	value, ended, complete := c.body(lineLen, int(length), noMemory)
	if !complete {
		c.scratch = c.scratch[:scratch]
		return false
	}
	c.r += lineLen + int(length) + 2
	if !ended {
		c.say(badChunk)
		return true
	}
	q := c.begin(metaSet, f.quiet)
	q.flags, q.key, q.base64 = flags, token, f.base64
	op := c.add(key)
	op.Kind, op.Value, op.Flags, op.Expiry = kind, value, uint32(f.flags), f.expiry
	op.Compare, op.CAS, op.NewCAS = f.hasCAS && kind != unkai.Add, f.cas, f.newCAS
	op.Invalidate = f.invalidate
	op.Vivify, op.VivifyExpiry = f.vivify, f.vivifyExpiry
	return true
}

func setMode(f *metaFlags) (unkai.Kind, bool) {
	if !f.hasMode {
		return unkai.Set, true
	}
	switch f.mode {
	case 'S', 's':
		return unkai.Set, true
	case 'E', 'e':
		return unkai.Add, true
	case 'R', 'r':
		return unkai.Replace, true
	case 'A', 'a':
		return unkai.Append, true
	case 'P', 'p':
		return unkai.Prepend, true
	}
	return 0, false
}
