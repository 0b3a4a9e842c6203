package antientropy

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// What several bring together stays below the throttle, and a new one counts at
// once, also for who waits already.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pace
		var limit atomic.Int64
		limit.Store(1000)
		rate := func() (int64, error) { return limit.Load(), nil }
		began := time.Now()
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range 10 {
					if err := p.wait(t.Context(), 100, rate); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		if took := time.Since(began); took < 3900*time.Millisecond || took > 4500*time.Millisecond {
			t.Errorf("4000 bytes at 1000 a second took %v", took)
		}
		limit.Store(1)
		time.AfterFunc(time.Second, func() { limit.Store(0) })
		began = time.Now()
		if err := p.wait(t.Context(), 1<<20, rate); err != nil || time.Since(began) > 1200*time.Millisecond {
			t.Errorf("a throttle that is lifted was heard after %v: %v", time.Since(began), err)
		}
		if err := p.wait(t.Context(), 1<<40, rate); err != nil || p.owed != 0 {
			t.Errorf("without a throttle something is owed: %v, %v", p.owed, err)
		}
	})
}

// Who waits ends when it is to stop.
func TestPaceStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pace
		stop := errors.New("stop")
		began := time.Now()
		err := p.wait(t.Context(), 1<<20, func() (int64, error) {
			if time.Since(began) > time.Second {
				return 0, stop
			}
			return 1, nil
		})
		if !errors.Is(err, stop) || time.Since(began) > 1200*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.wait(ctx, 1<<20, func() (int64, error) { return 1, nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}
