package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"unkai/internal/admin"
	"unkai/internal/check"
	"unkai/internal/core/topology"
)

// ruin has two nodes lose what they hold, at once: more than is promised to be survived.
// What was acknowledged before may be gone. Status says that buckets are lost, and an
// operator gives up what is; with keys that are used from then on all is as ever.
func (w *World) ruin() {
	w.settle("before most is lost")
	judged := w.result.History
	w.result.History = new(check.History) // of which nothing can be said
	w.later(0, "ruin", func() {
		managers := w.newest().Managers
		may, lose := (len(managers)-1)/2, 2 // most managers stay, or nothing could be decided
		for _, i := range w.bus.rng.Perm(w.cfg.Nodes) {
			h := w.hosts[i]
			if manager := slices.Contains(managers, h.endpoint.id); lose > 0 && (!manager || may > 0) {
				lose--
				if manager {
					may--
				}
				w.empty(h)
			}
		}
	})
	w.orders.Go(func() { w.serve(10 * time.Second) })
	w.giveUp()
	w.orders.Wait()
	w.settle("when what was lost is given up")
	w.complete()
	w.keys.renew()
	w.result.History = judged
	w.serve(w.cfg.Length)
}

// giveUp has an operator who sees that buckets are lost give up what is, as the status
// says, and again should they be refused.
func (w *World) giveUp() {
	wish := admin.Wish{Kind: string(topology.KindRebalance), GiveUpLost: true}
	for until := time.Now().Add(patience); ; {
		lost, err := false, error(nil)
		w.later(3*time.Second, "give up", func() {
			top := w.newest()
			if lost = top != nil && top.Lost() > 0; !lost {
				return
			}
			w.asked(wish, func(ctx context.Context, o admin.Operator) error {
				job, err := o.Begin(ctx, wish)
				if err == nil && job.ID == 0 {
					return errors.New("nothing was begun")
				}
				return err
			}, func(e error) {
				w.mu.Lock()
				err = e
				w.mu.Unlock()
			})
		})
		time.Sleep(10 * time.Second)
		w.mu.Lock()
		refused := err
		w.mu.Unlock()
		if lost && refused == nil {
			w.did("given up")
			return
		}
		if time.Now().After(until) {
			w.fail(fmt.Errorf("what was lost was not given up: %w", refused))
			return
		}
	}
}
