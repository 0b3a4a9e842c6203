package sim

import (
	"context"
	"time"

	"unkai/internal/admin"
	"unkai/internal/core/topology"
)

// release lets the job that runs go on as fast as it can.
func (w *World) release() {
	for _, h := range w.hosts {
		n, _ := h.running()
		if n == nil {
			continue
		}
		for _, order := range []admin.Order{{Do: "throttle"}, {Do: "resume"}} {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			_, err := n.Operator().Steer(ctx, order)
			cancel()
			w.logf("ORDER %+v: %v", order, err)
		}
	}
}

// complete has an operator attach those who were left without a share, if sets lack
// members: a job that would have given them one was cancelled.
func (w *World) complete() {
	lacking := false
	w.later(0, "complete", func() {
		top := w.newest()
		if top == nil || !top.Gaps() {
			return
		}
		wish := admin.Wish{Kind: string(topology.KindAttach)}
		for _, n := range top.Nodes {
			if n.State == topology.Recognised {
				wish.Nodes = append(wish.Nodes, n.ID.String())
			}
		}
		if lacking = len(wish.Nodes) > 0; lacking {
			w.ask(false, wish)
		}
	})
	if lacking {
		w.orders.Wait()
		w.settle("when all are attached")
	}
}

// removed is what becomes of a host whose node is no member any more: it may join
// again as a new one.
func (w *World) removed(h *host, gone chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-gone:
		return // it crashed, or was stopped
	default:
	}
	w.logf("REMOVED host %d", h.number)
	if h.endpoint != nil {
		h.endpoint.mu.Lock()
		h.endpoint.dead = true
		h.endpoint.mu.Unlock()
		h.endpoint = nil
	}
	close(gone)
	h.cancel()
	h.node, h.gone, h.empty, h.dir = nil, nil, true, ""
	h.disk = &Disk{Lies: w.cfg.Lies}
	w.judge()
}
