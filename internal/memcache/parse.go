package memcache

import "math"

// nextToken splits off the first word of a line; words are parted by spaces
// only. The word is empty at the end.
func nextToken(line []byte) (token, rest []byte) {
	i := 0
	for i < len(line) && line[i] == ' ' {
		i++
	}
	start := i
	for i < len(line) && line[i] != ' ' {
		i++
	}
	return line[start:i], line[i:]
}

// maxFields is more words than any command but a get can have.
const maxFields = 8

// fields splits a line into words, of which it gives the first few, and counts
// them.
func fields(line []byte, out *[maxFields][]byte) int {
	n := 0
	for {
		var token []byte
		token, line = nextToken(line)
		if len(token) == 0 {
			return n
		}
		if n < maxFields {
			out[n] = token
		}
		n++
	}
}

// parseUint reads an unsigned number of up to 64 bits.
func parseUint(b []byte) (uint64, bool) {
	if len(b) > 0 && b[0] == '+' {
		b = b[1:]
	}
	if len(b) == 0 {
		return 0, false
	}
	n := uint64(0)
	for _, d := range b {
		d -= '0'
		if d > 9 || n > (math.MaxUint64-uint64(d))/10 {
			return 0, false
		}
		n = n*10 + uint64(d)
	}
	return n, true
}

// parseInt reads a number with a sign.
func parseInt(b []byte) (int64, bool) {
	negative := len(b) > 1 && b[0] == '-'
	if negative {
		b = b[1:]
		if b[0] == '+' {
			return 0, false
		}
	}
	n, ok := parseUint(b)
	if !ok || n > math.MaxInt64 {
		return 0, false
	}
	if negative {
		return -int64(n), true
	}
	return int64(n), true
}

const (
	// relativeLimit is the largest expiry that counts from now, in seconds.
	relativeLimit = 60 * 60 * 24 * 30
	// longAgo is a moment that has passed for every clock, and is not never.
	longAgo = 1
)

// expiry makes a moment in milliseconds of a client's expiry in seconds: 0 is
// never, up to thirty days count from now, more is a moment, and what is
// negative has passed.
func expiry(seconds, now int64) int64 {
	switch {
	case seconds == 0:
		return 0
	case seconds < 0:
		return longAgo
	case seconds <= relativeLimit:
		return now + seconds*1000
	case seconds > math.MaxInt64/1000:
		return math.MaxInt64
	}
	return seconds * 1000
}

func hasFlag(flags []byte, f byte) bool {
	for {
		var token []byte
		token, flags = nextToken(flags)
		if len(token) == 0 {
			return false
		}
		if token[0] == f {
			return true
		}
	}
}
