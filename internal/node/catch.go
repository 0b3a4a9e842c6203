package node

import (
	"context"
	"sync"
	"time"

	"unkai"
	"unkai/internal/core/topology"
)

// behind notes that another node has a newer topology.
func (n *Node) behind(from unkai.NodeID) {
	select {
	case n.newer <- from:
	default: // one is being fetched; if that is not new enough it will be noticed
	}
}

const (
	// fetchesAtOnce bounds from how many nodes a newer topology is fetched at once, and
	// fetchAgain is after what time another one is asked: the first may be dead by now.
	fetchesAtOnce = 4
	fetchAgain    = 50 * time.Millisecond
)

// catchUp fetches newer topologies from nodes that have them.
func (n *Node) catchUp(ctx context.Context) {
	under, done := map[unkai.NodeID]bool{}, make(chan unkai.NodeID)
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			for range under {
				<-done
			}
			return
		case id := <-done:
			delete(under, id)
		case from := <-n.newer:
			if under[from] || len(under) == fetchesAtOnce || len(under) > 0 && time.Since(last) < fetchAgain {
				continue
			}
			under[from], last = true, time.Now()
			go func() {
				n.catch(ctx, from)
				done <- from
			}()
		}
	}
}

func (n *Node) catch(ctx context.Context, from unkai.NodeID) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	if err := n.manager.Catch(ctx, from); err != nil {
		n.log.Debug("a newer topology could not be fetched", "node", from.String(), "err", err)
	}
}

// latest is the newest topology that this node and the managers know, as far as
// they answer: an operator at one node must not be told what is over, or not begun,
// because it has not heard of what was decided at another. Nil before there is one.
func (n *Node) latest(ctx context.Context) *topology.Topology {
	top := n.topology()
	if top == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, surveyLimit)
	defer cancel()
	var wg sync.WaitGroup
	for _, id := range top.Managers {
		if id != n.id && n.alive(id) {
			wg.Go(func() {
				if err := n.managerRef.Load().Catch(ctx, id); err != nil {
					n.log.Debug("a manager did not tell its topology", "node", id.String(), "err", err)
				}
			})
		}
	}
	wg.Wait()
	return n.topology()
}
