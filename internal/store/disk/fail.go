package disk

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"unkai/internal/store"
)

// stopped says why nothing is done any more.
func (e *Engine) stopped() error {
	switch {
	case e.broken.Load():
		return store.ErrBroken
	case e.closing.Load():
		return store.ErrClosed
	}
	return nil
}

// fail breaks the store: what waits is in doubt, whatever comes is refused, and
// the owner is told. It may be called from inside the pebble, under its locks,
// and again and again.
func (e *Engine) fail(err error) {
	if !e.broken.CompareAndSwap(false, true) {
		return
	}
	e.log.Error("the store is broken: the disk failed", "err", err)
	close(e.brokenDown)
	// Not from here: those who wait may call back, and this goroutine may hold
	// anything.
	go func() {
		cause := fmt.Errorf("%w: %w", store.ErrBroken, err)
		for i := range e.shards {
			s := &e.shards[i]
			s.mu.Lock()
			// A list is taken once, here or by the committer.
			flight, gather := s.flight().abandon(), s.gather().abandon()
			s.mu.Unlock()
			tell(flight, cause)
			tell(gather, cause)
		}
		for _, r := range e.runs.abandon() {
			r.told.end(cause)
		}
		e.mu.Lock()
		waiting, underway := e.barriers.first, e.underway
		e.barriers, e.underway = writeList{}, nil
		e.mu.Unlock()
		tell(waiting, cause)
		tell(underway, cause)
		e.wake()
		close(e.failed)
		if e.cfg.Failed != nil {
			e.cfg.Failed(cause) // which may close the store
		}
	}()
}

// pebbleLog is the logger of the pebble. What is fatal to it breaks the store,
// and not the process.
type pebbleLog struct{ e *Engine }

func (l pebbleLog) Infof(format string, args ...any) {
	l.e.log.Debug(strings.TrimSpace(fmt.Sprintf(format, args...)))
}

func (l pebbleLog) Errorf(format string, args ...any) {
	if l.e.stopped() == nil {
		l.e.log.Warn(strings.TrimSpace(fmt.Sprintf(format, args...)))
	}
}

// Fatalf must not return. Errors of the disk do not get this far, see guardFS;
// what does is the pebble's own doing. Ending the goroutine runs what it
// deferred, so that nobody waits for its locks; the pebble is not used again.
func (l pebbleLog) Fatalf(format string, args ...any) {
	l.e.stuck.Store(true)
	l.e.fail(fmt.Errorf(format, args...))
	runtime.Goexit()
}

// listener hears from the pebble's background work.
func (e *Engine) listener() *pebble.EventListener {
	e.retries.done = e.done
	return &pebble.EventListener{
		BackgroundError: e.backgroundError,
		CompactionBegin: func(info pebble.CompactionInfo) { e.retries.begin(&info) },
		TableCreated:    func(info pebble.TableCreateInfo) { e.retries.write(info.JobID) },
		CompactionEnd:   func(info pebble.CompactionInfo) { e.retries.end(&info) },
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			details, _, _ := strings.Cut(info.String(), "\n") // what follows is where in the program
			e.warn("a block of the store is damaged: keys in it are healed by the other replicas as they are noticed; to be rid of it look at the disk, stop this node, empty its store, and start it again",
				"details", details)
		},
		DiskSlow: func(info pebble.DiskSlowInfo) {
			e.warn("the disk is slow", "details", info.String())
		},
	}
}

// backgroundError hears that a flush or a compaction failed. A full disk may be
// emptied again and a bad block is healed elsewhere; after anything else there
// is no reason to believe the disk.
func (e *Engine) backgroundError(err error) {
	switch {
	case errors.Is(err, pebble.ErrCancelledCompaction):
	case pebble.IsCorruptionError(err):
		e.warn("background work found a damaged block", "err", err) // it is tried again: see retries
	case isFull(err):
		e.warn("background work found the disk full", "err", err)
		e.space.look()
		time.Sleep(retryPause) // the pebble tries again at once
	default:
		e.fail(fmt.Errorf("background work: %w", err))
		time.Sleep(retryPause)
	}
}

// retryPause is short: this is told under the pebble's lock.
const retryPause = 20 * time.Millisecond

// damage counts and logs a damaged record, and gives the error for it.
func (e *Engine) damage(key []byte, err error) error {
	e.damaged.Add(1)
	e.warn("a record is damaged", "key", string(key), "err", err)
	return fmt.Errorf("reading a record: %w", err)
}

// unreadable is the error for a record that the disk did not give. It is
// unknown, as if it were damaged.
func (e *Engine) unreadable(key []byte, err error) error {
	if e.broken.Load() {
		return fmt.Errorf("reading a record: %w", store.ErrBroken)
	}
	return e.damage(key, fmt.Errorf("%w: %w", store.ErrDamaged, err))
}

// warn logs, one line each second; the rest are counted.
func (e *Engine) warn(msg string, args ...any) {
	if !e.warnings.allow() {
		return
	}
	if n := e.warnings.unsaid.Swap(0); n > 0 {
		args = append(args, "unsaid", n)
	}
	e.log.Warn(msg, args...)
}

// limiter lets one line pass each second.
type limiter struct {
	last   atomic.Int64
	unsaid atomic.Int64
}

func (l *limiter) allow() bool {
	now := time.Now().UnixNano()
	last := l.last.Load()
	if now-last < int64(time.Second) || !l.last.CompareAndSwap(last, now) {
		l.unsaid.Add(1)
		return false
	}
	return true
}
