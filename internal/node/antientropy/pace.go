package antientropy

import (
	"context"
	"sync"
	"time"
)

// paceLooks is how often who waits looks whether the throttle has changed.
const paceLooks = 100 * time.Millisecond

// pace keeps what several goroutines bring together below a throttle that may
// change at any time. The zero value is ready.
type pace struct {
	mu   sync.Mutex
	owed float64 // bytes brought for which nobody has waited yet
	at   time.Time
}

// wait waits until so many bytes more have been within the throttle that rate
// gives: bytes in a second, 0 for any number. It ends when rate or ctx do.
func (p *pace) wait(ctx context.Context, bytes int, rate func() (int64, error)) error {
	for first := true; ; first = false {
		limit, err := rate()
		if err != nil {
			return err
		}
		if !first {
			bytes = 0
		}
		left := p.owe(bytes, limit)
		if left <= 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(left, paceLooks)):
		}
	}
}

// owe adds bytes, takes off what the time since allows for, and tells how long to
// wait for the rest.
func (p *pace) owe(bytes int, limit int64) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if limit == 0 {
		p.owed, p.at = 0, now
		return 0
	}
	p.owed = max(0, p.owed-now.Sub(p.at).Seconds()*float64(limit)) + float64(bytes)
	p.at = now
	return time.Duration(p.owed / float64(limit) * float64(time.Second))
}

// yield waits until bytes that were copied slow nobody down.
func (r *Repairer) yield(ctx context.Context, bytes int) error {
	if r.Pace == nil {
		return nil
	}
	return r.Pace.Wait(ctx, bytes)
}

// pay waits for bytes that were brought, but no longer than the bucket is to be brought:
// a job that was paused or cancelled meanwhile must not keep others waiting.
func (c *bringer) pay(ctx context.Context, bytes int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var looking sync.WaitGroup
	defer looking.Wait()
	done := make(chan struct{})
	defer close(done)
	looking.Go(func() {
		for {
			if _, err := c.allowed(); err != nil {
				cancel(err)
				return
			}
			select {
			case <-done:
				return
			case <-time.After(paceLooks):
			}
		}
	})
	err := c.spend(ctx, bytes)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// answered tells how a receiver took what it was brought.
func (r *Repairer) answered(took time.Duration, refused bool) {
	if r.Pace != nil {
		r.Pace.Answered(took, refused)
	}
}
