// Package manager decides the topology and remembers it. In a cluster of one
// node it decides alone; its memory is one file, replaced as a whole.
package manager

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"unkai/internal/core/topology"
)

// File is where a manager keeps the topology: whole, or not at all.
type File interface {
	// Load gives what was last saved, or an error that is fs.ErrNotExist.
	Load() ([]byte, error)
	// Save is durable when it returns.
	Save([]byte) error
}

// Manager is safe for concurrent use.
type Manager struct {
	file File
	now  func() int64
	log  *slog.Logger

	current atomic.Pointer[topology.Topology]
	mu      sync.Mutex // of those who change it; never taken by those who read
	timer   *time.Timer
	closed  bool
	changed func()
}

// Open reads the topology from file, or begins with the one that first makes.
// Changed is called after each later change.
func Open(file File, first func() topology.Topology, now func() int64, log *slog.Logger, changed func()) (*Manager, error) {
	m := &Manager{file: file, now: now, log: log, changed: changed}
	b, err := file.Load()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := m.decide(first()); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, fmt.Errorf("read the topology: %w", err)
	default:
		t := new(topology.Topology)
		if err := json.Unmarshal(b, t); err != nil {
			return nil, fmt.Errorf("read the topology: %w", err)
		}
		if err := t.Seal(); err != nil {
			return nil, err
		}
		m.current.Store(t)
	}
	m.mu.Lock()
	m.schedule()
	m.mu.Unlock()
	return m, nil
}

// Topology is the present one. Nobody may change it.
func (m *Manager) Topology() *topology.Topology { return m.current.Load() }

// Change replaces the topology by what f makes of it, durably.
func (m *Manager) Change(f func(topology.Topology) (topology.Topology, error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	next, err := f(*m.current.Load())
	if err != nil {
		return err
	}
	return m.decide(next)
}

func (m *Manager) decide(t topology.Topology) error {
	if err := t.Seal(); err != nil {
		return err
	}
	b, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return fmt.Errorf("write the topology: %w", err)
	}
	err = m.file.Save(append(b, '\n'))
	if err != nil {
		err = fmt.Errorf("write the topology of epoch %d: %w", t.Epoch, err)
		if !errors.Is(err, ErrUncertain) {
			return err
		}
		// It may stand after a restart, and what is written until then must be
		// of its epoch, or a flush would take it too.
	}
	first := m.current.Load() == nil
	m.current.Store(&t)
	if !first {
		m.changed()
	}
	return err
}

// ErrUncertain is what a File's Save returns, wrapped, when the new content may
// be the one that is found after a crash.
var ErrUncertain = errors.New("may or may not have been saved")

// Flush makes everything stored so far absent: at once if the moment has come,
// else when it comes, also after a restart. A later Flush takes the place of
// one that still waits. Milliseconds since 1970.
func (m *Manager) Flush(at int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := m.current.Load().Flush()
	if at > m.now() {
		next = m.current.Load().FlushLater(at)
	}
	if err := m.decide(next); err != nil {
		return err
	}
	m.schedule()
	return nil
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
	wait := min(t.FlushAt-m.now(), flushLook)
	m.timer = time.AfterFunc(time.Duration(wait)*time.Millisecond, m.flushDue)
}

// flushLook is after how many milliseconds at most the clock is looked at again:
// a far moment is no duration that a timer can hold.
const flushLook = 3_600_000

// flushRetry is how soon a flush that could not be written down is tried again.
const flushRetry = time.Second

func (m *Manager) flushDue() {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.current.Load()
	if t.FlushAt == 0 || m.closed {
		return
	}
	if t.FlushAt > m.now() { // the clock was set back, or another flush took its place
		m.schedule()
		return
	}
	if err := m.decide(t.Flush()); err != nil {
		m.log.Error("a scheduled flush_all could not be carried out; trying again", "err", err)
		m.timer = time.AfterFunc(flushRetry, m.flushDue)
	}
}

// Close ends the waiting; a scheduled flush is carried out after the next Open.
func (m *Manager) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	if m.timer != nil {
		m.timer.Stop()
	}
	return nil
}
