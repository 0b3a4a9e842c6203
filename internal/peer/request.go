package peer

import "unkai"

// Request is a question that arrived. It and its Body belong to the handler
// until it calls Answer or Refuse, be it in Serve or long after, and never
// again from then on.
type Request struct {
	From unkai.NodeID
	Kind Kind
	Body []byte

	to Asker

	// What a Port's own requests carry.
	id    uint64
	begun int // bytes it was counted with
	own   []byte
}

// Asker takes the answer of a Request back to where it came from. It copies
// reply before it returns, and may use the Request again.
type Asker interface {
	Answered(q *Request, reply []byte, refused bool)
}

// NewRequest is a question for a Handler that did not come through a Port.
func NewRequest(from unkai.NodeID, k Kind, body []byte, to Asker) *Request {
	return &Request{From: from, Kind: k, Body: body, to: to}
}

// Answer answers the question; once, from any goroutine. reply is copied before
// it returns, and may be part of Body. It does not wait.
func (q *Request) Answer(reply []byte) { q.end(reply, false) }

// Refuse answers that the question was not acted on: the caller gets why as a
// *RemoteError. It takes the place of Answer.
func (q *Request) Refuse(why string) { q.end([]byte(why), true) }

func (q *Request) end(reply []byte, refused bool) {
	to := q.to
	if to == nil {
		panic("peer: a request was answered twice")
	}
	q.to = nil
	to.Answered(q, reply, refused)
}
