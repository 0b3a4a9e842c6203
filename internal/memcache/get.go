package memcache

import (
	"bytes"

	"unkai"
)

// keyList is the rest of a get with more keys than one batch takes; nil: there
// is none.
type keyList struct{ rest []byte }

// keys parses the keys of a get, or with retouch those of a gat.
func (c *conn) keys(f format, rest []byte, lineLen int, retouch bool, expiry int64) bool {
	if c.list.rest != nil {
		rest = c.list.rest
	} else if wrong := wrongKeys(rest, retouch); wrong != "" {
		c.r += lineLen
		c.say(wrong)
		return true
	}
	c.begin(f, false)
	for len(c.batch.Ops) < maxOps {
		var key []byte
		if key, rest = nextToken(rest); len(key) == 0 {
			c.list.rest = nil
			c.r += lineLen
			return true
		}
		op := c.add(key)
		op.Retouch, op.Expiry = retouch, expiry
	}
	// The line stays where it is, and the next batch goes on with it.
	c.list.rest = rest
	if len(rest) == 0 {
		c.list.rest = rest[:0:0]
	}
	c.requests[len(c.requests)-1].format = part(f)
	return true
}

// wrongKeys says what is wrong with the keys of a get or gat, if anything.
func wrongKeys(keys []byte, mayBeNone bool) string {
	keys = bytes.TrimLeft(keys, " ")
	if len(keys) == 0 && !mayBeNone {
		return "ERROR"
	}
	for len(keys) > unkai.MaxKeyLen { // a shorter rest can have no longer key
		var key []byte
		if key, keys = nextToken(keys); len(key) > unkai.MaxKeyLen {
			return badFormat
		}
	}
	return ""
}

// part is the format of a list of values that goes on.
func part(f format) format {
	if f == valuesWithCAS {
		return partWithCAS
	}
	return partOfValues
}

func (c *conn) getAndTouch(withCAS bool, rest []byte, lineLen int) bool {
	f := values
	if withCAS {
		f = valuesWithCAS
	}
	token, rest := nextToken(rest)
	if len(token) == 0 {
		c.r += lineLen
		c.say("ERROR")
		return true
	}
	seconds, ok := parseInt(token)
	if !ok {
		c.r += lineLen
		c.say(badExpiry)
		return true
	}
	return c.keys(f, rest, lineLen, true, expiry(seconds, c.s.cfg.Now()))
}
