package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"unkai"
	"unkai/internal/store"
)

// formatVersion is the layout of keys and values; a store of a higher one is
// refused.
const formatVersion = 1

// Open opens the store in cfg.Dir, or makes one there.
func Open(cfg Config) (*Engine, error) {
	cfg.fill()
	e := &Engine{
		cfg:    cfg,
		log:    cfg.Log.With("store", cfg.Dir),
		fs:     cfg.FS,
		health: func() {},

		floors: make([]atomic.Uint64, cfg.Buckets),
		gens:   make([]atomic.Uint32, cfg.Buckets),
		gates:  make([]atomic.Pointer[gate], cfg.Buckets),
		runs:   runs{of: make([]atomic.Pointer[[]*run], cfg.Buckets)},

		awake:      make(chan struct{}, 1),
		brokenDown: make(chan struct{}),
		failed:     make(chan struct{}),
		done:       make(chan struct{}),
		committed:  make(chan struct{}),
		hung:       make(chan struct{}),
		quiet:      make(chan struct{}),
	}
	e.scratch.New = func() any { return new([]byte) }
	e.adjust.Store(new(counts))
	if cfg.Buckets < 1 || cfg.Buckets > 1<<16 {
		return nil, fmt.Errorf("opening the store: %d buckets: want 1 to %d", cfg.Buckets, 1<<16)
	}
	if e.fs == nil {
		watched, closer := vfs.WithDiskHealthChecks(vfs.Default, slowDisk, nil, func(i vfs.DiskSlowInfo) {
			e.warn("the disk is slow", "details", i.String())
		})
		e.fs, e.health = watched, func() { _ = closer.Close() }
	}
	if err := e.open(); err != nil {
		return nil, fmt.Errorf("opening the store in %s: %w", cfg.Dir, errors.Join(err, e.undo()))
	}
	return e, nil
}

const slowDisk = 5 * time.Second

// undo gives back what a failed Open has taken.
func (e *Engine) undo() error {
	var err error
	if e.db != nil {
		err = e.db.Close()
	}
	if e.lock != nil {
		err = errors.Join(err, e.lock.Close())
	}
	e.health()
	return errors.Join(err, e.release())
}

func (e *Engine) open() error {
	dir := e.cfg.Dir
	if err := makeDir(e.fs, dir); err != nil {
		return err
	}
	lock, err := pebble.LockDirectory(dir, e.fs)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return err
		}
		return fmt.Errorf("%w (%w)", ErrInUse, err)
	}
	e.lock = lock
	fresh, err := e.inspect()
	if err != nil {
		return err
	}
	reserve := uint64(e.cfg.Reserve)
	if e.cfg.Reserve <= 0 {
		reserve = defaultReserve(e.fs, dir)
	}
	e.space = &space{fs: e.fs, dir: dir, reserve: reserve, used: e.used, warn: e.log.Warn, ask: make(chan struct{}, 1)}

	e.guard = &guardFS{
		FS: e.fs, dir: dir, broken: &e.broken, fail: e.fail,
		policy: e.cfg.Sync, syncs: &e.syncs, logs: map[*logFile]struct{}{}, asked: e.retries.room,
	}

	e.guard.hurry.Store(true) // until it is open

	start := time.Now()
	if err := e.clearIncoming(); err != nil {
		return err
	}
	if err := e.prepareLog(); err != nil {
		return err
	}
	if e.db, err = e.openPebble(); err != nil {
		return err
	}
	if err := e.readMeta(fresh); err != nil {
		return err
	}
	e.fresh = fresh
	if err := e.readMark(); err != nil {
		return err
	}
	if e.cfg.Sync == Always {
		if err := e.unmark(); err != nil {
			return err
		}
	}
	for i := range e.shards {
		if e.shards[i].cache, err = newCache(int(e.cfg.Cache / 4 * 3 / shardCount)); err != nil {
			return err
		}
	}
	e.batch = e.db.NewBatch(pebble.WithInitialSizeBytes(64<<10), pebble.WithMaxRetainedSizeBytes(keepBatch))
	e.space.sample()
	e.space.relieve = e.relieve
	e.background.Go(func() { e.space.run(e.done) })
	if e.cfg.Sync == Interval {
		e.background.Go(func() { e.guard.syncEvery(e.cfg.Interval, e.done) })
	}
	go e.commitLoop()
	go e.watchReads(e.quiet)
	e.log.Info("the store is open", "items", e.total.items, "tombstones", e.total.tombstones, "promises", e.total.promises,
		"bytes", e.total.bytes, "sync", e.cfg.Sync.String(), "took", time.Since(start))
	return nil
}

// makeDir makes a directory that is still there after a power cut.
func makeDir(fsys vfs.FS, dir string) error {
	if err := fsys.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making the directory: %w", err)
	}
	parent, err := fsys.OpenDir(fsys.PathDir(dir))
	if err != nil {
		return fmt.Errorf("making the directory: %w", err)
	}
	if err := errors.Join(parent.Sync(), parent.Close()); err != nil {
		return fmt.Errorf("making the directory: %w", err)
	}
	return nil
}

// inspect says whether the directory holds no store yet, and refuses one that
// holds something else.
func (e *Engine) inspect() (fresh bool, err error) {
	desc, err := pebble.Peek(e.cfg.Dir, e.fs)
	if err != nil {
		return false, fmt.Errorf("looking for a store: %w", err)
	}
	if desc.Exists {
		return false, nil
	}
	names, err := e.fs.List(e.cfg.Dir)
	if err != nil {
		return false, fmt.Errorf("looking for a store: %w", err)
	}
	for _, n := range names {
		if !ours(n) {
			return false, fmt.Errorf("%w: found %q", ErrForeign, n)
		}
	}
	return true, nil
}

// ours are the files that a store leaves which was never made in full.
func ours(file string) bool {
	for _, p := range []string{"LOCK", "MANIFEST-", "OPTIONS-", "CURRENT", "marker.", "temporary.", unsyncedFile} {
		if strings.HasPrefix(file, p) {
			return true
		}
	}
	return strings.HasSuffix(file, ".log") || strings.HasSuffix(file, ".dbtmp")
}

const (
	memTable   = 32 << 20
	memTables  = 4
	blockSize  = 4 << 10
	indexSize  = 256 << 10 // one index for each table
	bitsPerKey = 10
	tableSize  = 4 << 20 // fourfold at the bottom; a table's filter is read and kept as a whole
	baseLevel  = 64 << 20
)

func (e *Engine) openPebble() (*pebble.DB, error) {
	// The pebble takes the memtables out of the cache of blocks; without room
	// for them it would keep no block at all.
	blocks := pebble.NewCache(e.cfg.Cache/4 + memTables*memTable)
	defer blocks.Unref()
	o := &pebble.Options{
		FS:                          e.guard,
		Lock:                        e.lock,
		Cache:                       blocks,
		FormatMajorVersion:          pebble.FormatNewest,
		Logger:                      pebbleLog{e},
		EventListener:               e.listener(),
		MemTableSize:                memTable,
		MemTableStopWritesThreshold: memTables,
		L0StopWritesThreshold:       1000, // bounded by the memtables; stopping would hang
		LBaseMaxBytes:               baseLevel,
		CompactionConcurrencyRange:  func() (int, int) { return 1, max(1, runtime.GOMAXPROCS(0)/2) },
		FlushDelayDeleteRange:       10 * time.Second,
	}
	for i := range o.Levels {
		o.TargetFileSizes[i] = tableSize << (i / 3)
		o.Levels[i].BlockSize = blockSize
		o.Levels[i].IndexBlockSize = indexSize
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(bitsPerKey)
	}
	// A table may find its place between two records of another one.
	o.Experimental.IngestSplit = func() bool { return true }
	o.EnsureDefaults()
	db, err := pebble.Open(e.cfg.Dir, o)
	if err == nil {
		e.tables.least, e.tables.many = leastTable, manyTables
		e.tables.buffers = newTableBuffers()
		e.tables.options = o.MakeWriterOptions(len(o.Levels)-1, db.TableFormat())
	}
	if err == nil && e.broken.Load() {
		err = errors.Join(store.ErrBroken, db.Close())
		db = nil
	}
	return db, err
}

// readMeta reads what the store knows of itself, or writes it into a new one.
func (e *Engine) readMeta(fresh bool) error {
	v, closer, err := e.db.Get(formatKey)
	if errors.Is(err, pebble.ErrNotFound) {
		return e.initMeta(fresh)
	}
	if err != nil {
		return fmt.Errorf("reading the format: %w", err)
	}
	v, err = unseal(formatKey, append([]byte(nil), v...))
	if err := errors.Join(err, closer.Close()); err != nil {
		return fmt.Errorf("reading the format: %w", err)
	}
	if len(v) < 6 {
		return fmt.Errorf("reading the format: %w", errMeta)
	}
	if got := binary.LittleEndian.Uint16(v); got != formatVersion {
		return fmt.Errorf("%w: its format is %d, known here is %d", ErrFormat, got, formatVersion)
	}
	if got := int(binary.LittleEndian.Uint32(v[2:])); got != e.cfg.Buckets {
		return fmt.Errorf("%w: %d, configured are %d", ErrBuckets, got, e.cfg.Buckets)
	}
	if err := e.readCounts(); err != nil {
		return err
	}
	return e.readFloors()
}

func (e *Engine) readMark() error {
	v, closer, err := e.db.Get(markKey)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the mark: %w", err)
	}
	v, err = unseal(markKey, append([]byte(nil), v...))
	if err = errors.Join(err, closer.Close()); err == nil && len(v) != 8 {
		err = errMeta
	}
	if err != nil {
		return fmt.Errorf("reading the mark: %w", err)
	}
	e.mark.Store(binary.LittleEndian.Uint64(v))
	return nil
}

// Mark is the number last given to SetMark, as far as the store has kept it. A
// store with an earlier one than it was given is an older copy, or has lost
// something.
func (e *Engine) Mark() uint64 { return e.mark.Load() }

// SetMark keeps a number, durably by the sync policy.
func (e *Engine) SetMark(n uint64) error {
	b := e.db.NewBatch()
	if err := b.Set(markKey, seal(markKey, binary.LittleEndian.AppendUint64(nil, n)), nil); err != nil {
		return fmt.Errorf("setting the mark: %w", err)
	}
	if err := e.exclusive(func() error { return e.once(b) }); err != nil {
		return fmt.Errorf("setting the mark: %w", err)
	}
	e.mark.Store(n)
	return nil
}

// Fresh reports whether there was no store when this one was opened.
func (e *Engine) Fresh() bool { return e.fresh }

// initMeta makes an empty pebble a store.
func (e *Engine) initMeta(fresh bool) error {
	if !fresh {
		it, err := e.db.NewIter(nil)
		if err != nil {
			return fmt.Errorf("looking for a store: %w", err)
		}
		some := it.First()
		if err := it.Close(); err != nil {
			return fmt.Errorf("looking for a store: %w", err)
		}
		if some {
			return ErrForeign
		}
	}
	v := binary.LittleEndian.AppendUint16(nil, formatVersion)
	v = binary.LittleEndian.AppendUint32(v, uint32(e.cfg.Buckets))
	b := e.db.NewBatch()
	if err := b.Set(formatKey, seal(formatKey, v), nil); err != nil {
		return fmt.Errorf("writing the format: %w", err)
	}
	if err := e.putCounts(b); err != nil {
		return err
	}
	return e.once(b)
}

func (e *Engine) readFloors() error {
	return e.eachMeta(floorSpace(), func(b unkai.Bucket, key, sealed []byte) error {
		n, err := unsealNumber(key, sealed)
		if err != nil {
			return fmt.Errorf("reading the floor of bucket %d: %w", b, err)
		}
		e.floors[b].Store(n)
		return nil
	})
}

// eachMeta calls f for every key that is prefix and a bucket.
func (e *Engine) eachMeta(prefix []byte, f func(b unkai.Bucket, key, value []byte) error) error {
	it, err := e.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return fmt.Errorf("reading %q: %w", prefix[1:], err)
	}
	for it.First(); it.Valid(); it.Next() {
		k := it.Key()[len(prefix):]
		if len(k) != 2 || int(binary.BigEndian.Uint16(k)) >= e.cfg.Buckets {
			err = fmt.Errorf("reading %q: a key of unknown form", prefix[1:])
			break
		}
		if err = f(unkai.Bucket(binary.BigEndian.Uint16(k)), it.Key(), it.Value()); err != nil {
			break
		}
	}
	if err := errors.Join(err, it.Error(), it.Close()); err != nil {
		return err
	}
	return nil
}

// used asks the pebble how much room it takes, and hurries its background work
// where that lags or where it makes room.
func (e *Engine) used() int64 {
	m := e.db.Metrics()
	e.guard.hurry.Store(lags(m) || e.space.full.Load())
	e.tables.crowded.Store(crowded(m, e.tables.spared.Load()))
	return int64(m.DiskSpaceUsage())
}

func sealNumber(key []byte, n uint64) []byte {
	return seal(key, binary.LittleEndian.AppendUint64(nil, n))
}

func unsealNumber(key, sealed []byte) (uint64, error) {
	v, err := unseal(key, sealed)
	if err != nil {
		return 0, err
	}
	if len(v) != 8 {
		return 0, errMeta
	}
	return binary.LittleEndian.Uint64(v), nil
}
