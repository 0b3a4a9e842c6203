package peer_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"unkai/internal/peer"
)

// brittle is a connection that breaks in the middle of a write.
type brittle struct {
	net.Conn
	left atomic.Int64
}

var errBroken = errors.New("broken by the test")

func (b *brittle) Write(p []byte) (int, error) {
	if left := b.left.Add(-int64(len(p))); left < 0 {
		n, _ := b.Conn.Write(p[:max(0, len(p)+int(left))])
		_ = b.Close()
		return n, errBroken
	}
	return b.Conn.Write(p)
}

// lone makes one call after the other and sees that each ends once, as it should.
type lone struct {
	t     *testing.T
	call  peer.Call
	armed atomic.Int32
	done  chan struct{}
}

func (l *lone) CallDone(c *peer.Call) {
	if c != &l.call || l.armed.Add(-1) != 0 {
		l.t.Error("a call was told more than once")
	}
	l.done <- struct{}{}
}

func (l *lone) run(p *peer.Port, addrs [2]string, r *rand.Rand, stop <-chan struct{}, ends *[4]atomic.Int64) {
	for n := uint64(0); ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		l.call.Kind = peer.Operations
		if r.IntN(20) == 0 {
			l.call.Kind = peer.Copy
		}
		l.call.Body = binary.LittleEndian.AppendUint64(l.call.Body[:0], r.Uint64())
		l.call.Body = append(l.call.Body, make([]byte, r.IntN(2000))...)
		l.call.Timeout = time.Duration(1+r.IntN(60)) * time.Millisecond
		l.armed.Store(1)
		p.Call(2, &l.call)
		<-l.done
		switch err := l.call.Err; {
		case err == nil:
			ends[0].Add(1)
			if !bytes.Equal(l.call.Reply, l.call.Body) {
				l.t.Error("a call got the answer of another")
			}
		case errors.Is(err, peer.ErrTimeout):
			ends[1].Add(1)
		case errors.Is(err, peer.ErrLost):
			ends[2].Add(1)
		case errors.Is(err, peer.ErrDown):
			ends[3].Add(1)
			p.Know(2, addrs[n%2]) // as if it had moved: this cuts the pause short
			select {              // until there is a connection again
			case <-stop:
			case <-time.After(time.Millisecond):
			}
		default:
			l.t.Errorf("a call ended as %v", err)
		}
	}
}

// Answers, time-outs, broken connections and Close race for the same calls.
func TestEveryCallEndsOnce(t *testing.T) {
	const callers = 32
	var d net.Dialer
	a, _ := open(t, 1, func(cfg *peer.Config, _ *peer.Port) {
		cfg.Log = nil
		cfg.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			c, err := d.DialContext(ctx, "tcp", addr)
			b := &brittle{Conn: c}
			b.left.Store(rand.Int64N(1 << 20))
			return b, err
		}
	})
	var mu sync.Mutex
	var late []*peer.Request
	answer := serve(func(q *peer.Request) {
		switch rand.IntN(10) {
		case 0: // later, when others have been answered
			mu.Lock()
			late = append(late, q)
			var old []*peer.Request
			if len(late) > 40 {
				old, late = late, nil
			}
			mu.Unlock()
			for _, q := range old {
				q.Answer(q.Body)
			}
		case 1:
			go q.Answer(q.Body)
		default:
			q.Answer(q.Body)
		}
	})
	_, addr := open(t, 2, func(cfg *peer.Config, p *peer.Port) {
		cfg.Log = nil
		if p != nil {
			p.Handle(peer.Operations, answer)
			p.Handle(peer.Copy, answer)
		}
	})
	a.Know(2, addr)
	_, port, _ := net.SplitHostPort(addr)
	addrs := [2]string{addr, "[::ffff:127.0.0.1]:" + port}
	stop := make(chan struct{})
	var ends [4]atomic.Int64
	var wg sync.WaitGroup
	for i := range callers {
		l := &lone{t: t, done: make(chan struct{}, 1)}
		l.call.Done = l
		wg.Go(func() { l.run(a, addrs, rand.New(rand.NewPCG(1, uint64(i))), stop, &ends) })
	}
	// Until every kind of end was seen often, or the test is out of patience.
	for late := time.After(patience); ; {
		if ends[0].Load() > 5000 && ends[1].Load() > 100 && ends[2].Load() > 100 && a.Stats().Connects > 10 {
			break
		}
		select {
		case <-late:
			t.Errorf("%d answers, %d time-outs, %d lost, %d down; %+v",
				ends[0].Load(), ends[1].Load(), ends[2].Load(), ends[3].Load(), a.Stats())
		case <-time.After(time.Millisecond):
			continue
		}
		break
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	close(stop)
	wg.Wait()
	if s := a.Stats(); s.Calls != s.Answers+s.Timeouts+s.Lost && s.Calls-s.Answers-s.Timeouts-s.Lost > s.Calls/10 {
		t.Errorf("calls are missing: %+v", s)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, q := range late {
		q.Answer(q.Body) // to connections that are gone
	}
}

func TestCallsAllocateNothing(t *testing.T) {
	a, _ := open(t, 1, nil)
	_, addr := open(t, 2, nil)
	a.Know(2, addr)
	w := newWaiter(200)
	for range 100 {
		w.ask(t, a)
	}
	if n := testing.AllocsPerRun(2000, func() { w.ask(t, a) }); n > 0.1 {
		t.Errorf("%v allocations for a call and its answer", n)
	}
}
