package sim

import (
	"context"
	"errors"
	"fmt"
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

// complete has an operator see to it that no set lacks members, as the status says: attach
// those who were left without a share when a job was cancelled, or rebalance. What is
// refused for now is asked for again.
func (w *World) complete() {
	for until := time.Now().Add(patience); ; {
		var wish admin.Wish
		w.later(5*time.Second, "complete", func() {
			if top := w.newest(); top != nil && top.Gaps() {
				wish = w.filling(top)
			}
		})
		if wish.Kind == "" {
			return
		}
		var refused error
		w.later(0, "fill", func() {
			w.asked(wish, func(ctx context.Context, o admin.Operator) error {
				_, err := o.Begin(ctx, wish)
				return err
			}, func(err error) { refused = err })
		})
		w.orders.Wait()
		if refused == nil {
			w.did("filled by " + wish.Kind)
		} else if !errors.Is(refused, admin.ErrConflict) || time.Now().After(until) {
			w.fail(fmt.Errorf("sets that lack members cannot be filled: %w", refused))
			return
		}
		w.settle("when no set shall lack a member any more")
	}
}

// filling is the job that gives sets the members they lack.
func (w *World) filling(top *topology.Topology) admin.Wish {
	wish := admin.Wish{Kind: string(topology.KindAttach)}
	for _, n := range top.Nodes {
		if n.State == topology.Recognised {
			wish.Nodes = append(wish.Nodes, n.ID.String())
		}
	}
	if len(wish.Nodes) == 0 {
		wish.Kind = string(topology.KindRebalance)
	}
	return wish
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
	h.disk = w.blank()
	w.judge()
}
