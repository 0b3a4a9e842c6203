package replica

import (
	"fmt"
	"sync"
	"time"

	"unkai"
	"unkai/internal/peer"
)

// Remote is the replica of another node. It is safe for concurrent use.
type Remote struct {
	network peer.Network
	to      unkai.NodeID
	timeout time.Duration
}

// NewRemote is the replica of a node, which has so long for each answer.
func NewRemote(network peer.Network, to unkai.NodeID, timeout time.Duration) *Remote {
	return &Remote{network: network, to: to, timeout: timeout}
}

// Read is Local.Read at that node.
func (r *Remote) Read(c *Call) bool { return r.ask(askRead, c) }

// Prepare is Local.Prepare at that node.
func (r *Remote) Prepare(c *Call) bool { return r.ask(askPrepare, c) }

// Accept is Local.Accept at that node.
func (r *Remote) Accept(c *Call) bool { return r.ask(askAccept, c) }

// trip is a Call on its way to another node and back.
type trip struct {
	peer.Call
	asked asked
	call  *Call
	to    unkai.NodeID
}

var trips = sync.Pool{New: func() any { return new(trip) }}

func (r *Remote) ask(a asked, c *Call) bool {
	c.Status, c.Err = Pending, nil
	t := trips.Get().(*trip)
	t.asked, t.call, t.to = a, c, r.to
	t.Kind, t.Timeout, t.Done = peer.Replica, r.timeout, t
	t.Body = appendQuestion(t.Body[:0], a, c)
	c.stage.Store(stageStarted)
	r.network.Call(r.to, &t.Call)
	return c.told()
}

// maxTripKept is how large a buffer a pooled trip keeps, in bytes.
const maxTripKept = 64 << 10

// CallDone implements peer.Done.
func (t *trip) CallDone(*peer.Call) {
	c := t.call
	err := t.Err
	if err == nil {
		err = readAnswer(t.Reply, t.asked, c)
	}
	if err != nil {
		c.Status, c.Err = Failed, fmt.Errorf("node %v: %w", t.to, err)
		if t.asked != askRead && peer.Sent(err) {
			c.Status = Unknown
		}
	}
	t.call, t.Err = nil, nil
	if cap(t.Body)+cap(t.Reply) > maxTripKept {
		*t = trip{}
	}
	trips.Put(t)
	c.finish()
}

// Server answers for a replica what other nodes ask. It is a peer.Handler.
type Server struct {
	Replica *Local
	// Behind hears of a node that knows a newer topology. It must not block.
	Behind func(unkai.NodeID)
}

// visit is a Call of another node.
type visit struct {
	Call
	asked   asked
	request *peer.Request
}

var visits = sync.Pool{New: func() any { return new(visit) }}

// Serve implements peer.Handler.
func (s *Server) Serve(q *peer.Request) {
	v := visits.Get().(*visit)
	v.request = q
	v.Answered, v.Buf, v.Item = v, v.Buf[:0], unkai.Item{}
	a, err := readQuestion(q.Body, &v.Call)
	if err == nil && int(v.Bucket) >= s.Replica.topology().Buckets {
		err = errShort
	}
	if err != nil {
		q.Refuse(err.Error())
		v.recycle()
		return
	}
	v.asked = a
	epoch := v.Epoch
	var now bool
	switch a {
	case askRead:
		now = s.Replica.Read(&v.Call)
	case askPrepare:
		now = s.Replica.Prepare(&v.Call)
	default:
		now = s.Replica.Accept(&v.Call)
	}
	if !now {
		return
	}
	if v.Status == Fenced && epoch > v.Epoch {
		s.Behind(q.From)
	}
	v.CallAnswered(&v.Call)
}

// CallAnswered implements Answered.
func (v *visit) CallAnswered(*Call) {
	buf := answers.Get().(*[]byte)
	*buf = appendAnswer((*buf)[:0], v.asked, &v.Call)
	v.request.Answer(*buf)
	if cap(*buf) <= maxTripKept {
		answers.Put(buf)
	}
	v.recycle()
}

var answers = sync.Pool{New: func() any { return new([]byte) }}

func (v *visit) recycle() {
	v.request = nil
	v.Forget()
	if cap(v.Buf) > maxTripKept {
		v.Buf = nil
	}
	visits.Put(v)
}
