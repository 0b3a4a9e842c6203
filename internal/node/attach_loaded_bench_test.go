package node_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"unkai/internal/node"
)

// BenchmarkAttachLoaded attaches a fourth node to three that hold 80 MB on disk, while
// clients ask at fixed times, a third of it writes, about 0.3 of what the three can do;
// and reports what the slowest hundredth of the clients waited during the attach, by what
// it waited before, with the limit on that and without; and the same of two times before
// the attach, which says what the machine does by itself. Times count from when an
// operation was due. Run it with -benchtime 1x.
func BenchmarkAttachLoaded(b *testing.B) {
	for _, limited := range []bool{false, true} {
		b.Run(fmt.Sprintf("limited=%v", limited), func(b *testing.B) {
			for b.Loop() {
				attachLoaded(b, 20_000, 4000, limited)
			}
		})
	}
}

func attachLoaded(b *testing.B, records, size int, limited bool) {
	start := func(others []*node.Node) *node.Node {
		n := benchNode(b, others)
		if !limited {
			n.Unpace()
		}
		return n
	}
	var all []*node.Node
	for range 3 {
		all = append(all, start(all))
		awaitIdle(b, all[0], len(all))
	}
	fillFast(b, all[0], records, size)
	l := startLoad(b, all, records, size, 1<<30)
	time.Sleep(2 * time.Second)
	l.stop()
	capacity := float64(l.done.Load()) / 2
	l = startLoad(b, all, records, size, 0.3*capacity)
	defer l.stop()
	time.Sleep(2 * time.Second)
	l.take()
	time.Sleep(6 * time.Second)
	first := l.take()
	time.Sleep(6 * time.Second)
	before := l.take()
	b.ReportMetric(float64(p99(before.all()))/float64(p99(first.all())), "p99-of-itself")
	start(all)
	var began, ended time.Time
	for ended.IsZero() {
		seen := nodes(b, all[0])
		switch {
		case began.IsZero() && seen.Job != nil:
			began = time.Now()
			l.take()
		case !began.IsZero() && seen.Job == nil && seen.Moving == 0:
			ended = time.Now()
		}
		time.Sleep(100 * time.Millisecond)
	}
	during := l.take()
	took := ended.Sub(began).Seconds()
	b.ReportMetric(float64(p99(during.all()))/float64(p99(before.all())), "p99-ratio")
	b.ReportMetric(float64(p99(during.reads))/float64(p99(before.reads)), "reads-p99-ratio")
	b.ReportMetric(float64(p99(during.writes))/float64(p99(before.writes)), "writes-p99-ratio")
	b.ReportMetric(float64(p99(before.all()))/1e6, "ms-p99-before")
	b.ReportMetric(took, "s")
	b.ReportMetric(float64(records*size)*3/4/took/(1<<20), "MiB/s")
	b.ReportMetric(0.3*capacity, "asked/s")
	b.ReportMetric(float64(l.failed.Load()), "failed")
}

func p99(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)*99/100]
}

// load is clients that ask at fixed times.
type load struct {
	at           []*node.Node
	done, failed atomic.Int64
	quit         chan struct{}
	all          sync.WaitGroup
	mu           sync.Mutex
	seen         waits
}

type waits struct{ reads, writes []time.Duration }

func (w *waits) all() []time.Duration { return slices.Concat(w.reads, w.writes) }

// take is what was seen since the last time.
func (l *load) take() waits {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.seen
	l.seen = waits{}
	return out
}

func (l *load) stop() {
	select {
	case <-l.quit:
	default:
		close(l.quit)
	}
	l.all.Wait()
}

// startLoad begins to ask all nodes for so many operations a second, or as many as are
// answered.
func startLoad(b *testing.B, all []*node.Node, records, size int, rate float64) *load {
	b.Helper()
	const clients = 48
	l := &load{at: all, quit: make(chan struct{})}
	for i := range clients {
		every := time.Duration(clients / rate * float64(time.Second))
		l.all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			due := time.Now().Add(time.Duration(r.Int64N(int64(every) + 1)))
			for at := i; !l.quitting(); at++ {
				c, err := net.Dial("tcp", all[at%len(all)].Listen().String())
				if err != nil {
					continue // it has stopped
				}
				due = l.ask(c, r, records, size, due, every)
				_ = c.Close()
			}
		})
	}
	return l
}

// ask asks over one connection, once in a while, until that has ended; as well-behaved
// clients do it looks at that before it asks. It gives when the next question is due.
func (l *load) ask(c net.Conn, r *rand.Rand, records, size int, due time.Time, every time.Duration) time.Time {
	in, value := bufio.NewReader(c), strings.Repeat("w", size-len("key000000000"))
	for ; ; due = due.Add(every) {
		until := due
		if soon := time.Now().Add(100 * time.Microsecond); until.Before(soon) { // a deadline that has passed says nothing
			until = soon
		}
		if every <= time.Microsecond {
			due = time.Now()
		} else {
			_ = c.SetReadDeadline(until) // it says so itself when the connection has ended
			if _, err := in.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
				return due
			}
			_ = c.SetReadDeadline(time.Time{})
		}
		if l.quitting() {
			return due
		}
		wrote := r.IntN(3) == 0
		q, end := fmt.Sprintf("get key%09d\r\n", r.IntN(records)), "END\r\n"
		if wrote {
			q, end = fmt.Sprintf("set key%09d 0 0 %d\r\n%s\r\n", r.IntN(records), len(value), value), "STORED\r\n"
		}
		if _, err := io.WriteString(c, q); err != nil {
			l.failed.Add(1)
			return due
		}
		for {
			line, err := in.ReadString('\n')
			if err != nil || strings.HasPrefix(line, "SERVER_ERROR") {
				l.failed.Add(1)
			}
			if err != nil {
				return due
			}
			if line == end || strings.HasPrefix(line, "SERVER_ERROR") {
				break
			}
		}
		took := time.Since(due)
		l.done.Add(1)
		l.mu.Lock()
		if wrote {
			l.seen.writes = append(l.seen.writes, took)
		} else {
			l.seen.reads = append(l.seen.reads, took)
		}
		l.mu.Unlock()
	}
}

func (l *load) quitting() bool {
	select {
	case <-l.quit:
		return true
	default:
		return false
	}
}
