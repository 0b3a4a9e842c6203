package disk

import (
	"fmt"
	"math/bits"
	"runtime"

	"github.com/cockroachdb/pebble/v2"

	"unkai"
	"unkai/internal/store"
)

// keepBatch is how much memory is kept for the next group: that of one into which
// buckets are being brought. To grow anew is to copy it all twice.
const keepBatch = 16 << 20

// job is something that only the committer may do, between two groups: then
// everything applied before is durable, and nothing else is under way.
type job struct {
	run  func() error
	done chan error
}

// writeList is a list of writes by their Next.
type writeList struct{ first, last *store.Write }

// tell ends all writes of a list. Who hears it may use the write again at once.
func tell(w *store.Write, err error) {
	for w != nil {
		next := w.Next
		w.Next, w.Err = nil, err
		w.Done.WriteDone(w)
		w = next
	}
}

// wake tells the committer that there is something to do. When it has been
// told already, this costs next to nothing.
func (e *Engine) wake() {
	select {
	case e.awake <- struct{}{}:
	default:
	}
}

// commitLoop writes one group after the other until the engine is closed. While
// one is on its way to the disk the next one gathers; so groups are as large as
// the load asks for, and a lone write waits for nobody.
func (e *Engine) commitLoop() {
	defer close(e.committed)
	for {
		<-e.awake
		for e.commit() {
		}
		if e.broken.Load() {
			return
		}
		if e.draining.Load() && !e.commit() {
			if err := e.settleCounts(); err != nil {
				e.fail(err)
			}
			return
		}
	}
}

// commit makes durable what has gathered, and then runs the jobs that came
// before. It reports false when there was nothing to do.
func (e *Engine) commit() bool {
	e.gatherMore()
	// First what waits for the disk, then what it waits for: every write that
	// came before is in the group.
	e.mu.Lock()
	barriers, jobs := e.barriers.first, e.jobs
	e.barriers, e.jobs, e.underway = writeList{}, nil, barriers
	e.mu.Unlock()
	group := e.dirty.Swap(0)
	runs := e.runs.some()
	if group == 0 && !runs && barriers == nil && len(jobs) == 0 {
		return false
	}
	if group != 0 || runs {
		if err := e.writeGroup(group); err != nil {
			e.fail(err)
			return false
		}
	}
	if w := e.takeUnderway(); w != nil {
		tell(w, nil)
	}
	for _, j := range jobs {
		j.done <- j.run()
	}
	return true
}

// gatherMore lets those who were just told, and whoever else can run, add to
// the group, for as long as it grows. On an idle machine this takes no time; on
// a busy one it makes groups half as large again, and there the processor is
// what counts.
func (e *Engine) gatherMore() {
	have := e.waiting.Load()
	for range 3 {
		runtime.Gosched()
		now := e.waiting.Load()
		if now == have {
			return
		}
		have = now
	}
}

// takeUnderway gives the barriers of this group, to whoever asks first.
func (e *Engine) takeUnderway() *store.Write {
	e.mu.Lock()
	defer e.mu.Unlock()
	w := e.underway
	e.underway = nil
	return w
}

// writeGroup writes what has gathered in the shards of the mask as one batch,
// and tells everybody once it is durable.
func (e *Engine) writeGroup(mask uint64) error {
	b := e.batch
	b.Reset()
	e.purged = e.purged[:0]
	before := e.total
	for m := mask; m != 0; m &= m - 1 {
		s := &e.shards[bits.TrailingZeros64(m)]
		s.mu.Lock()
		e.total.add(s.take())
		s.mu.Unlock()
	}
	// After the shards: whatever has come after a record of a run is in its group, or in a
	// later one. And before them in the batch: it is what stays.
	runs, brought, err := e.bring(e.runs.take(), before)
	if err != nil {
		return err
	}
	e.total.add(brought)
	for _, r := range runs {
		if err := r.appendTo(b); err != nil {
			return fmt.Errorf("writing a record: %w", err)
		}
		e.total.add(r.counts)
	}
	for m := mask; m != 0; m &= m - 1 {
		// Nobody changes the bytes of a group under way.
		if err := e.encode(b, e.shards[bits.TrailingZeros64(m)].flight()); err != nil {
			return err
		}
	}
	for _, bucket := range e.purged {
		key := floorKey(bucket)
		if err := b.Set(key, sealNumber(key, e.floors[bucket].Load()), nil); err != nil {
			return fmt.Errorf("writing a floor: %w", err)
		}
	}
	if !b.Empty() {
		if err := e.putCounts(b); err != nil {
			return err
		}
		if err := e.once(b); err != nil {
			return err
		}
	}
	e.runs.landed() // first: what is in the shards came later
	for m := mask; m != 0; m &= m - 1 {
		s := &e.shards[bits.TrailingZeros64(m)]
		s.mu.Lock()
		w, sum := s.settle(e.gens)
		s.mu.Unlock()
		e.waiting.Add(-sum)
		tell(w, nil)
	}
	for _, r := range e.runs.told() {
		e.waiting.Add(-r.weight)
		r.told.end(nil)
	}
	return nil
}

// encode appends the live entries of p to the batch.
func (e *Engine) encode(b *pebble.Batch, p *pending) error {
	for i := range p.entries {
		t := &p.entries[i]
		if t.dead {
			continue
		}
		key := p.keyOf(t)
		var op *pebble.DeferredBatchOp
		if t.purge() {
			op = b.DeleteDeferred(recordKeyFixed + len(key))
			e.notePurged(t.bucket)
		} else {
			rec := p.recordOf(t)
			op = b.SetDeferred(recordKeyFixed+len(key), len(rec))
			copy(op.Value, rec)
		}
		appendRecordKey(op.Key[:0], t.bucket, t.hash, key)
		if err := op.Finish(); err != nil {
			return fmt.Errorf("writing a record: %w", err)
		}
	}
	return nil
}

func (e *Engine) notePurged(b unkai.Bucket) {
	e.space.removed.Store(true)
	for _, have := range e.purged {
		if have == b {
			return
		}
	}
	e.purged = append(e.purged, b)
}

// settleCounts leaves the counts in full, as every version of the store knows them.
func (e *Engine) settleCounts() error {
	if !e.tables.expected || e.broken.Load() {
		return nil
	}
	b := e.db.NewBatch()
	if err := e.putCounts(b); err != nil {
		return err
	}
	return e.once(b)
}

func (e *Engine) putCounts(b *pebble.Batch) error {
	e.tables.expected = false
	e.countsBuf = e.total.appendTo(e.countsBuf[:0])
	if err := b.Set(countsKey, e.countsBuf, nil); err != nil {
		return fmt.Errorf("writing the counts: %w", err)
	}
	return nil
}

// once writes one batch and returns when it is durable by the sync policy. What
// failed meanwhile was hidden from the pebble: see guardFS.
func (e *Engine) once(b *pebble.Batch) error {
	e.space.wrote(int64(b.Len()))
	err := e.db.Apply(b, pebble.Sync)
	if e.broken.Load() {
		return store.ErrBroken
	}
	if err != nil {
		return fmt.Errorf("writing to the log: %w", err)
	}
	return nil
}

// exclusive runs f between two groups and gives its error.
func (e *Engine) exclusive(f func() error) error {
	j := job{run: f, done: make(chan error, 1)}
	e.mu.Lock()
	if err := e.stopped(); err != nil {
		e.mu.Unlock()
		return err
	}
	e.jobs = append(e.jobs, j)
	e.mu.Unlock()
	e.wake()
	select {
	case err := <-j.done:
		return err
	case <-e.brokenDown:
		return store.ErrBroken
	}
}
