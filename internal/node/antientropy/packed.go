package antientropy

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"github.com/klauspost/compress/s2"

	"unkai"
)

// packing decides whether messages with records are compressed: only as long as it pays.
// The zero value is ready; it may be used by many at once.
type packing struct {
	skip atomic.Int32 // messages that go as they are, before it is tried again
}

const (
	// packFrom is from what length on a message is worth the trouble.
	packFrom = 1 << 10
	// packPays is by which part of itself a message has to become shorter: on a fast
	// network the processor is what there is too little of.
	packPays = 4
	// packSkip is how many messages are sent as they are after one that did not.
	packSkip = 31
	// maxUnpacked is the length of the longest message that is unpacked: a record of the
	// greatest size on top of a full message.
	maxUnpacked = unkai.MaxValueLen + 1<<20
)

// pack compresses a message of askBring into dst, as one of askBringPacked. False: it does
// not pay, and the message is to be sent as it is.
func (p *packing) pack(dst, message []byte) ([]byte, bool) {
	if len(message) < packFrom {
		return dst, false
	}
	for n := p.skip.Load(); n > 0; n = p.skip.Load() {
		if p.skip.CompareAndSwap(n, n-1) {
			return dst, false
		}
	}
	body := message[aboutLen:]
	need := aboutLen + s2.MaxEncodedLen(len(body))
	if cap(dst) < need {
		dst = make([]byte, need)
	}
	dst = dst[:need]
	copy(dst, message[:aboutLen])
	dst[0] = byte(askBringPacked)
	packed := s2.Encode(dst[aboutLen:], body)
	if len(packed) > len(body)-len(body)/packPays {
		p.skip.Store(packSkip)
		return dst, false
	}
	return dst[:aboutLen+len(packed)], true
}

// unpack is what was in a message, in dst if there is room.
func unpack(dst, packed []byte) ([]byte, error) {
	n, _ := binary.Uvarint(packed) // which says how long it is, before memory is taken for it
	if n > maxUnpacked {
		return nil, fmt.Errorf("unpack records: %d bytes are more than %d", n, maxUnpacked)
	}
	out, err := s2.Decode(dst[:cap(dst)], packed)
	if err != nil {
		return nil, fmt.Errorf("unpack records: %w", err)
	}
	return out, nil
}
