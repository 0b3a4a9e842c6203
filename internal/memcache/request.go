package memcache

import "bytes"

// parse reads one request, if all of it is there. What it returns, if anything,
// has to run when everything before it was answered.
func (c *conn) parse() (special func(), complete bool) {
	data := c.buf[c.r:c.w]
	if data[0] == binaryMagic {
		c.s.cfg.Log.Debug("a client speaks the binary protocol, which this version does not", "client", c.nc.RemoteAddr())
		c.quit = true
		return nil, false
	}
	end := bytes.IndexByte(data, '\n')
	long := end
	if end < 0 {
		long = len(data)
	}
	if long > maxLine && (long > maxKeysLine || !isKeysLine(data)) {
		c.quit = true // as memcached does with a line that has no end
		return nil, false
	}
	if end < 0 {
		return nil, false
	}
	line := data[:end]
	if end > 0 && line[end-1] == '\r' {
		line = line[:end-1]
	}
	return c.command(line, end+1)
}

// isKeysLine reports whether a line begins like a command that may name many
// keys.
func isKeysLine(line []byte) bool {
	line = bytes.TrimLeft(line, " ")
	for _, name := range [...]string{"get ", "gets ", "gat ", "gats "} {
		if len(line) >= len(name) && string(line[:len(name)]) == name {
			return true
		}
	}
	return false
}

// body gives the data block of n bytes that follows a line, if all of it is
// there. The bytes behind it must end the line. Refusal is what to say, if
// anything, should there be no memory for it.
func (c *conn) body(lineLen, n int, refusal string) (value []byte, ended, complete bool) {
	data := c.buf[c.r:c.w]
	total := lineLen + n + 2
	if len(data) < total {
		c.need, c.refusal = total, refusal
		return nil, false, false
	}
	value = data[lineLen : lineLen+n : lineLen+n]
	return value, data[total-2] == '\r' && data[total-1] == '\n', true
}

// refuseValue answers a request whose data block will not be taken, and throws
// the block away.
func (c *conn) refuseValue(lineLen, n int, text string) {
	c.r += lineLen
	c.skip = n + 2
	if text != "" {
		c.say(text)
	}
}
