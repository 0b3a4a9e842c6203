package node

import (
	"context"
	"errors"
	"time"
)

// watch stops the node when a part of it has failed.
func (n *Node) watch(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case err := <-n.failed:
		n.mu.Lock()
		n.err = err
		n.mu.Unlock()
		if errors.Is(err, ErrDrained) {
			n.log.Info("this node holds nothing any more, was removed from its cluster, and stops")
		} else {
			n.log.Error("the node cannot go on and stops", "err", err)
		}
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), failStop)
			defer cancel()
			if err := n.Stop(ctx); err != nil {
				n.log.Error("stopping did not end well", "err", err)
			}
		}()
	}
}

// failStop is how long a failed node may take to stop.
const failStop = 10 * time.Second

// fail says, from any goroutine, that the node cannot go on.
func (n *Node) fail(err error) {
	select {
	case n.failed <- err:
	default: // it is stopping already
	}
}

// Done is closed when the node has stopped, by Stop or because it failed.
func (n *Node) Done() <-chan struct{} { return n.done }

// Err says why a node stopped by itself; nil after an orderly stop.
func (n *Node) Err() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}

// Stop answers what was accepted, makes it durable and releases everything. It
// waits for connections until ctx ends, and then closes them. Only the first
// call does anything; the others wait for it.
func (n *Node) Stop(ctx context.Context) error {
	var err error
	if n.stops.CompareAndSwap(false, true) {
		n.setState("stopping")
		n.operations.close() // gateways of other nodes turn to others
		n.door.decide()
		if n.memcache != nil {
			err = n.memcache.Shutdown(ctx)
		}
		err = errors.Join(err, n.close())
		close(n.done)
	}
	<-n.done
	return err
}

// close releases what open has opened, the last first.
func (n *Node) close() error {
	var errs []error
	if n.gateway != nil {
		n.gateway.Stop()
	}
	if n.cancel != nil {
		n.cancel()
	}
	if n.memcache == nil && n.listen != nil {
		errs = append(errs, n.listen.Close())
	}
	n.running.Wait()
	n.replicas.close()
	n.operations.close()
	n.repairs.close()
	for _, s := range n.asked {
		s.close()
	}
	if n.batches != nil {
		n.batches.Close()
	}
	if n.port != nil {
		errs = append(errs, n.port.Close())
	} else if n.peer != nil {
		errs = append(errs, n.peer.Close())
	}
	if n.manager != nil {
		errs = append(errs, n.manager.Close())
	}
	if n.engine != nil {
		errs = append(errs, n.engine.Close())
	}
	if n.dir != nil {
		errs = append(errs, n.dir.Close())
	}
	errs = append(errs, n.closeAdmin())
	return errors.Join(errs...)
}
