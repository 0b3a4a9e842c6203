package pace

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// at runs f with a pacer that runs, in virtual time.
func at(t *testing.T, p *Pacer, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p.Now = func() int64 { return time.Now().UnixMilli() }
		if p.Moving == nil {
			p.Moving = func() bool { return true }
		}
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() { p.Run(ctx) })
		f(t)
		cancel()
		all.Wait()
	})
}

// clients lets some wait so long, until it is stopped.
func clients(p *Pacer, wait func() time.Duration) (stop func()) {
	quit := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for tick := time.NewTicker(time.Millisecond); ; {
			select {
			case <-quit:
				tick.Stop()
				return
			case <-tick.C:
				all.Go(func() {
					b := p.Latencies.Begin(true)
					time.Sleep(wait())
					p.Latencies.End(b)
				})
			}
		}
	})
	return sync.OnceFunc(func() { close(quit); all.Wait() })
}

// Nobody waits for nobody.
func TestWaitWithoutClients(t *testing.T) {
	var p Pacer
	at(t, &p, func(t *testing.T) {
		began := time.Now()
		for range 1000 {
			if err := p.Wait(t.Context(), 1<<20); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("a GiB took %v", took)
		}
	})
}

// Who copies while clients wait long comes down to the floor, the several together;
// it says so; and the wait ends with the clients.
func TestWaitWithClients(t *testing.T) {
	var p Pacer
	var moving, resting atomic.Bool
	p.Moving = moving.Load
	at(t, &p, func(t *testing.T) {
		stop := clients(&p, func() time.Duration {
			if moving.Load() && !resting.Load() {
				return 9 * time.Millisecond
			}
			return 3 * time.Millisecond
		})
		defer stop()
		time.Sleep(10 * time.Second)
		moving.Store(true)
		quit := make(chan struct{})
		var all sync.WaitGroup
		var copied atomic.Int64
		for range 4 {
			all.Go(func() {
				for {
					select {
					case <-quit:
						return
					default:
					}
					if err := p.Wait(t.Context(), 64<<10); err != nil {
						t.Error(err)
					}
					copied.Add(64 << 10)
					time.Sleep(time.Millisecond) // no time goes by where there is no limit
				}
			})
		}
		all.Go(func() { // what clients wait while the copy rests is what they waited before
			for tick := time.NewTicker(10 * time.Millisecond); ; {
				select {
				case <-quit:
					tick.Stop()
					return
				case <-tick.C:
					p.mu.Lock()
					resting.Store(p.rests())
					p.mu.Unlock()
				}
			}
		})
		time.Sleep(10 * time.Second)
		before := copied.Load()
		time.Sleep(10 * time.Second)
		if n := copied.Load() - before; n < 9*Floor || n > 10*Floor+4*64<<10 {
			t.Errorf("%d bytes in 10 s at the floor", n)
		}
		if s := p.State(); s.Rate != Floor || s.Strain < 2.5 || s.Strain > 3.5 || s.Slow || s.Speed < Floor*8/10 {
			t.Errorf("%+v", s)
		}
		if told := p.Told(); told < 2.5 {
			t.Errorf("others are told %v", told)
		}
		stop()
		time.Sleep(3 * time.Second)
		if s := p.State(); s.Rate != 0 {
			t.Errorf("the clients have gone: %+v", s)
		}
		close(quit)
		all.Wait()
	})
}

// Who waits ends at once when it is to stop; but what it has copied it has copied, and
// whoever comes later waits for that, too.
func TestWaitEnds(t *testing.T) {
	var p Pacer
	at(t, &p, func(t *testing.T) {
		p.mu.Lock()
		p.limit.rate, p.limit.slow = Floor, time.Hour
		p.mu.Unlock()
		began := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if err := p.Wait(ctx, 2*Floor); !errors.Is(err, context.Canceled) || time.Since(began) != 300*time.Millisecond {
					t.Errorf("after %v: %v", time.Since(began), err)
				}
			})
		}
		time.Sleep(300 * time.Millisecond)
		cancel()
		all.Wait()
		if err := p.Wait(t.Context(), Floor); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took < 17*time.Second || took > 18*time.Second+restFor*4 {
			t.Errorf("17 seconds' worth of bytes were copied, and it went on after %v", took)
		}
	})
}

// A receiver that takes long, or refuses, is brought less; and those are asked for
// their clients to whom something is brought.
func TestReceivers(t *testing.T) {
	var p Pacer
	var asked atomic.Int64
	p.Receivers = func(context.Context) float64 { asked.Add(1); return 4 }
	at(t, &p, func(t *testing.T) {
		copied := func(d time.Duration) {
			for until := time.Now().Add(d); time.Now().Before(until); time.Sleep(time.Millisecond) {
				if err := p.Wait(t.Context(), 16<<10); err != nil {
					t.Error(err)
				}
			}
		}
		copied(2 * time.Second)
		if s := p.State(); asked.Load() < 3 || s.Strain != 4 || s.Rate == 0 {
			t.Errorf("asked %d times: %+v", asked.Load(), s)
		}
		p.Answered(patience, false)
		copied(2 * look)
		if p.State().Slow {
			t.Error("a receiver is slow that was not")
		}
		p.Answered(patience+1, false)
		copied(2 * look)
		if !p.State().Slow {
			t.Error("a receiver is not slow that was")
		}
	})
}
