package antientropy_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"unkai/internal/core/topology"
)

// patient is a pacer that lets nobody go on.
type patient struct {
	mu      sync.Mutex
	waiting int
	left    []time.Time
}

func (p *patient) Wait(ctx context.Context, _ int) error {
	p.mu.Lock()
	p.waiting++
	p.mu.Unlock()
	<-ctx.Done()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting--
	p.left = append(p.left, time.Now())
	return ctx.Err()
}

func (p *patient) Answered(time.Duration, bool) {}

// Who waits so that clients need not leaves when the job is paused or cancelled, or the
// node stops.
func TestWhoWaitsLeavesWithTheJob(t *testing.T) {
	for name, end := range map[string]func(g *growing) (topology.Topology, error){
		"paused":    func(g *growing) (topology.Topology, error) { return g.top.Load().Pause(1) },
		"cancelled": func(g *growing) (topology.Topology, error) { return g.top.Load().Cancel() },
		"stopped":   nil,
	} {
		t.Run(name, func(t *testing.T) {
			grow(t, 300, func(t *testing.T, g *growing) {
				g.begin(t)
				p := &patient{}
				for _, n := range g.nodes {
					n.Pace = p
				}
				ctx, stop := context.WithCancel(t.Context())
				var all sync.WaitGroup
				for _, m := range g.movers {
					all.Go(func() { m.Run(ctx) })
				}
				time.Sleep(3 * time.Second)
				p.mu.Lock()
				if p.waiting == 0 || len(p.left) > 0 {
					t.Fatalf("%d wait, and %d have left", p.waiting, len(p.left))
				}
				p.mu.Unlock()
				ended := time.Now()
				most := time.Duration(0)
				if end == nil {
					stop()
				} else {
					top, err := end(g)
					if err != nil {
						t.Fatal(err)
					}
					g.set(t, top)
					most = 100 * time.Millisecond
					time.Sleep(time.Second)
				}
				p.mu.Lock()
				if end != nil && p.waiting > 0 {
					t.Errorf("%d wait on", p.waiting)
				}
				p.mu.Unlock()
				stop()
				all.Wait()
				for _, at := range p.left {
					if late := at.Sub(ended); late > most {
						t.Errorf("one has left after %v", late)
					}
				}
			})
		})
	}
}
