package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// A frame on the wire, little-endian:
//
//	length  4  of all that follows the checksum
//	sum     4  crc32c of all that follows it
//	body
//	id      8  of the call; 0 for a beat
//	what    1
//	kind    1
//
// The checksum is there because TCP's lets one in 65,000 damaged segments pass.
// The body comes first so that its sum can be made before the id is known.
const (
	frameHead = 8
	frameTail = 10
	frameRest = frameHead + frameTail
)

// what a frame is.
type what uint8

const (
	question what = iota + 1
	answer
	refusal
	beat // says only that the sender is there
)

type frame struct {
	what what
	kind Kind
	id   uint64
	body []byte
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendFrame appends a frame to b.
func appendFrame(b []byte, f frame) []byte {
	at := len(b)
	b = append(b, make([]byte, frameHead)...)
	b = append(b, f.body...)
	b = f.appendTail(b)
	putHead(b[at:], crc32.Checksum(b[at+frameHead:], castagnoli))
	return b
}

func (f *frame) appendTail(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, f.id)
	return append(b, byte(f.what), byte(f.kind))
}

func putHead(b []byte, sum uint32) {
	binary.LittleEndian.PutUint32(b, uint32(len(b)-frameHead))
	binary.LittleEndian.PutUint32(b[4:], sum)
}

// packed is a large body on its way into a frame: what takes long is done, and
// what is known only under a lock is still missing.
type packed struct {
	b   []byte
	sum uint32
}

// pack is nothing for a body that is not large.
func pack(body []byte) (p packed) {
	if len(body) > LargeBody {
		p.b = make([]byte, frameHead+len(body), frameRest+len(body))
		copy(p.b[frameHead:], body)
		p.sum = crc32.Checksum(body, castagnoli)
	}
	return p
}

// seal makes the frame of a packed body.
func (p packed) seal(f frame) []byte {
	b := f.appendTail(p.b)
	putHead(b, crc32.Update(p.sum, castagnoli, b[len(p.b):]))
	return b
}

var (
	errLength   = errors.New("frame of impossible length")
	errChecksum = errors.New("frame with a wrong checksum")
	errWhat     = errors.New("frame of no known sort")
)

// parseFrame reads the frame that b begins with and says how long it is. When b
// does not hold all of it, size is how many bytes are needed to know more, and
// ok is false. The body is part of b.
func parseFrame(b []byte) (f frame, size int, ok bool, err error) {
	if len(b) < 4 {
		return f, frameRest, false, nil
	}
	n := int(binary.LittleEndian.Uint32(b))
	if n < frameTail || n > frameTail+MaxBody {
		return f, 0, false, fmt.Errorf("%w: %d", errLength, n)
	}
	size = frameHead + n
	if len(b) < size {
		return f, size, false, nil
	}
	if crc32.Checksum(b[frameHead:size], castagnoli) != binary.LittleEndian.Uint32(b[4:]) {
		return f, 0, false, errChecksum
	}
	tail := b[size-frameTail : size]
	f = frame{
		id:   binary.LittleEndian.Uint64(tail),
		what: what(tail[8]),
		kind: Kind(tail[9]),
		body: b[frameHead : size-frameTail : size-frameTail],
	}
	if f.what < question || f.what > beat {
		return f, 0, false, errWhat
	}
	return f, size, true, nil
}

// readBuffer is how much is asked for at once; a frame that is longer makes the
// buffer grow as its bytes come, and the buffer is given up after it.
const readBuffer = 64 << 10

// frameReader cuts what arrives into frames. It sets memory aside for bytes
// that came, never for a length that was announced.
type frameReader struct {
	src        io.Reader
	buf        []byte
	start, end int
}

// next is the next frame; its body is valid until the call after it.
func (r *frameReader) next() (frame, error) {
	for {
		f, size, ok, err := parseFrame(r.buf[r.start:r.end])
		if err != nil {
			return f, err
		}
		if ok {
			r.start += size
			return f, nil
		}
		r.makeRoom(size)
		n, err := r.src.Read(r.buf[r.end:])
		r.end += n
		if n > 0 {
			continue // an error comes again
		}
		if errors.Is(err, io.EOF) && r.end > r.start {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return f, err
		}
	}
}

// makeRoom sees to it that more of a frame of that size can be read.
func (r *frameReader) makeRoom(size int) {
	have := r.end - r.start
	switch {
	case len(r.buf) == 0 || len(r.buf) > readBuffer && have < readBuffer && size <= readBuffer:
		r.move(readBuffer)
	case have == len(r.buf):
		r.move(min(2*have, max(size, readBuffer)))
	case r.start > 0 && (have == 0 || r.start+size > len(r.buf)):
		copy(r.buf, r.buf[r.start:r.end])
		r.start, r.end = 0, have
	}
}

func (r *frameReader) move(size int) {
	buf := make([]byte, size)
	r.end = copy(buf, r.buf[r.start:r.end])
	r.buf, r.start = buf, 0
}
