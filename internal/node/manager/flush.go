package manager

import (
	"context"
	"errors"
	"time"

	"unkai/internal/core/topology"
)

const (
	// flushLimit is how long it is tried to have a flush decided.
	flushLimit = 10 * time.Second
	// flushLook is after how many milliseconds at most the clock is looked at
	// again: a far moment is no duration that a timer can hold.
	flushLook = 3_600_000
	// flushRetry is how soon a flush that could not be decided is tried again.
	flushRetry = time.Second
)

// Flush makes everything stored so far absent: at once if the moment has come,
// else when it comes, also after a restart. A later Flush takes the place of
// one that still waits. Milliseconds since 1970.
func (m *Manager) Flush(at int64) error {
	ctx, cancel := context.WithTimeout(m.ctx, flushLimit)
	defer cancel()
	_, err := m.Change(ctx, func(t *topology.Topology) (topology.Topology, error) {
		if at > m.cfg.Now() {
			return t.FlushLater(at), nil
		}
		return t.Flush(), nil
	})
	return err
}

// schedule arms the timer for the flush that waits, under the lock.
func (m *Manager) schedule() {
	if m.timer != nil {
		m.timer.Stop()
		m.timer = nil
	}
	t := m.current.Load()
	if t.FlushAt == 0 || m.closed {
		return
	}
	wait := min(max(t.FlushAt-m.cfg.Now(), 0), flushLook)
	m.timer = time.AfterFunc(time.Duration(wait)*time.Millisecond, m.flushDue)
}

var errNotDue = errors.New("no flush is due")

// flushDue carries out a flush whose moment has come. Every node tries, and the
// first one's change leaves nothing to the others.
func (m *Manager) flushDue() {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return
	}
	m.running.Add(1)
	m.mu.Unlock()
	defer m.running.Done()
	ctx, cancel := context.WithTimeout(m.ctx, flushLimit)
	defer cancel()
	_, err := m.Change(ctx, func(t *topology.Topology) (topology.Topology, error) {
		if t.FlushAt == 0 || t.FlushAt > m.cfg.Now() {
			return topology.Topology{}, errNotDue
		}
		return t.Flush(), nil
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	if errors.Is(err, errNotDue) { // the clock was set back, or another was faster
		m.schedule()
		return
	}
	if err != nil && !m.closed {
		m.cfg.Log.Error("a scheduled flush_all could not be carried out; trying again", "err", err)
		m.timer = time.AfterFunc(flushRetry, m.flushDue)
	}
}
