// Package manager decides the topology, together with the managers of other
// nodes, and remembers it. Every node has a manager; those that the topology
// names decide the next one (core/decree), the others ask them and follow.
package manager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"unkai"
	"unkai/internal/core/decree"
	"unkai/internal/core/topology"
)

// File is where a manager keeps something: whole, or not at all.
type File interface {
	// Load gives what was last saved, or an error that is fs.ErrNotExist.
	Load() ([]byte, error)
	// Save is durable when it returns.
	Save([]byte) error
}

// Network asks other nodes' managers, for no longer than ctx lasts.
type Network interface {
	Ask(ctx context.Context, to unkai.NodeID, question []byte) ([]byte, error)
}

// Config is what a Manager needs.
type Config struct {
	Self unkai.NodeID
	// Topology keeps the newest topology known, Decree what was promised about
	// the next one.
	Topology, Decree File
	Network          Network
	Now              func() int64 // milliseconds since 1970
	Log              *slog.Logger
	// Changed is called after every later topology.
	Changed func()
	// Rand gives random numbers for waiting before a change is tried again; nil:
	// those of math/rand.
	Rand func() uint64
	// Timeout for one round of questions.
	Timeout time.Duration
}

// Errors of a Change.
var (
	// ErrInDoubt: the change may have been decided, or may yet be.
	ErrInDoubt = errors.New("in doubt")
	// ErrUncertain is what a File's Save returns, wrapped, when the new content
	// may be the one that is found after a crash.
	ErrUncertain = errors.New("may or may not have been saved")

	errClosed  = errors.New("this node is stopping")
	errForeign = errors.New("the topology is of another cluster")
)

// Manager is safe for concurrent use.
type Manager struct {
	cfg     Config
	current atomic.Pointer[topology.Topology]
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	turn    chan struct{} // held by who proposes a change at this node

	rounds, learned, since atomic.Int64 // for Stats

	learning sync.Mutex // so that what two tell at once is taken over once

	mu     sync.Mutex // of what is below; never held while another node is asked
	text   []byte     // the current topology, encoded
	steps  []step     // that led to it
	unsure bool       // it may not be what stands after a restart
	state  decree.State
	stands bool // the state, after a restart
	timer  *time.Timer
	closed bool
}

// Open reads the topology that was kept, or begins with the one that first makes.
func Open(cfg Config, first func() (topology.Topology, error)) (*Manager, error) {
	if cfg.Rand == nil {
		cfg.Rand = rand.Uint64
	}
	m := &Manager{cfg: cfg, turn: make(chan struct{}, 1)}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	if err := m.load(first); err != nil {
		return nil, err
	}
	m.mu.Lock()
	m.schedule()
	m.mu.Unlock()
	return m, nil
}

func (m *Manager) load(first func() (topology.Topology, error)) error {
	b, err := m.cfg.Topology.Load()
	if errors.Is(err, fs.ErrNotExist) {
		t, err := first()
		if err != nil {
			return err
		}
		if err := t.Seal(); err != nil {
			return err
		}
		return m.keep(&t, nil, false)
	}
	if err != nil {
		return fmt.Errorf("read the topology: %w", err)
	}
	t, err := topology.Decode(b)
	if err != nil {
		return fmt.Errorf("read the topology: %w", err)
	}
	m.text = t.Encode()
	m.current.Store(t)
	m.since.Store(m.cfg.Now())
	b, err = m.cfg.Decree.Load()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("read what was promised about the next topology: %w", err)
	}
	if err := json.Unmarshal(b, &m.state); err != nil {
		return fmt.Errorf("read what was promised about the next topology: %w", err)
	}
	m.stands = true
	return nil
}

// Topology is the present one. Nobody may change it.
func (m *Manager) Topology() *topology.Topology { return m.current.Load() }

// errAsked: somebody has asked for a promise about the epoch.
var errAsked = errors.New("another node is proposing a topology")

// keep makes a decided topology, which is sealed, the present one, durably, unless one as
// new is known. Steps are how it came of the one before, if that is at hand. Alone says
// that it is decided by being kept, and only if nobody has asked this manager for
// anything yet.
func (m *Manager) keep(t *topology.Topology, steps []step, alone bool) error {
	if old := m.current.Load(); old != nil && old.Epoch >= t.Epoch && old.Cluster == t.Cluster && !alone {
		return nil
	}
	text := t.Encode()
	m.mu.Lock()
	old := m.current.Load()
	switch {
	case old != nil && old.Cluster != t.Cluster:
		m.mu.Unlock()
		return errForeign
	case alone && (old.Epoch+1 != t.Epoch || m.state.For(t.Epoch).Promised != decree.Ballot{}):
		m.mu.Unlock()
		return errAsked
	case old != nil && old.Epoch >= t.Epoch:
		m.mu.Unlock()
		return nil
	}
	err := m.cfg.Topology.Save(text)
	if err != nil {
		err = fmt.Errorf("write the topology of epoch %d: %w", t.Epoch, err)
		if !errors.Is(err, ErrUncertain) {
			m.mu.Unlock()
			return err
		}
		// It may stand after a restart, and what is written until then must be
		// of its epoch, or a flush would take it too.
		m.unsure = true
	}
	m.text = text
	m.remember(old, steps)
	m.current.Store(t)
	m.noted()
	m.schedule()
	m.mu.Unlock()
	if old != nil {
		m.cfg.Changed()
	}
	return err
}

// settled makes sure that the present topology stands after a restart: before that
// nobody may rely on this node's knowing it, or on what it promises about the one
// after it. The lock is held.
func (m *Manager) settled() error {
	if !m.unsure {
		return nil
	}
	if err := m.cfg.Topology.Save(m.text); err != nil {
		return fmt.Errorf("write the present topology once more: %w", err)
	}
	m.unsure = false
	return nil
}

// Close ends the waiting; a scheduled flush is carried out after the next Open.
func (m *Manager) Close() error {
	m.mu.Lock()
	m.closed = true
	if m.timer != nil {
		m.timer.Stop()
	}
	m.mu.Unlock()
	m.cancel()
	m.running.Wait()
	return nil
}
