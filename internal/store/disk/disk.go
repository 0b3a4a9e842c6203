// Package disk is the durable engine: records in a pebble, an LSM tree, behind
// a group commit and a cache of our own.
//
// A write is applied at once to memory, where every reader sees it marked as
// unsynced, and becomes durable together with all that gathered meanwhile: one
// batch, one sync. The counts of records and the floors of the buckets are
// written in the same batches, so that they are exact after a crash. Where many new
// records come together, they become tables of the LSM without that detour.
package disk

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"unkai"
	"unkai/internal/store"
)

// FS is the file system that a store is kept on, so that tests can bring their own.
type FS = vfs.FS

// Sync says when a write counts as durable.
type Sync uint8

const (
	// Always: when the disk has it. Nothing that was acknowledged is lost.
	Always Sync = iota
	// Interval: when the system has it; the disk has it within Config.Interval.
	// A power cut loses what was written during the last interval; the end of
	// the process loses nothing.
	Interval
	// Off: when the system has it, which writes it to the disk when it likes.
	// A power cut may lose all writes since the log was last changed; the end
	// of the process loses nothing.
	Off
)

// String is the name of the policy as ParseSync reads it.
func (s Sync) String() string { return [...]string{"always", "interval", "off"}[s] }

// ParseSync reads "always", "interval" or "off".
func ParseSync(name string) (Sync, error) {
	for s := Always; s <= Off; s++ {
		if s.String() == name {
			return s, nil
		}
	}
	return Always, fmt.Errorf("sync policy %q: want always, interval or off", name)
}

// Errors of Open.
var (
	// ErrInUse: another process has the store open.
	ErrInUse = errors.New("the store is already open, here or by another process")
	// ErrForeign: the directory holds something else.
	ErrForeign = errors.New("the directory holds something that is not a store of this kind")
	// ErrFormat: a newer version wrote the store.
	ErrFormat = errors.New("the store was written by a newer version")
	// ErrBuckets: the store was made for another number of buckets.
	ErrBuckets = errors.New("the store has another number of buckets")
)

// Config says where a store is and how it is kept. Only Dir is needed.
type Config struct {
	// Dir holds the store, and nothing else. It is made when it is not there.
	Dir string
	// FS; nil: the real one.
	FS FS
	// Buckets of the cluster, fixed when the store is made. 0: unkai.DefaultBuckets.
	Buckets int
	// Sync policy, and how often with Interval; 0: a second.
	Sync     Sync
	Interval time.Duration
	// Cache is how many bytes records and blocks in memory may take together.
	// 0: 256 MiB.
	Cache int64
	// Reserve is how many bytes of the disk are kept free: with less, growth is
	// refused. 0: a hundredth of the disk, and at least 256 MiB or, of a small
	// disk, a quarter.
	Reserve int64
	// Log; nil: slog.Default.
	Log *slog.Logger
	// Failed is told, once and on a goroutine of its own, when the store broke:
	// the disk failed, or did not answer a read for ten seconds. Who waits for
	// that read goes on waiting.
	Failed func(error)
	// Now, in milliseconds since 1970; nil: the clock.
	Now func() int64
}

const (
	defaultCache    = 256 << 20
	defaultInterval = time.Second
)

func (c *Config) fill() {
	if c.Buckets == 0 {
		c.Buckets = unkai.DefaultBuckets
	}
	if c.Interval <= 0 {
		c.Interval = defaultInterval
	}
	if c.Cache <= 0 {
		c.Cache = defaultCache
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Now == nil {
		c.Now = func() int64 { return time.Now().UnixMilli() }
	}
}

// Engine is a store on disk. It implements store.Engine.
type Engine struct {
	cfg    Config
	log    *slog.Logger
	fs     vfs.FS
	guard  *guardFS // fs as the pebble sees it
	health func()   // stops the watch over slow disks
	lock   *pebble.Lock
	db     *pebble.DB
	space  *space
	relief <-chan struct{} // the last flush for the sake of room; nil: none yet

	mark  atomic.Uint64
	fresh bool

	shards [shardCount]shard
	floors []atomic.Uint64 // by bucket, as the next two
	gens   []atomic.Uint32 // counts drops: what is cached of an older one is void
	gates  []atomic.Pointer[gate]
	runs   runs

	dirty   atomic.Uint64 // shards in which something gathers
	waiting atomic.Int64  // weight of all writes that wait

	mu       sync.Mutex // for what the committer takes over
	barriers writeList
	underway *store.Write // barriers of the group under way
	jobs     []job
	awake    chan struct{}

	// The committer's own.
	batch     *pebble.Batch
	total     counts
	countsBuf []byte
	purged    []unkai.Bucket
	tables    tables

	adjust     atomic.Pointer[counts] // at the start, and by drops
	syncs      atomic.Int64
	damaged    atomic.Int64
	warnings   limiter
	retries    retries
	scratch    sync.Pool // *[]byte
	broken     atomic.Bool
	loaded     func()      // of tests: called when a record was read, before it is believed
	stuck      atomic.Bool // the pebble will not end: see Fatalf, watchReads
	closing    atomic.Bool
	draining   atomic.Bool
	brokenDown chan struct{} // closed when broken
	failed     chan struct{} // closed when everybody was told so
	done       chan struct{} // ends the background work
	committed  chan struct{} // closed when the committer has ended
	hung       chan struct{} // closed when the disk did not answer a read for long
	quiet      chan struct{} // closed when nothing reads any more
	background sync.WaitGroup
}

var _ store.Engine = (*Engine)(nil)

// Stats implements store.Engine.
func (e *Engine) Stats() store.Stats {
	st := store.Stats{
		Used: e.space.usage.Load(), Limit: e.space.limit.Load(), Full: e.space.full.Load(),
		Damaged: e.damaged.Load(), Syncs: e.syncs.Load(),
	}
	c := *e.adjust.Load()
	for i := range e.shards {
		s := &e.shards[i]
		s.mu.Lock()
		c.add(s.counts)
		st.Writes += s.writes
		st.CacheHits += s.hits
		st.CacheMiss += s.miss
		st.CacheBytes += int64(s.cache.used)
		s.mu.Unlock()
	}
	st.Items, st.Tombstones, st.Promises, st.Bytes = c.items, c.tombstones, c.promises, c.bytes
	return st
}

// Checkpoint implements store.Engine: the copy is a store that can be opened.
func (e *Engine) Checkpoint(dir string) error {
	// It looks at the tables first, and at the log later: no table may come in between, on
	// which something in the log follows.
	if err := e.exclusive(func() error { e.tables.copied.Add(1); return nil }); err != nil {
		return fmt.Errorf("making a checkpoint: %w", err)
	}
	defer e.tables.copied.Add(-1)
	err := e.db.Checkpoint(dir, pebble.WithFlushedWAL())
	if e.broken.Load() {
		err = store.ErrBroken
	}
	if err != nil {
		return fmt.Errorf("making a checkpoint: %w", err)
	}
	return nil
}

// Close implements store.Engine. Of a broken store it leaves on the disk what
// is there. When the disk does not answer, it ends without giving back files and
// lock, which somebody may be using still.
func (e *Engine) Close() error {
	if !e.closing.CompareAndSwap(false, true) {
		return fmt.Errorf("closing the store: %w", store.ErrClosed)
	}
	e.fence()
	e.draining.Store(true)
	e.wake()
	select {
	case <-e.committed:
	case <-e.brokenDown:
	}
	close(e.done)
	err := e.closePebble()
	close(e.quiet)
	if e.broken.Load() {
		<-e.failed
		err = errors.Join(store.ErrBroken, err)
	} else if err == nil {
		err = e.unmark()
	}
	if !e.stuck.Load() { // else it may write still
		err = errors.Join(err, e.lock.Close())
	}
	err = errors.Join(err, e.release())
	e.health()
	if err != nil {
		return fmt.Errorf("closing the store: %w", err)
	}
	return nil
}

// closePebble waits for all that goes on in the background, and closes the
// pebble; but it does not wait for a disk that does not answer.
func (e *Engine) closePebble() error {
	if e.stuck.Load() {
		return nil
	}
	closed := make(chan error, 1)
	go func() {
		<-e.committed
		e.background.Wait()
		e.guard.hurry.Store(true)
		closed <- e.db.Close()
	}()
	select {
	case err := <-closed:
		return err
	case <-e.hung:
		return errHung
	}
}

// fence waits until whoever passed a check under a lock has done what it allowed.
func (e *Engine) fence() {
	for i := range e.shards {
		e.shards[i].mu.Lock()
		e.shards[i].mu.Unlock() //nolint:staticcheck // to have had it is the point
	}
	e.mu.Lock()
	e.mu.Unlock() //nolint:staticcheck // as above
}

// release gives the caches' memory back.
func (e *Engine) release() error {
	var err error
	for i := range e.shards {
		s := &e.shards[i]
		s.mu.Lock()
		err = errors.Join(err, s.cache.close())
		s.mu.Unlock()
	}
	return err
}
