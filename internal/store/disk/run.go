package disk

import (
	"bytes"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/cockroachdb/pebble/v2"

	"unkai"
	"unkai/internal/store"
)

// run is new records of one bucket, in the pebble's order, that are applied and not
// durable yet. What comes after one of them is in a shard, which is asked first.
//
// A run is there before the locks of its shards are given back. So a write that comes
// after one of its records comes later than the run, and is taken into a group with it or
// a later one; in that the runs come first.
type run struct {
	bucket  unkai.Bucket
	entries []runEntry
	data    []byte // the pebble's key and the record of each
	counts  counts
	weight  int64 // what it takes, as maxWaiting counts
	grows   bool  // not only tombstones
	told    *runDone
}

type runEntry struct {
	hash             uint64
	key, record, end uint32 // offsets in data
	index            uint8  // among what the run was made of
}

const runEntrySize = int(unsafe.Sizeof(runEntry{}))

func (r *run) keyOf(x *runEntry) []byte    { return r.data[x.key:x.record] }
func (r *run) recordOf(x *runEntry) []byte { return r.data[x.record:x.end] }

func (r *run) first() []byte { return r.keyOf(&r.entries[0]) }
func (r *run) last() []byte  { return r.keyOf(&r.entries[len(r.entries)-1]) }

// find gives the record of a key, or nil.
func (r *run) find(hash uint64, key []byte) []byte {
	i := sort.Search(len(r.entries), func(i int) bool { return r.entries[i].hash >= hash })
	for ; i < len(r.entries) && r.entries[i].hash == hash; i++ {
		if x := &r.entries[i]; bytes.Equal(r.keyOf(x)[recordKeyFixed:], key) {
			return r.recordOf(x)
		}
	}
	return nil
}

// runDone tells a write when all runs of it have ended.
type runDone struct {
	open atomic.Int64
	err  atomic.Pointer[error]
	w    *store.Write
}

func (d *runDone) end(err error) {
	if err != nil {
		d.err.Store(&err)
	}
	if d.open.Add(-1) > 0 {
		return
	}
	d.w.Next, d.w.Err = nil, nil
	if err := d.err.Load(); err != nil {
		d.w.Err = *err
	}
	d.w.Done.WriteDone(d.w)
}

// runs are those that are not durable yet.
type runs struct {
	of []atomic.Pointer[[]*run] // by bucket; who holds a shard's lock may look

	mu       sync.Mutex // inside of a shard's
	arriving []*run
	underway []*run // of the group under way
}

// find gives the record of a key that is not durable yet, or nil. The lock of its shard
// is held.
func (r *runs) find(b unkai.Bucket, hash uint64, key []byte) []byte {
	all := r.of[b].Load()
	if all == nil {
		return nil
	}
	for _, x := range *all {
		if rec := x.find(hash, key); rec != nil {
			return rec
		}
	}
	return nil
}

// add lets a run be seen, and gather. The locks of its shards are held.
func (r *runs) add(x *run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*run
	if old := r.of[x.bucket].Load(); old != nil {
		all = *old
	}
	all = append(slices.Clip(all), x)
	r.of[x.bucket].Store(&all)
	r.arriving = append(r.arriving, x)
}

// some reports whether any gather.
func (r *runs) some() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.arriving) > 0
}

// take makes those that have gathered the ones under way.
func (r *runs) take() []*run {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.underway, r.arriving = r.arriving, nil
	return r.underway
}

// landed forgets those under way: the pebble has them.
func (r *runs) landed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range r.underway {
		all := slices.DeleteFunc(slices.Clone(*r.of[x.bucket].Load()), func(o *run) bool { return o == x })
		if len(all) == 0 {
			r.of[x.bucket].Store(nil)
		} else {
			r.of[x.bucket].Store(&all)
		}
	}
}

// told gives those under way to whoever asks first.
func (r *runs) told() []*run {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.underway
	r.underway = nil
	return out
}

// abandon gives all of them. What the committer has taken it tells nobody any more.
func (r *runs) abandon() []*run {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := slices.Concat(r.underway, r.arriving)
	r.underway, r.arriving = nil, nil
	return out
}

// appendTo appends the records to a batch.
func (r *run) appendTo(b *pebble.Batch) error {
	for i := range r.entries {
		x := &r.entries[i]
		if err := b.Set(r.keyOf(x), r.recordOf(x), nil); err != nil {
			return err
		}
	}
	return nil
}
