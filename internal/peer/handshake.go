package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"unkai"
)

// The versions of what travels after the handshake that this node can speak.
const (
	oldestVersion = 2
	newestVersion = 2
)

// lane is what a connection is for.
type lane uint8

const (
	small   lane = iota // calls
	bulk                // large ones
	meeting             // none: who is there?
)

// hello is what both sides say first, little-endian:
//
//	magic 4, length of the rest 2, oldest 1, newest 1, lane 1, verdict 1,
//	cluster 8, self 8, want 8, run 8
//
// Later versions may append to it: what is longer is read and left alone. Its
// first byte tells our connections from others on the same port.
type hello struct {
	oldest, newest uint8
	lane           lane
	verdict        verdict
	cluster        uint64       // 0: not a member of any yet
	self           unkai.NodeID // who speaks
	want           unkai.NodeID // who is expected to listen; 0: whoever it is
	run            uint64       // chosen when the process began
}

const (
	firstByte = 0xea
	helloHead = 6
	helloRest = 36
	maxHello  = 1024
)

var magic = [4]byte{firstByte, 'u', 'n', 'k'}

// verdict is what the listener decides about a connection.
type verdict uint8

const (
	welcome verdict = iota
	wrongVersion
	wrongCluster
	wrongNode // not the one who is wanted
	sameID    // another process has the caller's id
	yourself
)

// ErrOtherCluster says that a node belongs to another cluster than this one.
var ErrOtherCluster = errors.New("another cluster")

// A refused handshake.
var (
	errNotOurs      = errors.New("that does not speak our protocol")
	errWrongVersion = errors.New("no common version of the protocol")
	errWrongNode    = errors.New("another node than expected is there")
	errSameID       = errors.New("two nodes have the same id")
	errYourself     = errors.New("that is this node itself")
)

func (h *hello) append(b []byte) []byte {
	b = append(b, magic[:]...)
	b = binary.LittleEndian.AppendUint16(b, helloRest)
	b = append(b, h.oldest, h.newest, byte(h.lane), byte(h.verdict))
	b = binary.LittleEndian.AppendUint64(b, h.cluster)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.self))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.want))
	return binary.LittleEndian.AppendUint64(b, h.run)
}

func readHello(r io.Reader) (h hello, err error) {
	var buf [maxHello]byte
	head := buf[:helloHead]
	if _, err := io.ReadFull(r, head); err != nil {
		return h, fmt.Errorf("reading the other's hello: %w", err)
	}
	n := int(binary.LittleEndian.Uint16(head[4:]))
	if [4]byte(head) != magic || n < helloRest || n > maxHello {
		return h, errNotOurs
	}
	b := buf[:n]
	if _, err := io.ReadFull(r, b); err != nil {
		return h, fmt.Errorf("reading the other's hello: %w", err)
	}
	return hello{
		oldest: b[0], newest: b[1], lane: lane(b[2]), verdict: verdict(b[3]),
		cluster: binary.LittleEndian.Uint64(b[4:]),
		self:    unkai.NodeID(binary.LittleEndian.Uint64(b[12:])),
		want:    unkai.NodeID(binary.LittleEndian.Uint64(b[20:])),
		run:     binary.LittleEndian.Uint64(b[28:]),
	}, nil
}

// hello is what this node says of itself.
func (p *Port) hello() hello {
	return hello{
		oldest: oldestVersion, newest: newestVersion,
		cluster: p.cfg.Cluster(), self: p.cfg.Self, run: p.run,
	}
}

// version is the highest that both speak, 0 if there is none.
func version(a, b *hello) uint8 {
	v := min(a.newest, b.newest)
	if v < a.oldest || v < b.oldest {
		return 0
	}
	return v
}

// judgeHello is the listener's decision, as far as it follows from the hellos.
func judgeHello(mine, theirs *hello) verdict {
	switch {
	case version(mine, theirs) == 0:
		return wrongVersion
	case mine.cluster != 0 && theirs.cluster != 0 && mine.cluster != theirs.cluster:
		return wrongCluster
	case mine.self == theirs.self && mine.run == theirs.run:
		return yourself
	case mine.self == theirs.self || theirs.self == 0:
		return sameID
	case theirs.want != 0 && theirs.want != mine.self:
		return wrongNode
	}
	return welcome
}

// explain makes an error of a verdict; mine and theirs are seen from the side
// that reports it.
func explain(v verdict, mine, theirs *hello) error {
	switch v {
	case welcome:
		return nil
	case wrongVersion:
		return fmt.Errorf("%w: this node speaks %d to %d, the other %d to %d",
			errWrongVersion, mine.oldest, mine.newest, theirs.oldest, theirs.newest)
	case wrongCluster:
		return fmt.Errorf("%w: this node belongs to %016x, the other to %016x",
			ErrOtherCluster, mine.cluster, theirs.cluster)
	case wrongNode:
		if mine.want == 0 { // the other has dialled
			return fmt.Errorf("%w: it wants %s, and this is %s", errWrongNode, theirs.want, mine.self)
		}
		return fmt.Errorf("%w: it is %s", errWrongNode, theirs.self)
	case sameID:
		return fmt.Errorf("%w: %s and %s", errSameID, mine.self, theirs.self)
	case yourself:
		return errYourself
	}
	return fmt.Errorf("refused, with code %d", v)
}

// greet is the dialler's side of the handshake.
func (p *Port) greet(c net.Conn, l lane, want unkai.NodeID) (mine, theirs hello, err error) {
	mine = p.hello()
	mine.lane, mine.want = l, want
	if _, err = c.Write(mine.append(nil)); err != nil {
		return mine, theirs, fmt.Errorf("saying hello: %w", err)
	}
	if theirs, err = readHello(c); err != nil {
		return mine, theirs, err
	}
	v := theirs.verdict
	if v == welcome {
		v = judgeHello(&mine, &theirs) // both look
	}
	if v == welcome && want != 0 && theirs.self != want {
		v = wrongNode
	}
	return mine, theirs, explain(v, &mine, &theirs)
}
