package sim

import (
	"context"
	"time"

	"unkai/internal/admin"
	"unkai/internal/core/topology"
)

// job is an operator who begins a job at some node, or steers the one that runs,
// without looking much at what goes on.
func (w *World) job() {
	r := w.bus.rng
	n, _ := w.hosts[r.IntN(len(w.hosts))].running()
	if n == nil {
		return
	}
	top := n.Topology()
	pick := func() topology.Node { return top.Nodes[r.IntN(len(top.Nodes))] }
	var wish admin.Wish
	var order admin.Order
	switch what := r.IntN(10); {
	case what < 2 && len(top.Attached()) > 3: // so that a crash is not the last straw
		wish = admin.Wish{Kind: string(topology.KindDetach), Nodes: []string{pick().ID.String()}}
	case what < 3:
		wish = admin.Wish{Kind: string(topology.KindReplace), Nodes: []string{pick().ID.String(), pick().ID.String()}}
	case what < 5:
		wish = admin.Wish{Kind: string(topology.KindWeigh), Nodes: []string{pick().ID.String()}, Weight: 1 + r.IntN(4)}
	case what < 6:
		wish = admin.Wish{Kind: string(topology.KindAttach), Nodes: []string{pick().ID.String()}}
	default:
		order.Do = []string{"pause", "resume", "resume", "cancel", "throttle"}[r.IntN(5)]
		order.Throttle = int64(r.IntN(3)) << 10
	}
	w.logf("ORDER %+v %+v", wish, order)
	w.orders.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		var err error
		if wish.Kind != "" {
			_, err = n.Operator().Begin(ctx, wish)
		} else {
			_, err = n.Operator().Steer(ctx, order)
		}
		w.logf("ORDER %+v %+v: %v", wish, order, err)
		if err == nil {
			w.mu.Lock()
			w.result.Faults["job "+wish.Kind+order.Do]++
			w.mu.Unlock()
		}
	})
}

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
