package antientropy

import (
	"context"
	"sync"
	"time"
)

// pace bounds how many bytes are exchanged, on average: who comes after much was
// exchanged waits until that would have taken its time.
type pace struct {
	mu   sync.Mutex
	free time.Time // from then on
}

// ahead is for how long more than maxRate may be exchanged.
const ahead = 250 * time.Millisecond

// wait waits until there is room. It reports false when the context has ended.
func (p *pace) wait(ctx context.Context) bool {
	p.mu.Lock()
	d := time.Until(p.free)
	p.mu.Unlock()
	return d <= 0 || sleep(ctx, d)
}

// took notes that bytes were exchanged.
func (p *pace) took(bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if start := time.Now().Add(-ahead); p.free.Before(start) {
		p.free = start
	}
	p.free = p.free.Add(time.Duration(bytes) * time.Second / maxRate)
}
