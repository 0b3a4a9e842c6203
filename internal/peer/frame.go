package peer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"unkai"
)

// A frame is 4 bytes of length, of what follows; 8 of the call's id; 1 that says
// what it is; for a question 1 for its kind; and the body. Little-endian.
const (
	frameQuestion = 1 + iota
	frameAnswer
	frameRefusal
	framePing
	framePong
	frameBye // no further questions, please: this end is closing
)

const (
	frameHead = 4 + 8 + 1
	// maxFrame is the longest frame, in bytes: the longest value, and a mebibyte
	// for what goes with it.
	maxFrame = unkai.MaxValueLen + 1<<20
	// readStep is how much memory is set aside at a time for a long body, so that
	// it grows with what arrives and not with what was announced.
	readStep = 256 << 10
)

func appendFrame(dst []byte, what byte, id uint64, kind Kind, body ...[]byte) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.LittleEndian.AppendUint64(dst, id)
	dst = append(dst, what)
	if what == frameQuestion {
		dst = append(dst, byte(kind))
	}
	for _, b := range body {
		dst = append(dst, b...)
	}
	binary.LittleEndian.PutUint32(dst[start:], uint32(len(dst)-start-4))
	return dst
}

// frame is what a frame says before its body.
type frame struct {
	what byte
	kind Kind
	id   uint64
	body int // bytes that follow
}

var errFrame = errors.New("a frame is not well formed")

// readFrame reads all of a frame but its body.
func readFrame(r *bufio.Reader) (frame, error) {
	head, err := r.Peek(frameHead)
	if err != nil {
		return frame{}, err
	}
	n := binary.LittleEndian.Uint32(head)
	f := frame{id: binary.LittleEndian.Uint64(head[4:]), what: head[12], body: int(n) - (frameHead - 4)}
	if n < frameHead-4 || n > maxFrame || f.what < frameQuestion || f.what > frameBye {
		return frame{}, errFrame
	}
	if _, err := r.Discard(frameHead); err != nil {
		return frame{}, err
	}
	if f.what != frameQuestion {
		return f, nil
	}
	if f.body < 1 {
		return frame{}, errFrame
	}
	kind, err := r.ReadByte()
	f.kind, f.body = Kind(kind), f.body-1
	return f, err
}

// readBody appends a body of n bytes to dst.
func readBody(r *bufio.Reader, dst []byte, n int) ([]byte, error) {
	for n > 0 {
		step := min(n, readStep)
		start := len(dst)
		if cap(dst)-start < step {
			larger := make([]byte, start, min(start+n, 2*start+step))
			dst = append(larger[:0], dst...)
		}
		dst = dst[:start+step]
		if _, err := io.ReadFull(r, dst[start:]); err != nil {
			return dst[:start], err
		}
		n -= step
	}
	return dst, nil
}

// The handshake: each side says who it is, the one that has dialled first. An
// answer with an error ends the connection.
const (
	magic = "unkai"
	// The versions of this protocol that this program speaks. The lower one's
	// highest is spoken.
	oldestVersion, newestVersion = 1, 1
	// introLen is the length of an introduction before its text, in bytes.
	introLen = len(magic) + 2 + 8 + 8 + 8 + 1
)

// intro is what a side says of itself.
type intro struct {
	oldest, newest byte
	cluster        uint64 // 0: it is not a member yet
	self           unkai.NodeID
	wanted         unkai.NodeID // who the dialling side believes to reach; 0: anybody
	refusal        string
}

func (i *intro) encode() []byte {
	text := i.refusal[:min(len(i.refusal), 255)]
	b := append([]byte(magic), i.oldest, i.newest)
	b = binary.LittleEndian.AppendUint64(b, i.cluster)
	b = binary.LittleEndian.AppendUint64(b, uint64(i.self))
	b = binary.LittleEndian.AppendUint64(b, uint64(i.wanted))
	return append(append(b, byte(len(text))), text...)
}

func readIntro(r io.Reader) (intro, error) {
	var b [introLen + 255]byte
	if _, err := io.ReadFull(r, b[:introLen]); err != nil {
		return intro{}, err
	}
	if string(b[:len(magic)]) != magic {
		return intro{}, errors.New("it does not speak the language of Unkai's nodes")
	}
	p := b[len(magic):]
	i := intro{
		oldest: p[0], newest: p[1], cluster: binary.LittleEndian.Uint64(p[2:]),
		self: unkai.NodeID(binary.LittleEndian.Uint64(p[10:])), wanted: unkai.NodeID(binary.LittleEndian.Uint64(p[18:])),
	}
	text := b[introLen : introLen+int(p[26])]
	if _, err := io.ReadFull(r, text); err != nil {
		return intro{}, err
	}
	i.refusal = string(text)
	return i, nil
}

// check says what speaks against a conversation with the other side.
func (i *intro) check(self unkai.NodeID, cluster uint64) error {
	switch {
	case i.newest < oldestVersion || i.oldest > newestVersion:
		return fmt.Errorf("it speaks versions %d to %d of the protocol, this node %d to %d: upgrade the older one", i.oldest, i.newest, oldestVersion, newestVersion)
	case i.cluster != 0 && cluster != 0 && i.cluster != cluster:
		return fmt.Errorf("it belongs to cluster %016x, this node to %016x", i.cluster, cluster)
	case i.self == 0:
		return errors.New("it has no node id")
	case i.self == self:
		return errors.New("it has this node's own id: one data directory was copied, or the address is this node's")
	}
	return nil
}
