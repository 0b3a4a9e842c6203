package peer

import (
	"errors"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// How a connection is judged, in ticks of the Port. Time is counted in ticks
// that really came, so that a node which was itself asleep judges nobody.
const (
	tick       = 10 * time.Millisecond
	beatAfter  = int64(150 * time.Millisecond / tick) // nothing sent: send a beat
	deadAfter  = int64(500 * time.Millisecond / tick) // nothing heard: it is dead
	stuckAfter = int64(5 * time.Second / tick)        // one piece would not go out: too
)

const (
	maxGather  = 16 << 20  // bytes that may wait to be written; a single frame may be longer
	keepGather = 1 << 20   // a buffer beyond it is not used again
	piece      = 256 << 10 // of one Write, so that progress can be seen
)

var (
	errSilent  = errors.New("nothing was heard for half a second")
	errStuck   = errors.New("nothing could be sent for five seconds")
	errStopped = errors.New("this node is stopping")
	errDrained = errors.New("all was sent before this node stops")
	errHungUp  = errors.New("the other side hung up")
	errUnused  = errors.New("it was not used any more")
)

// wire is what both ends of a connection have: frames gather in a buffer, and
// one goroutine writes all that gathered since its last write. It yields once
// before it begins, and otherwise nothing waits for more to come: what makes
// the writes longer is load.
type wire struct {
	ticks *atomic.Int64 // the Port's

	mu      sync.Mutex
	c       net.Conn  // nil while it is being dialled
	ready   sync.Cond // the writer waits for frames
	room    sync.Cond // the reader waits until less is open
	blocked bool      // it does
	gather  []byte
	spare   []byte
	large   [][]byte // frames too long to be copied under the lock
	waiting int      // bytes of both
	batch   uint64   // number of the bytes that gather
	idle    bool     // the writer waits
	closed  bool
	drained bool  // write what is there, then end
	cause   error // why it ended
	count   Stats

	mine, theirs uint64 // the clusters as the handshake had them

	up      atomic.Bool  // it is connected and has not ended
	reading atomic.Int64 // the tick since which the reader waits; 0: it does not
	writing atomic.Int64 // the tick since which a piece is being written; 0: none
	wrote   atomic.Int64 // the tick of the last write
}

func (w *wire) init(ticks *atomic.Int64) {
	w.ticks = ticks
	w.ready.L, w.room.L = &w.mu, &w.mu
	w.wrote.Store(ticks.Load())
}

// full reports whether n more bytes are too many. One frame always has room.
func (w *wire) full(n int) bool { return w.waiting > 0 && w.waiting+n > maxGather }

// put adds a frame, whose body may be packed; w.mu is held. Frames have no
// order among themselves.
func (w *wire) put(f frame, p packed) {
	if p.b != nil {
		w.large = append(w.large, p.seal(f))
	} else {
		w.gather = appendFrame(w.gather, f)
	}
	w.waiting += frameRest + len(f.body)
	if w.idle {
		w.idle = false
		w.ready.Signal()
	}
}

func (w *wire) wakeReader() {
	if w.blocked {
		w.blocked = false
		w.room.Signal()
	}
}

// Read reads for the frameReader. While it waits the other node can be judged
// by its silence.
func (w *wire) Read(b []byte) (int, error) {
	w.reading.Store(w.ticks.Load())
	n, err := w.c.Read(b)
	w.reading.Store(0)
	w.mu.Lock()
	w.count.BytesIn += int64(n)
	w.mu.Unlock()
	return n, err
}

// write sends what gathers until the wire is closed or drained.
func (w *wire) write() error {
	for {
		w.mu.Lock()
		for w.waiting == 0 && !w.closed && !w.drained {
			w.idle = true
			w.ready.Wait()
			w.mu.Unlock()
			runtime.Gosched() // who woke it is about to put more, and so are others
			w.mu.Lock()
		}
		w.idle = false
		if w.closed || w.waiting == 0 {
			w.mu.Unlock()
			return errDrained
		}
		out, large := w.gather, w.large
		w.count.BytesOut += int64(w.waiting)
		w.gather, w.spare, w.large, w.waiting = w.spare, nil, nil, 0
		w.batch++
		w.wakeReader()
		w.mu.Unlock()

		if err := w.writeAll(out); err != nil {
			return err
		}
		for _, b := range large {
			if err := w.writeAll(b); err != nil {
				return err
			}
		}
		if cap(out) <= keepGather {
			w.mu.Lock()
			w.spare = out[:0]
			w.mu.Unlock()
		}
	}
}

func (w *wire) writeAll(out []byte) error {
	for len(out) > 0 {
		now := w.ticks.Load()
		w.writing.Store(now)
		w.wrote.Store(now)
		n, err := w.c.Write(out[:min(len(out), piece)])
		w.writing.Store(0)
		if err != nil {
			return err
		}
		out = out[n:]
	}
	return nil
}

// judge says what is wrong with the other node, if anything, and sees to it
// that it can judge this one.
func (w *wire) judge(now int64) error {
	if r := w.reading.Load(); r != 0 {
		if now-r >= deadAfter {
			return errSilent
		}
	} else if s := w.writing.Load(); s != 0 && now-s >= stuckAfter {
		return errStuck // a reader that has no room cannot tell by silence
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting == 0 && now-w.wrote.Load() >= beatAfter {
		w.put(frame{what: beat}, packed{})
	}
	return nil
}

// run carries frames over c until the wire ends, and says why it did.
func (w *wire) run(c net.Conn, read func() error) error {
	w.mu.Lock()
	w.c = c
	closed := w.closed
	w.mu.Unlock()
	if closed {
		_ = c.Close()
		return w.cause
	}
	w.up.Store(true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := w.write(); !errors.Is(err, errDrained) || !hangUp(c) {
			w.abort(err)
		}
	}()
	w.abort(read())
	<-done
	return w.cause
}

// abort ends the wire at once, because of err.
func (w *wire) abort(err error) {
	w.up.Store(false)
	w.mu.Lock()
	if !w.closed {
		w.closed, w.cause = true, err
	}
	c := w.c
	w.ready.Signal()
	w.wakeReader()
	w.mu.Unlock()
	if c != nil {
		_ = c.Close()
	}
}

// hangUp says that nothing more will be sent. The other side then closes the
// connection; if this one did, what it has not read could cost the other what
// was sent last.
func hangUp(c net.Conn) bool {
	half, ok := c.(interface{ CloseWrite() error })
	return ok && half.CloseWrite() == nil
}

// drain ends the wire when all that gathered has been written.
func (w *wire) drain() {
	w.mu.Lock()
	w.drained = true
	w.ready.Signal()
	w.wakeReader()
	w.mu.Unlock()
}
