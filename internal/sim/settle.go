package sim

import (
	"context"
	"fmt"
	"time"

	"unkai"
	"unkai/internal/core/topology"
)

// patience is how long a cluster without faults may take to be whole again.
const patience = 5 * time.Minute

// settle waits until all nodes that run are attached and nothing moves.
func (w *World) settle(when string) {
	until := time.Now().Add(patience)
	for try := 0; ; try++ {
		var why string
		w.later(101*time.Millisecond, "look", func() { why = w.unsettled() }) // when all is still
		if why == "" {
			return
		}
		if try%50 == 49 {
			w.release()
		}
		if time.Now().After(until) {
			w.fail(fmt.Errorf("%s: not settled after %v: %s", when, patience, why))
			return
		}
	}
}

func (w *World) unsettled() string {
	epoch := unkai.Epoch(0)
	for _, h := range w.hosts {
		n, gone := h.running()
		if gone == nil {
			continue // it is not a member
		}
		if n == nil {
			return fmt.Sprintf("host %d does not serve", h.number)
		}
		top := n.Topology()
		self, ok := top.Node(n.ID())
		if !ok || self.State != topology.Attached && (self.State != topology.Recognised || !self.Manual) {
			return fmt.Sprintf("host %d is not attached: %+v", h.number, self)
		}
		if top.Moving() > 0 || top.Job != nil {
			return fmt.Sprintf("host %d: %d buckets are on their way, %+v", h.number, top.Moving(), top.Job)
		}
		if epoch == 0 {
			epoch = top.Epoch
		}
		if epoch != top.Epoch {
			return fmt.Sprintf("host %d is at epoch %d, another at %d", h.number, top.Epoch, epoch)
		}
	}
	return ""
}

// stop ends all nodes in order, as an operator would.
func (w *World) stop() {
	for _, h := range w.hosts {
		n, gone := h.running()
		if n == nil { // it is starting still, or was never there
			w.later(0, "crash", func() { w.crash(h) })
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		if err := n.Stop(ctx); err != nil {
			w.fail(fmt.Errorf("host %d did not stop well: %w", h.number, err))
		}
		cancel()
		h.mu.Lock()
		h.node = nil
		h.cancel()
		close(gone)
		h.mu.Unlock()
	}
	w.zombies.Wait()
}
