package bench

import (
	"bytes"
	"fmt"
	"strconv"
)

// maxLine bounds the lines of a server: the longest holds a key.
const maxLine = 2048

// outcome is what a reply says.
type outcome uint8

const (
	unfinished outcome = iota
	hit                // or stored
	miss
	wrong   // a hit with something that was never stored under that key
	refused // an error line: replies.text
)

// replies reads what a server answers, in pieces as they come. The zero value
// with requests is ready for the first line of a reply.
type replies struct {
	*requests
	verify bool

	part  []byte // a line that has not ended yet
	size  int    // of the value that is being read
	left  int    // bytes of it and of its line end still to come
	inEnd bool   // a value is over, its END is still to come
	bad   bool   // the value is not that of its key
	text  []byte // of the error; aliases what was read
}

// next reads from b on until the reply to a request for key id is complete, and
// returns what follows it. An error means that the server does not speak the
// protocol; nothing can be read after it.
func (r *replies) next(k kind, id uint64, b []byte) (outcome, []byte, error) {
	for len(b) > 0 {
		if r.left > 0 {
			n := min(r.left, len(b))
			if err := r.body(id, b[:n]); err != nil {
				return 0, nil, err
			}
			b = b[n:]
			if r.left -= n; r.left > 0 {
				break
			}
			if !r.inEnd {
				return r.found(), b, nil
			}
			continue
		}
		line, rest, ok, err := r.line(b)
		if err != nil || !ok {
			return unfinished, nil, err
		}
		b = rest
		o, err := r.judge(k, id, line)
		r.part = r.part[:0] // line may alias it, and is read
		if err != nil || o != unfinished {
			return o, b, err
		}
	}
	return unfinished, nil, nil
}

// line is the first line of b, without its end, with what came of it before.
func (r *replies) line(b []byte) (line, rest []byte, ok bool, err error) {
	n := bytes.IndexByte(b, '\n')
	if n < 0 {
		if len(r.part)+len(b) > maxLine {
			return nil, nil, false, fmt.Errorf("the server sent a line longer than %d bytes", maxLine)
		}
		r.part = append(r.part, b...)
		return nil, nil, false, nil
	}
	line, rest = b[:n], b[n+1:]
	if len(r.part) > 0 {
		r.part = append(r.part, line...)
		line = r.part
	}
	if n = len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return line, rest, true, nil
}

// judge takes a line of the reply to a request of that kind. It is unfinished
// if a value or its END follows.
func (r *replies) judge(k kind, id uint64, line []byte) (outcome, error) {
	switch {
	case r.inEnd:
		if string(line) != "END" {
			return 0, unexpected("END", line)
		}
		r.inEnd = false
		return r.found(), nil
	case k == set && (string(line) == "STORED" || string(line) == "HD"):
		return hit, nil
	case k == get && len(line) > 2 && line[0] == 'V' && line[1] == 'A':
		return unfinished, r.value(id, line)
	case k == get && (string(line) == "END" || string(line) == "EN"):
		return miss, nil
	case isError(line):
		r.text = line
		return refused, nil
	}
	return 0, unexpected("the reply to a "+k.String(), line)
}

// value takes the line that announces a value.
func (r *replies) value(id uint64, line []byte) error {
	size := line[3:] // VA <size>
	r.bad = false
	if r.replyAfter >= 0 { // VALUE <key> <flags> <size>
		end := r.replyAfter + r.keyLen
		if len(line) < end+3 || line[end] != ' ' {
			return unexpected("a value", line)
		}
		r.bad = r.verify && !r.isKey(line[r.replyAfter:end], id)
		size = line[end+1:]
		size = size[bytes.IndexByte(size, ' ')+1:]
		r.inEnd = true
	}
	n := 0
	for _, c := range size {
		if c < '0' || c > '9' || n > MaxValue {
			return unexpected("the size of a value", line)
		}
		n = n*10 + int(c-'0')
	}
	if len(size) == 0 || n > MaxValue {
		return unexpected("the size of a value", line)
	}
	r.size, r.left = n, n+len("\r\n")
	return nil
}

// body takes the next bytes of a value and its line end.
func (r *replies) body(id uint64, b []byte) error {
	at := r.size + len("\r\n") - r.left
	if inside := min(len(b), r.size-at); inside > 0 {
		if r.verify && !r.bad {
			r.bad = !r.values.matches(id, at, b[:inside])
		}
		at, b = at+inside, b[inside:]
	}
	if len(b) > 0 && string(b) != "\r\n"[at-r.size:][:len(b)] {
		return unexpected("the end of a value", b)
	}
	return nil
}

func (r *replies) found() outcome {
	if r.bad {
		return wrong
	}
	return hit
}

func isError(line []byte) bool {
	kind, _, _ := bytes.Cut(line, []byte{' '})
	return string(kind) == "SERVER_ERROR" || string(kind) == "CLIENT_ERROR" || string(kind) == "ERROR"
}

func unexpected(want string, got []byte) error {
	return fmt.Errorf("want %s, the server sent %s", want, strconv.Quote(string(got[:min(len(got), 80)])))
}
