package bench

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// timerEvent stands for the timer among the numbers of sessions.
const timerEvent = -1

// epollDriver serves all connections of its worker from one goroutine with an
// epoll instance of its own. Go's poller would wake a goroutine for every
// reply, which costs the client as much as the server spends on the request.
type epollDriver struct {
	worker *worker
	epoll  int
	timer  int   // wakes it when a request of an open loop is due
	fds    []int // by session; -1: closed
	rest   [][]byte
	events []unix.EpollEvent
	buf    []byte
	busy   int // sessions that wait for replies
	alive  int // sessions with a connection
	// patient: others may use the processor before it looks for replies.
	patient bool

	arrivals int64 // of an open loop: how many requests have been due
}

func newDriver(w *worker, conns []net.Conn) (driver, error) {
	if len(w.sessions) > 0 && w.sessions[0].load.goroutines {
		return newGoroutineDriver(w, conns), nil
	}
	d := &epollDriver{
		worker: w,
		epoll:  -1,
		timer:  -1,
		rest:   make([][]byte, len(conns)),
		events: make([]unix.EpollEvent, min(len(conns)+1, 1024)),
		buf:    make([]byte, receiveBuffer),
	}
	if err := d.open(conns); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// open takes the connections over from Go's poller. It closes all of conns.
func (d *epollDriver) open(conns []net.Conn) (err error) {
	for _, c := range conns {
		fd, e := takeOver(c)
		err = errors.Join(err, e)
		d.fds = append(d.fds, fd)
	}
	if err != nil {
		return err
	}
	if d.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	if d.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return os.NewSyscallError("timerfd_create", err)
	}
	if err = d.watch(d.timer, timerEvent, unix.EPOLLIN); err != nil {
		return err
	}
	for i, fd := range d.fds {
		if err = d.watch(fd, i, unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLRDHUP); err != nil {
			return err
		}
	}
	d.alive = len(d.fds)
	return nil
}

// watch is edge-triggered: one call for each file, ever.
func (d *epollDriver) watch(fd, number int, events uint32) error {
	e := unix.EpollEvent{Events: events | unix.EPOLLET, Fd: int32(number)}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(d.epoll, unix.EPOLL_CTL_ADD, fd, &e))
}

// takeOver returns a descriptor of the connection that Go's poller does not
// know of, and closes the connection.
func takeOver(c net.Conn) (fd int, err error) {
	fd = -1
	defer func() { err = errors.Join(err, c.Close()) }()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return fd, fmt.Errorf("take over connection: %w", err)
	}
	var dup error
	err = raw.Control(func(s uintptr) { fd, dup = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(err, os.NewSyscallError("fcntl", dup)); err != nil {
		return -1, fmt.Errorf("take over connection: %w", err)
	}
	return fd, nil
}

func (d *epollDriver) close() {
	for i := range d.fds {
		d.closeSession(i)
	}
	for _, fd := range []int{d.timer, d.epoll} {
		if fd >= 0 {
			_ = unix.Close(fd) // nothing is lost with it
		}
	}
}

func (d *epollDriver) closeSession(i int) {
	if d.fds[i] >= 0 {
		_ = unix.Close(d.fds[i]) // nothing is lost with it
		d.fds[i] = -1
	}
}

func (d *epollDriver) run() error {
	w := d.worker
	d.busy, d.arrivals = 0, 0
	d.patient = !w.schedule.open() && w.sessions[0].load.Pipeline > 1
	d.wakeAll()
	look := w.clock() + int64(lookEvery)
	for {
		now := w.clock()
		more, err := d.wakeDue(now)
		if err != nil || !more && d.busy == 0 {
			return err
		}
		if now >= look {
			look = now + int64(lookEvery)
			if d.look(now); w.schedule.abandoned(now) {
				return nil
			}
		}
		if d.patient {
			// A server that answers a batch in many small pieces gets time for
			// more of them: that halves what the batch costs here.
			_, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
		}
		n, err := unix.EpollWait(d.epoll, d.events, int(lookEvery/time.Millisecond))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("epoll_wait", err)
		}
		for _, e := range d.events[:max(n, 0)] {
			if e.Fd != timerEvent {
				d.serve(int(e.Fd), e.Events)
			}
		}
	}
}

// wakeAll lets every session begin.
func (d *epollDriver) wakeAll() {
	for i := range d.worker.sessions {
		d.wake(i, d.worker.clock())
	}
}

// wake sends the next batch of an idle session, if there is one.
func (d *epollDriver) wake(i int, now int64) {
	if s := d.worker.sessions[i]; s.compose(now) {
		d.busy++
		d.send(i, s.out)
	}
}

// wakeDue wakes, in an open loop, the idle sessions whose requests are due, and
// arms the timer for the next one. It reports whether there will be one. A busy
// session sends what has become due when its replies have come.
func (d *epollDriver) wakeDue(now int64) (more bool, err error) {
	w, p := d.worker, d.worker.schedule
	if !p.open() || p.over(now) || d.alive == 0 {
		return false, nil
	}
	// Requests are due at one session after the other, round and round.
	for n := int64(len(w.sessions)); ; d.arrivals++ {
		i := int(d.arrivals % n)
		s := w.sessions[i]
		number := int64(s.number) + d.arrivals/n*int64(s.load.Connections)
		if number >= p.limit {
			return false, nil
		}
		if due := p.due(number); due > now {
			return true, d.arm(due - now)
		}
		if s.idle() {
			d.wake(i, now)
		}
	}
}

// arm makes the timer wake the driver after that time.
func (d *epollDriver) arm(after int64) error {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(max(after, 1))}
	return os.NewSyscallError("timerfd_settime", unix.TimerfdSettime(d.timer, 0, &spec, nil))
}

// look ends what is overdue.
func (d *epollDriver) look(now int64) {
	for i, s := range d.worker.sessions {
		if s.overdue(now) {
			d.lose(i, errNoReply)
		}
	}
}

// serve does what a session's connection is ready for.
func (d *epollDriver) serve(i int, events uint32) {
	if d.fds[i] < 0 {
		return
	}
	if events&unix.EPOLLOUT != 0 && len(d.rest[i]) > 0 {
		d.send(i, d.rest[i])
	}
	if events&^unix.EPOLLOUT == 0 {
		return
	}
	s := d.worker.sessions[i]
	for d.fds[i] >= 0 {
		n, errno := readNow(d.fds[i], d.buf)
		switch {
		case errno == unix.EAGAIN:
			return
		case errno == unix.EINTR:
			continue
		case errno != 0:
			d.lose(i, os.NewSyscallError("read", errno))
			return
		case n == 0:
			d.lose(i, io.EOF)
			return
		}
		now := d.worker.clock()
		waited := !s.idle()
		err := s.receive(d.buf[:n], now)
		if waited && s.idle() {
			d.busy--
		}
		if err != nil {
			d.lose(i, err)
			return
		}
		if waited && s.idle() {
			d.wake(i, now)
		}
		if n < len(d.buf) && events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) == 0 {
			return // drained: there will be another edge
		}
	}
}

// send writes b, or as much as the connection takes; the rest follows when it
// has room.
func (d *epollDriver) send(i int, b []byte) {
	for len(b) > 0 {
		n, errno := writeNow(d.fds[i], b)
		switch {
		case errno == unix.EAGAIN:
			d.rest[i] = b
			return
		case errno == unix.EINTR:
			continue
		case errno != 0:
			d.lose(i, os.NewSyscallError("write", errno))
			return
		}
		b = b[n:]
	}
	d.rest[i] = nil
}

// lose gives a connection up.
func (d *epollDriver) lose(i int, err error) {
	s := d.worker.sessions[i]
	if !s.idle() {
		d.busy--
	}
	s.lose(err)
	d.rest[i] = nil
	d.alive--
	d.closeSession(i)
}
