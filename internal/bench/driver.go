package bench

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

const (
	// receiveBuffer is large enough for the replies to most batches.
	receiveBuffer = 256 << 10
	// lookEvery is how often a driver looks for what does not come by itself:
	// an interruption, a reply that is overdue.
	lookEvery = 50 * time.Millisecond
)

// driver moves the bytes of a worker's sessions until the schedule is over and
// all replies have come or been given up.
type driver interface {
	run() error
	close()
}

// goroutineDriver has a goroutine for each connection. It runs everywhere, and
// costs up to twice what epoll does.
type goroutineDriver struct {
	worker *worker
	conns  []net.Conn
	mu     sync.Mutex // the goroutines share the worker
}

func newGoroutineDriver(w *worker, conns []net.Conn) driver {
	return &goroutineDriver{worker: w, conns: conns}
}

func (d *goroutineDriver) close() {
	for _, c := range d.conns {
		_ = c.Close() // nothing is lost with it
	}
}

func (d *goroutineDriver) run() error {
	var all sync.WaitGroup
	for i, s := range d.worker.sessions {
		if !s.gone {
			all.Go(func() { d.converse(s, d.conns[i]) })
		}
	}
	all.Wait()
	return nil
}

// converse runs one session to its end.
func (d *goroutineDriver) converse(s *session, conn net.Conn) {
	buf := make([]byte, min(receiveBuffer, 4096+s.load.Pipeline*(s.load.MaxValue+512)))
	for {
		d.mu.Lock()
		some := s.compose(d.worker.clock())
		d.mu.Unlock()
		if !some {
			if !d.sleep(s) {
				return
			}
			continue
		}
		if err := d.exchange(s, conn, buf); err != nil {
			d.mu.Lock()
			s.lose(err)
			d.mu.Unlock()
			return
		}
		if !s.idle() {
			return // interrupted
		}
	}
}

// sleep waits until the session's next request is due, and reports whether
// there will be one.
func (d *goroutineDriver) sleep(s *session) bool {
	p, now := d.worker.schedule, d.worker.clock()
	if !p.open() || p.over(now) || s.arrival >= p.limit {
		return false
	}
	time.Sleep(min(time.Duration(p.due(s.arrival)-now), lookEvery))
	return true
}

// exchange sends the batch and receives until it is answered, or nobody waits
// for that any more.
func (d *goroutineDriver) exchange(s *session, conn net.Conn, buf []byte) error {
	if err := conn.SetWriteDeadline(time.Now().Add(s.load.Timeout)); err != nil {
		return err
	}
	if len(s.out) > receiveBuffer {
		// The server may want to be read from before it takes all of it. If
		// that fails, the replies do not come, and reading says so.
		var sending sync.WaitGroup
		sending.Go(func() { _, _ = conn.Write(s.out) })
		defer sending.Wait()
	} else if _, err := conn.Write(s.out); err != nil {
		return err
	}
	for !s.idle() {
		if err := conn.SetReadDeadline(time.Now().Add(lookEvery)); err != nil {
			return err
		}
		n, err := conn.Read(buf)
		now := d.worker.clock()
		d.mu.Lock()
		if n > 0 {
			if problem := s.receive(buf[:n], now); problem != nil {
				err = problem
			}
		}
		overdue := s.overdue(now)
		d.mu.Unlock()
		switch {
		case overdue:
			return errNoReply
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case d.worker.schedule.abandoned(now):
			return nil
		}
	}
	return nil
}
