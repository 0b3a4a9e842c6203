package gateway

import (
	"sync"
	"sync/atomic"
	"time"

	"unkai"
	"unkai/internal/peer"
)

// Server has this node's coordinator do what the gateways of other nodes ask.
// It is a peer.Handler. Use NewServer.
type Server struct {
	local   Coordinator
	queue   chan *peer.Request
	workers atomic.Int64
	stop    chan struct{}
	running sync.WaitGroup
	mu      sync.Mutex // of closed, and of running while it is not
	closed  bool
}

const (
	// maxWorkers bounds the batches of other nodes that run at once.
	maxWorkers = 4096
	// workerRest is how long a worker waits for work before it ends.
	workerRest = 10 * time.Second
	// maxReply is how many bytes of values one answer may hold, but for the
	// last of them.
	maxReply = 1 << 20
)

// NewServer is a server for a coordinator.
func NewServer(local Coordinator) *Server {
	return &Server{local: local, queue: make(chan *peer.Request), stop: make(chan struct{})}
}

// Serve implements peer.Handler.
func (s *Server) Serve(q *peer.Request) {
	select {
	case s.queue <- q:
		return
	default:
	}
	if s.workers.Add(1) > maxWorkers {
		s.workers.Add(-1)
		q.Refuse(errOverload.Error())
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		s.workers.Add(-1)
		q.Refuse(errStopped.Error())
		return
	}
	s.running.Go(func() { s.work(q) })
}

// Close waits for what runs. What comes later is refused.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	close(s.stop)
	s.running.Wait()
}

func (s *Server) work(q *peer.Request) {
	defer s.workers.Add(-1)
	var b unkai.Batch
	var reply []byte
	rest := time.NewTimer(workerRest)
	defer rest.Stop()
	for {
		reply = s.answer(q, &b, reply[:0])
		if cap(reply) > 2*maxReply {
			reply, b = nil, unkai.Batch{}
		}
		rest.Reset(workerRest)
		select {
		case q = <-s.queue:
		case <-rest.C:
			return
		case <-s.stop:
			return
		}
	}
}

func (s *Server) answer(q *peer.Request, b *unkai.Batch, reply []byte) []byte {
	b.Reset()
	b.Room = maxReply
	if err := readOps(q.Body, b); err != nil {
		q.Refuse(err.Error())
		return reply
	}
	s.local.Do(b)
	reply = append(reply, wireVersion)
	for i := range b.Results {
		reply = appendResult(reply, &b.Results[i])
	}
	q.Answer(reply)
	return reply
}
