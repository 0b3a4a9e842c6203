package peer

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"unkai"
)

// inbound is a connection that another node has made, to ask questions on it.
type inbound struct {
	port *Port
	nc   net.Conn
	from unkai.NodeID
	wake chan struct{} // something is to be written
	free chan struct{} // there is room for more requests
	done chan struct{} // the connection has ended

	open    atomic.Int64 // requests not answered
	held    atomic.Int64 // bytes of them
	mu      sync.Mutex
	out     []byte
	busyOut bool // some of it is being written
	gone    bool
}

func (in *inbound) serve() {
	p := in.port
	defer p.running.Done()
	defer func() {
		_ = in.nc.Close() // nothing is left to be said
		p.mu.Lock()
		delete(p.incoming, in)
		p.mu.Unlock()
	}()
	if p.cfg.TLS != nil {
		in.nc = tls.Server(in.nc, p.cfg.TLS)
	}
	r := bufio.NewReaderSize(in.nc, smallBuffer)
	if err := in.greet(r); err != nil {
		p.cfg.Log.Debug("a connection was refused", "from", in.nc.RemoteAddr(), "err", err)
		return
	}
	writer := make(chan struct{})
	go func() {
		defer close(writer)
		in.write()
	}()
	err := in.read(r)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		p.cfg.Log.Debug("a connection of another node ended", "node", in.from.String(), "err", err)
	}
	in.mu.Lock()
	in.gone = true
	in.mu.Unlock()
	close(in.done)
	<-writer
}

// greet is the answering side's part of the handshake.
func (in *inbound) greet(r *bufio.Reader) error {
	p := in.port
	if err := in.nc.SetDeadline(time.Now().Add(handshakeTime)); err != nil {
		return err
	}
	who, err := readIntro(r)
	if err != nil {
		return err
	}
	me := intro{oldest: oldestVersion, newest: newestVersion, cluster: p.cfg.Cluster(), self: p.cfg.Self}
	bad := who.check(p.cfg.Self, me.cluster)
	if bad == nil && who.wanted != 0 && who.wanted != p.cfg.Self {
		bad = errors.New("another node was at this address before")
	}
	if bad != nil {
		me.refusal = bad.Error()
	}
	if _, err := in.nc.Write(me.encode()); err != nil {
		return errors.Join(bad, err)
	}
	in.from = who.self
	return errors.Join(bad, in.nc.SetDeadline(time.Time{}))
}

// request is a Request with memory of its own, which answers on the connection
// it came by.
type request struct {
	Request
	body []byte
	in   *inbound
}

var requests = sync.Pool{New: func() any { return new(request) }}

func (in *inbound) read(r *bufio.Reader) error {
	p := in.port
	for {
		f, err := readFrame(r)
		if err != nil {
			return err
		}
		p.stats.received.Add(int64(f.body + frameHead))
		if f.what == framePing {
			if err := in.put(framePong, f.id, nil); err != nil {
				return err
			}
		}
		if f.what != frameQuestion {
			if _, err := r.Discard(f.body); err != nil {
				return err
			}
			continue
		}
		q := requests.Get().(*request)
		q.body, err = readBody(r, q.body[:0], f.body)
		if err != nil {
			return err
		}
		q.in, q.From, q.Kind, q.Body, q.ID, q.Back = in, in.from, f.kind, q.body, f.id, q
		in.open.Add(1)
		in.held.Add(int64(len(q.body)))
		for in.busy() { // whoever asks so much waits
			select {
			case <-in.free:
			case <-p.ctx.Done():
				return p.ctx.Err()
			}
		}
		if f.kind >= kinds || p.handlers[f.kind] == nil {
			q.Refuse("it does not know such questions")
			continue
		}
		p.handlers[f.kind].Serve(&q.Request)
	}
}

// Respond implements Responder.
func (q *request) Respond(_ *Request, reply []byte, refusal string) {
	in := q.in
	what := byte(frameAnswer)
	if refusal != "" {
		what, reply = frameRefusal, []byte(refusal)
	}
	in.port.stats.served.Add(1)
	err := in.put(what, q.ID, reply)
	in.open.Add(-1)
	in.held.Add(-int64(len(q.body)))
	select {
	case in.free <- struct{}{}:
	default:
	}
	if err != nil {
		_ = in.nc.Close() // its asker does not read
	}
	if cap(q.body) <= smallBuffer {
		q.in = nil
		requests.Put(q)
	}
}

// busy reports whether the requests of the connection are too many, or, more than
// one, too long together.
func (in *inbound) busy() bool {
	n := in.open.Load()
	return n > maxOutstanding || n > 1 && in.held.Load() > maxHeld
}

var errSlow = errors.New("it does not read what it asked for")

// said reports whether every request was answered and every answer written.
func (in *inbound) said() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.gone || in.open.Load() == 0 && len(in.out) == 0 && !in.busyOut
}

// put appends a frame to what is to be written.
func (in *inbound) put(what byte, id uint64, body []byte) error {
	in.mu.Lock()
	if in.gone {
		in.mu.Unlock()
		return nil
	}
	if len(in.out) > maxQueued {
		in.mu.Unlock()
		return errSlow
	}
	in.out = appendFrame(in.out, what, id, 0, body)
	in.mu.Unlock()
	select {
	case in.wake <- struct{}{}:
	default:
	}
	return nil
}

// write sends what waits, all of it at once.
func (in *inbound) write() {
	var buf []byte
	for {
		select {
		case <-in.wake:
		case <-in.done:
			return
		}
		in.mu.Lock()
		buf, in.out = in.out, buf[:0]
		in.busyOut = len(buf) > 0
		in.mu.Unlock()
		if len(buf) == 0 {
			continue
		}
		err := in.nc.SetWriteDeadline(time.Now().Add(writeTime))
		if err == nil {
			_, err = in.nc.Write(buf)
		}
		if err != nil {
			_ = in.nc.Close() // the reader learns of it
			return
		}
		in.mu.Lock()
		in.busyOut = false
		in.mu.Unlock()
		in.port.stats.sent.Add(int64(len(buf)))
		if cap(buf) > 4*smallBuffer {
			buf = nil
		}
	}
}
