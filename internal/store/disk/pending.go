package disk

import (
	"bytes"

	"unkai"
	"unkai/internal/store"
)

// pending holds the writes of one shard that are applied and not durable yet:
// those that gather, or those of the group on its way to the disk. It owns its
// bytes and keeps them for the next group.
type pending struct {
	data    []byte // keys and records, one after the other
	entries []pendingEntry
	index   []uint32 // entry+1, by mixed hash; a power of two
	// The writes to be told, in their order. There may be more than live
	// entries: a later write on a key replaces the entry of an earlier one.
	first, last *store.Write
	weight      int64 // of all of them, as maxWaiting counts
}

type pendingEntry struct {
	mixed    uint64
	hash     uint64
	ballot   unkai.Ballot
	promise  unkai.Ballot
	key      uint32 // offsets in data
	record   uint32
	end      uint32
	slot     uint32
	valueLen uint32
	accessed uint32
	bucket   unkai.Bucket
	kind     store.Kind // none: the record goes away
	dead     bool       // replaced by a later one
	fetched  bool
}

// purge reports whether the record goes away.
func (t *pendingEntry) purge() bool { return t.kind == store.KindNone }

func (p *pending) keyOf(t *pendingEntry) []byte    { return p.data[t.key:t.record] }
func (p *pending) recordOf(t *pendingEntry) []byte { return p.data[t.record:t.end] }

// find gives the live entry of a key, or nil.
func (p *pending) find(n name, key []byte) *pendingEntry {
	if len(p.entries) == 0 {
		return nil
	}
	mask := uint32(len(p.index) - 1)
	for i := uint32(n.mixed) & mask; p.index[i] != 0; i = (i + 1) & mask {
		t := &p.entries[p.index[i]-1]
		if t.mixed == n.mixed && t.bucket == n.bucket && bytes.Equal(p.keyOf(t), key) {
			return t
		}
	}
	return nil
}

// add appends w; the zero Record is a purge.
func (p *pending) add(n name, w *store.Write, accessed uint32) {
	t := pendingEntry{
		mixed: n.mixed, hash: w.Hash, bucket: w.Bucket, kind: w.Record.Kind(),
		ballot: w.Record.Ballot, promise: w.Record.Promise, accessed: accessed, fetched: w.Fetched, valueLen: uint32(len(w.Record.Item.Value)),
	}
	if w.Accessed != 0 {
		t.accessed = w.Accessed
	}
	t.key = uint32(len(p.data))
	p.data = append(p.data, w.Key...)
	t.record = uint32(len(p.data))
	if !t.purge() {
		p.data = store.AppendRecord(p.data, w.Key, &w.Record)
	}
	t.end = uint32(len(p.data))

	if old := p.find(n, w.Key); old != nil {
		old.dead = true
		t.slot = old.slot
		p.entries = append(p.entries, t)
		p.index[t.slot] = uint32(len(p.entries))
	} else {
		p.entries = append(p.entries, t)
		if 2*len(p.entries) > len(p.index) {
			p.grow()
		} else {
			p.link(len(p.entries) - 1)
		}
	}

	p.weight += weight(len(w.Key), len(w.Record.Item.Value))
	w.Next = nil
	if p.last == nil {
		p.first = w
	} else {
		p.last.Next = w
	}
	p.last = w
}

func (p *pending) link(i int) {
	t := &p.entries[i]
	mask := uint32(len(p.index) - 1)
	slot := uint32(t.mixed) & mask
	for p.index[slot] != 0 {
		slot = (slot + 1) & mask
	}
	p.index[slot], t.slot = uint32(i+1), slot
}

func (p *pending) grow() {
	p.index = make([]uint32, max(16, 2*len(p.index)))
	for i := range p.entries {
		if !p.entries[i].dead {
			p.link(i)
		}
	}
}

// What a shard keeps of its memory between two groups; a burst gives the rest back.
const (
	keepData    = 1 << 20
	keepEntries = 8 << 10
)

// reset empties p and gives the writes that are to be told, and their weight.
func (p *pending) reset() (*store.Write, int64) {
	first, sum := p.first, p.weight
	p.first, p.last, p.weight = nil, nil, 0
	if cap(p.data) > keepData || cap(p.entries) > keepEntries {
		*p = pending{}
		return first, sum
	}
	for i := range p.entries {
		if t := &p.entries[i]; !t.dead {
			p.index[t.slot] = 0
		}
	}
	p.data, p.entries = p.data[:0], p.entries[:0]
	return first, sum
}

// abandon gives the writes that are to be told and leaves the rest alone: the
// committer may be reading it.
func (p *pending) abandon() *store.Write {
	first := p.first
	p.first, p.last = nil, nil
	return first
}
