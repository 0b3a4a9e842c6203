package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"

	"unkai/internal/store"
)

// tables gives runs to the pebble as tables of its own where there is enough of them: then
// their bytes are written once, and not to the log, by a flush and by a compaction. It is
// the committer's, but for the flags.
//
// What the tables add to the counts is in none of them. It is written to the log before, with
// one of the keys: where that is, all of it is, and counts. See docs/decisions/0015.
type tables struct {
	least   int // bytes that are worth a table
	many    int // bytes that are worth what a group of tables costs
	options sstable.WriterOptions
	files   uint64 // how many were made, for their names
	sorted  []*run
	paths   []string
	buffers sync.Pool // *[]byte

	expected bool // the counts were last written with what tables may add

	pause int      // how many groups are left that make none
	stray []string // files that were not taken, and could not be removed

	copied  atomic.Int64 // checkpoints under way, which must not miss one of two things
	crowded atomic.Bool  // there are many small tables already
	spared  atomic.Int64 // how many more of them there may be, in tests fewer
	made    atomic.Int64
}

const (
	leastTable  = 128 << 10
	manyTables  = 512 << 10
	mostTable   = 8 << 20
	tablesAtOne = 4 // are written at once: they wait for the disk together

	// smallTables is how many the store may have beyond what it has to have. Each takes a
	// place among the files that the pebble keeps open, which are a thousand.
	smallTables = 800

	// vainPause is how many groups make no tables after one made them in vain: what was in
	// the way mostly still is, and they would be written twice.
	vainPause = 64
)

// incoming is how the names of tables begin that the pebble does not have yet.
const incoming = "incoming-"

func isIncoming(name string) bool { return strings.HasPrefix(name, incoming) }

// clearIncoming removes what a crash has left of them.
func (e *Engine) clearIncoming() error {
	names, err := e.fs.List(e.cfg.Dir)
	if err != nil {
		return fmt.Errorf("looking for tables that were never taken: %w", err)
	}
	for _, n := range names {
		if isIncoming(n) {
			if err := e.fs.Remove(e.fs.PathJoin(e.cfg.Dir, n)); err != nil {
				return fmt.Errorf("removing a table that was never taken: %w", err)
			}
		}
	}
	return nil
}

// clearStray removes files that were not taken. What cannot be removed is tried again before
// the next tables are made, which waits for that, and when the store opens.
func (e *Engine) clearStray() {
	e.tables.stray = slices.DeleteFunc(e.tables.stray, func(path string) bool {
		err := e.guard.Remove(path)
		return err == nil || errors.Is(err, fs.ErrNotExist)
	})
}

// bring makes tables of those runs for which it pays, and returns the others, and the counts
// of what it has brought: that is durable, as if a batch had been written. The pebble has
// what before counts.
func (e *Engine) bring(runs []*run, before counts) (rest []*run, sum counts, err error) {
	g := &e.tables
	size := 0
	for _, r := range runs {
		size += len(r.data)
	}
	// Under a weak policy the log may lose what the tables follow on, and syncs are dear.
	if size < g.many || e.cfg.Sync != Always || g.copied.Load() > 0 || g.crowded.Load() {
		return runs, sum, nil
	}
	// What was dropped or purged there and is in a memtable still goes before a table: the
	// pebble puts the table behind it, but waits for a flush, however long that takes, when
	// so many wait for one already.
	if e.db.Metrics().MemTable.Count >= memTables {
		return runs, sum, nil
	}
	if g.pause > 0 {
		g.pause--
		return runs, sum, nil
	}
	g.sorted = append(g.sorted[:0], runs...) // who abandons them may read runs meanwhile
	defer clear(g.sorted)
	slices.SortFunc(g.sorted, func(a, b *run) int { return bytes.Compare(a.first(), b.first()) })
	pieces, rest, err := e.pieces(g.sorted)
	if err != nil || len(pieces) == 0 {
		return runs, sum, nil // what cannot be read is no reason not to write
	}
	size, g.paths = 0, g.paths[:0]
	for _, p := range pieces {
		g.files++
		g.paths = append(g.paths, e.fs.PathJoin(e.cfg.Dir, fmt.Sprintf("%s%d.sst", incoming, g.files)))
		for _, r := range p {
			sum.add(r.counts)
			size += len(r.data)
		}
	}
	if size < g.many {
		return runs, counts{}, nil
	}
	if e.clearStray(); len(g.stray) > 0 { // there would be more and more of them
		g.pause = vainPause
		return runs, counts{}, nil
	}
	e.space.wrote(int64(size))
	err = e.makeTables(pieces, before, sum)
	if err == nil {
		if err = e.db.Ingest(context.Background(), g.paths); err == nil && !e.broken.Load() {
			g.made.Add(int64(len(pieces)))
			return rest, sum, nil
		}
		// It may be that something else could not be read. Were the tables taken all the
		// same, then a batch says the same again.
		e.warn("tables were not taken: they are written as a batch", "err", err)
		err = nil
	}
	g.pause = vainPause
	g.stray = append(g.stray, g.paths...)
	e.clearStray()
	switch {
	case e.broken.Load():
		return nil, counts{}, store.ErrBroken
	case isFull(err):
		e.warn("a table found the disk full", "err", err)
		e.space.look()
	case err != nil: // there is no reason to believe the disk
		return nil, counts{}, fmt.Errorf("writing a table: %w", err)
	}
	return runs, counts{}, nil
}

// pieces cuts sorted runs into what becomes one table each: within its bounds the pebble holds
// nothing. So it goes to the lowest level, where it stays, and needs no flush before it. What
// is too little for a table is left over, and so is what lies among other records.
func (e *Engine) pieces(sorted []*run) (pieces [][]*run, rest []*run, err error) {
	g := &e.tables
	end := sorted[0].last()
	for _, r := range sorted {
		if l := r.last(); bytes.Compare(l, end) > 0 {
			end = l
		}
	}
	// Behind the last there may be much that was purged, or cannot be read.
	it, err := e.db.NewIter(&pebble.IterOptions{
		LowerBound: sorted[0].first(), UpperBound: append(slices.Clone(end), 0),
	})
	if err != nil {
		return nil, nil, err
	}
	from, size := 0, 0 // of the piece that grows
	cut := func(at int) {
		if size >= g.least {
			pieces = append(pieces, sorted[from:at])
		} else {
			rest = append(rest, sorted[from:at]...)
		}
		from, size = at, 0
	}
	there := it.First()
	for at := 0; at < len(sorted); {
		n, last := together(sorted[at:])
		if there && bytes.Compare(it.Key(), sorted[at].first()) < 0 {
			cut(at)
			there = it.SeekGE(sorted[at].first())
		}
		if there && bytes.Compare(it.Key(), last) <= 0 {
			cut(at)
			rest = append(rest, sorted[at:at+n]...)
			from = at + n
		} else {
			for _, r := range sorted[at : at+n] {
				size += len(r.data)
			}
			if size >= mostTable {
				cut(at + n)
			}
		}
		at += n
	}
	cut(len(sorted))
	return pieces, rest, errors.Join(it.Error(), it.Close())
}

// together is how many of sorted runs, from the first on, have keys among each other's, and
// the last of these keys.
func together(sorted []*run) (n int, last []byte) {
	last = sorted[0].last()
	for n = 1; n < len(sorted) && bytes.Compare(sorted[n].first(), last) < 0; n++ {
		if l := sorted[n].last(); bytes.Compare(l, last) > 0 {
			last = l
		}
	}
	return n, last
}

// makeTables writes the tables, durably, and what they add to the counts.
func (e *Engine) makeTables(pieces [][]*run, before, sum counts) error {
	g := &e.tables
	errs := make([]error, len(pieces)+1)
	var all sync.WaitGroup
	all.Go(func() { errs[len(pieces)] = e.expect(before, sum, pieces[0][0].first()) })
	var next atomic.Int64
	for range min(len(pieces), tablesAtOne) {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(pieces)); i = next.Add(1) - 1 {
				errs[i] = e.makeTable(g.paths[i], pieces[i])
			}
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil && !isFull(err) {
			return err // though another one found the disk full
		}
	}
	return errors.Join(errs...)
}

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// expect notes what tables are about to add to the counts, and a key by which it will be
// known whether they have.
func (e *Engine) expect(before, sum counts, key []byte) error {
	b := e.db.NewBatch()
	e.tables.expected = true
	e.countsBuf = appendExpecting(e.countsBuf[:0], before, sum, key)
	if err := b.Set(countsKey, e.countsBuf, nil); err != nil {
		return fmt.Errorf("writing the counts: %w", err)
	}
	return e.once(b)
}
