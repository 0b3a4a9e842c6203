package peer_test

import (
	"sync"
	"testing"
	"time"

	"unkai/internal/peer"
)

// waiter is a caller that sleeps until its call is done, as a connection does.
type waiter struct {
	call peer.Call
	done chan struct{}
}

func (w *waiter) CallDone(*peer.Call) { w.done <- struct{}{} }

func newWaiter(size int) *waiter {
	w := &waiter{done: make(chan struct{}, 1)}
	w.call = peer.Call{Kind: peer.Replica, Body: make([]byte, size), Timeout: time.Minute, Done: w}
	return w
}

func (w *waiter) ask(tb testing.TB, p *peer.Port) {
	p.Call(2, &w.call)
	<-w.done
	if w.call.Err != nil {
		tb.Error(w.call.Err)
	}
}

func benchmarkCall(b *testing.B, callers int) {
	a, _ := open(b, 1, nil)
	_, addr := open(b, 2, nil)
	a.Know(2, addr)
	newWaiter(200).ask(b, a)
	b.ReportAllocs()
	each := make(chan int)
	var wg sync.WaitGroup
	for range callers {
		w := newWaiter(200)
		wg.Go(func() {
			for n := range each {
				for range n {
					w.ask(b, a)
				}
			}
		})
	}
	n := 0
	for b.Loop() {
		if n++; n == 64 {
			each <- n
			n = 0
		}
	}
	close(each)
	wg.Wait()
}

// The two processes of a call are one here: its time is about the CPU of both.
func BenchmarkCall64(b *testing.B) { benchmarkCall(b, 64) }
func BenchmarkCall1(b *testing.B)  { benchmarkCall(b, 1) }
