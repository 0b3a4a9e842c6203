package disk

import (
	"bytes"
	"errors"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"unkai"
	"unkai/internal/store"
)

const (
	// bulkMost is how many records share one look at the pebble, and become one run.
	bulkMost = 256
	// bulkTries is how often it is looked again at records whose versions have changed:
	// mostly something else has, which shares them.
	bulkTries = 3
)

var _ store.Bulk = (*Engine)(nil)

// WriteNew implements store.Bulk. New keys that come in the pebble's order need one
// iterator together in place of a search each, and go to the batch as they are. What was
// written is not put into the cache: it would drive out what is read.
func (e *Engine) WriteNew(b unkai.Bucket, entries []store.Entry, left []int, w *store.Write) []int {
	t := &runDone{w: w}
	t.open.Store(1)
	for at := 0; at < len(entries); {
		n := 1
		for at+n < len(entries) && n < bulkMost && inOrder(&entries[at+n-1], &entries[at+n]) {
			n++
		}
		left = e.writeRun(b, entries[at:at+n], at, left, t)
		at += n
	}
	e.wake()
	t.end(nil)
	return left
}

func inOrder(a, b *store.Entry) bool {
	return a.Hash < b.Hash || a.Hash == b.Hash && bytes.Compare(a.Key, b.Key) < 0
}

// glance is what was seen of a key without its shard's lock held on to.
type glance struct {
	mixed   uint64
	version uint32
	fate    fate
}

// fate is what becomes of a record of a run.
type fate uint8

const (
	fateNew     fate = iota // nothing was seen
	fateKnown               // there is something of its key, or may be
	fateChanged             // something was applied since it was looked at
	fateWritten             // it is in a run
)

// bulk is what it takes to write one run.
type bulk struct {
	e       *Engine
	bucket  unkai.Bucket
	entries []store.Entry
	glances [bulkMost]glance
	order   [bulkMost]uint8 // of the entries, by their shards
	ends    [shardCount]int // of each shard's part of order
}

// writeRun writes keys of one bucket, in the pebble's order, of which mostly there is
// nothing yet. As in current, who finds a key's version unchanged knows that what
// was seen of it holds.
func (e *Engine) writeRun(b unkai.Bucket, entries []store.Entry, first int, left []int, t *runDone) []int {
	k := bulks.Get().(*bulk)
	*k = bulk{e: e, bucket: b, entries: entries}
	k.sort()
	for range bulkTries {
		k.look()
		if err := k.lookUp(); err != nil {
			break // what is damaged, and what not, is found one by one
		}
		if !k.apply(t) {
			break
		}
	}
	for i := range entries {
		if k.glances[i].fate != fateWritten {
			left = append(left, first+i)
		}
	}
	k.entries = nil
	bulks.Put(k)
	return left
}

// bulks keeps their memory: it is too much for a stack.
var bulks = sync.Pool{New: func() any { return new(bulk) }}

// sort puts the entries in the order of their shards.
func (k *bulk) sort() {
	for i := range k.entries {
		t := &k.entries[i]
		g := &k.glances[i]
		g.mixed = mix(k.bucket, t.Hash)
		if len(t.Key) > maxKeyLength || t.Record.Check() != nil {
			g.fate = fateKnown
		}
		k.ends[shardOf(g.mixed)]++
	}
	sum := 0
	for i := range k.ends {
		k.ends[i], sum = sum, sum+k.ends[i]
	}
	for i := range k.entries {
		at := &k.ends[shardOf(k.glances[i].mixed)]
		k.order[*at] = uint8(i)
		*at++
	}
}

// part are the entries of a shard.
func (k *bulk) part(shard int) []uint8 {
	from := 0
	if shard > 0 {
		from = k.ends[shard-1]
	}
	return k.order[from:k.ends[shard]]
}

// look notes the versions of the keys that are not written yet, and what memory has of
// them; what the cache has, the pebble has too.
func (k *bulk) look() {
	for i := range k.e.shards {
		part := k.part(i)
		if len(part) == 0 {
			continue
		}
		s := &k.e.shards[i]
		s.mu.Lock()
		gen := k.e.gens[k.bucket].Load()
		for _, at := range part {
			g, t := &k.glances[at], &k.entries[at]
			if g.fate == fateChanged {
				g.fate = fateNew
			}
			if g.fate != fateNew {
				continue
			}
			g.version = s.versions[versionOf(g.mixed)]
			if _, p := s.pending(name{g.mixed, gen, k.bucket}, t.Key); p != nil || k.e.runs.find(k.bucket, t.Hash, t.Key) != nil {
				g.fate = fateKnown
			}
		}
		s.mu.Unlock()
	}
}

// lookUp finds out which of the keys the pebble knows.
func (k *bulk) lookUp() (err error) {
	e := k.e
	if e.loaded != nil {
		defer e.loaded()
	}
	first, last := &k.entries[0], &k.entries[len(k.entries)-1]
	bounds := appendRecordKey(make([]byte, 0, 2*(recordKeyFixed+maxKeyLength)+1), k.bucket, first.Hash, first.Key)
	n := len(bounds)
	bounds = append(appendRecordKey(bounds, k.bucket, last.Hash, last.Key), 0)
	it, err := e.db.NewIter(&pebble.IterOptions{LowerBound: bounds[:n], UpperBound: bounds[n:]})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	var room [recordKeyFixed + maxKeyLength]byte
	valid := it.First()
	for i := range k.entries {
		if !valid {
			break
		}
		t := &k.entries[i]
		key := appendRecordKey(room[:0], k.bucket, t.Hash, t.Key)
		c := bytes.Compare(it.Key(), key)
		if c < 0 {
			valid = it.SeekGE(key)
			c = -1
			if valid {
				c = bytes.Compare(it.Key(), key)
			}
		}
		if valid && c == 0 && k.glances[i].fate == fateNew {
			k.glances[i].fate = fateKnown
		}
	}
	return it.Error()
}

// apply makes a run of the keys of which nothing was seen, and nothing has come since. It
// reports whether there are others that should be looked at again.
func (k *bulk) apply(t *runDone) (again bool) {
	r := k.encode()
	if len(r.entries) == 0 {
		return false
	}
	e := k.e
	for i := range e.shards {
		if len(k.part(i)) > 0 {
			e.shards[i].mu.Lock() // in their order
		}
	}
	if e.mayRun(r) {
		again = k.changed(r)
		if len(r.entries) > 0 {
			k.count(r)
			t.open.Add(1)
			r.told = t
			e.runs.add(r)
		}
	}
	for i := range e.shards {
		if len(k.part(i)) > 0 {
			e.shards[i].mu.Unlock()
		}
	}
	return again
}

// encode makes a run of the entries of whose keys nothing was seen.
func (k *bulk) encode() *run {
	size, n := 0, 0
	for i := range k.entries {
		if t := &k.entries[i]; k.glances[i].fate == fateNew {
			size += recordKeyFixed + len(t.Key) + store.EncodedLen(&t.Record)
			n++
		}
	}
	r := &run{bucket: k.bucket, entries: make([]runEntry, 0, n), data: make([]byte, 0, size)}
	for i := range k.entries {
		t := &k.entries[i]
		if k.glances[i].fate != fateNew {
			continue
		}
		x := runEntry{hash: t.Hash, index: uint8(i), key: uint32(len(r.data))}
		r.data = appendRecordKey(r.data, k.bucket, t.Hash, t.Key)
		x.record = uint32(len(r.data))
		r.data = store.AppendRecord(r.data, t.Key, &t.Record)
		x.end = uint32(len(r.data))
		r.grows = r.grows || t.Record.Kind() != store.KindTombstone
		r.entries = append(r.entries, x)
	}
	return r
}

// mayRun says whether there is room for r. The locks of its shards are held.
func (e *Engine) mayRun(r *run) bool {
	return e.stopped() == nil && e.gates[r.bucket].Load() == nil && e.waiting.Load() < maxWaiting && (!r.grows || e.space.admit(true) == nil)
}

// changed takes those records out of a run in whose place something may have been applied
// since they were looked at, and reports whether there are any. The shards' locks are held.
func (k *bulk) changed(r *run) bool {
	all := len(r.entries)
	r.entries = slices.DeleteFunc(r.entries, func(x runEntry) bool {
		g := &k.glances[x.index]
		if g.version == k.e.shards[shardOf(g.mixed)].versions[versionOf(g.mixed)] {
			return false
		}
		g.fate = fateChanged
		return true
	})
	return len(r.entries) < all
}

// count counts the records of a run as applied. Their shards' locks are held.
func (k *bulk) count(r *run) {
	for i := range r.entries {
		at := r.entries[i].index
		g, t := &k.glances[at], &k.entries[at]
		g.fate = fateWritten
		s := &k.e.shards[shardOf(g.mixed)]
		s.versions[versionOf(g.mixed)]++
		s.writes++
		c := countOfEntry(t)
		s.counts.add(c)
		s.taken.add(c) // with the run
		r.counts.add(c)
	}
	r.weight = int64(len(r.data) + len(r.entries)*runEntrySize)
	k.e.waiting.Add(r.weight)
}
