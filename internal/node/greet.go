package node

import (
	"context"
	"errors"
	"time"

	"unkai"
	"unkai/internal/node/directory"
)

const (
	// greetEvery is how often a node says hello to the others, and to how many of
	// them it tells all addresses it knows.
	greetEvery = time.Second
	greetFully = 2
	// tellEvery is how many hellos go by until a node notes, and tells, that it is
	// still there: by that much an old copy of its directory may escape notice.
	tellEvery = 10
)

// greet says hello to the others now and then: so addresses and epochs spread,
// and connections stay open.
func (n *Node) greet(ctx context.Context) {
	seeds := n.cfg.Join
	tick := time.NewTicker(greetEvery)
	defer tick.Stop()
	slots := make(chan struct{}, servedAtOnce)
	for round := 0; ; round++ {
		top := n.topology()
		others := make([]unkai.NodeID, 0, len(top.Nodes))
		reached := false
		for _, m := range top.Nodes {
			if m.ID != n.id {
				others = append(others, m.ID)
				reached = reached || n.alive(m.ID)
			}
		}
		if !reached && round%4 == 0 { // all addresses may have changed
			for _, addr := range seeds {
				n.try(slots, func() {
					ctx, cancel := context.WithTimeout(ctx, answerLimit)
					defer cancel()
					id, err := n.network.Introduce(ctx, addr)
					n.introduced(addr, err)
					if err == nil && id != n.id {
						n.greetOne(ctx, id, n.hello())
					}
				})
			}
		}
		n.noteFull(n.id, n.engine.Stats().Full)
		n.noteGuests(n.id, n.connected())
		if round%tellEvery == tellEvery-1 {
			n.stillHere()
		}
		for i, id := range others {
			h := n.hello()
			if (i+round)%max(len(others), 1) >= greetFully {
				h.Book = nil
			}
			n.try(slots, func() { n.greetOne(ctx, id, h) })
		}
		select {
		case <-ctx.Done():
			for range servedAtOnce {
				slots <- struct{}{}
			}
			return
		case <-tick.C:
		}
	}
}

// try runs f in a goroutine of its own when there is a slot for it.
func (n *Node) try(slots chan struct{}, f func()) {
	select {
	case slots <- struct{}{}:
		go func() {
			defer func() { <-slots }()
			f()
		}()
	default:
	}
}

func (n *Node) greetOne(ctx context.Context, id unkai.NodeID, h *hello) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	a, err := n.askControl(ctx, id, control{Hello: h})
	if err != nil || a.Hello == nil {
		return // it is not there now; its connection says so
	}
	if err := n.greeted(id, a.Hello); errors.Is(err, directory.ErrOlder) {
		n.outlived(err)
	} else if err != nil {
		n.log.Warn("what another node knows could not be kept", "node", id.String(), "err", err)
	} else if h.Book != nil && n.network.waits.Load() {
		n.vouch(id)
	}
}
