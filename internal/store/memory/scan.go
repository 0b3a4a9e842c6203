package memory

import (
	"iter"
	"slices"

	"unkai"
	"unkai/internal/store"
)

const (
	// A scan holds the lock for about this many entries of a table at a time,
	scanEntries = 64
	// and copies about this many bytes before it yields them.
	scanBytes = 256 << 10
)

// copied is a record that a scan has copied out.
type copied struct {
	entry      store.Entry
	key, value [2]int // in the scan's buffer
	err        error
}

// scanner keeps the buffers of a scan.
type scanner struct {
	found  []entry
	copies []copied
	buf    []byte
}

// Scan implements store.Engine. It goes through the tags of each part in
// order: what a key's tag is never changes, wherever its entry moves.
func (e *Engine) Scan(b unkai.Bucket) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		parts, first := e.bucketParts(b)
		var sc scanner
		for i := range parts {
			for tag := uint64(0); tag <= tagMask; {
				tag = sc.batch(e.shardOf(first+i), &parts[i], b, tag)
				if !sc.yield(yield) {
					return
				}
			}
		}
	}
}

// batch copies out the records with the tags from first to below the one it returns.
func (sc *scanner) batch(s *shard, p *part, b unkai.Bucket, first uint64) (next uint64) {
	sc.copies, sc.buf = sc.copies[:0], sc.buf[:0]
	s.mu.Lock()
	t := p.table(uint32(first))
	if t == nil {
		s.mu.Unlock()
		return tagMask + 1
	}
	// Damage of the index is told of where the table begins, if it is known
	// by then; else where it is met.
	tell := t.damaged && first&(1<<(tagBits-t.depth)-1) == 0
	known := t.damaged
	next = sc.gather(s.entries(t), t, first)
	if tell || t.damaged && !known {
		sc.copies = append(sc.copies, copied{err: damaged(nil, "an entry of the index was not as it was written")})
	}
	pin, v := p.pin(), s.view
	s.mu.Unlock()
	bad := int64(0)
	for i, en := range sc.found {
		// Entries with one tag must not be parted.
		if len(sc.buf) > scanBytes && en.tag() != sc.found[i-1].tag() {
			next = uint64(en.tag())
			break
		}
		sc.copy(&v, b, en)
		if sc.copies[len(sc.copies)-1].err != nil {
			bad++
		}
	}
	s.mu.Lock()
	s.unpin(p, pin)
	s.damaged += bad
	s.mu.Unlock()
	return next
}

// gather finds the entries of a table with the tags from first to below the
// one it returns, and sorts them.
func (sc *scanner) gather(es []entry, t *table, first uint64) (next uint64) {
	sc.found = sc.found[:0]
	span := uint64(1) << (tagBits - t.depth)
	base := first &^ (span - 1)
	from := t.home(uint32(first))
	to := from + scanEntries
	next = base + span
	if to < len(es) {
		// The first tag whose home is at to or later.
		scaled := (uint64(to)<<tagBits + uint64(t.size) - 1) / uint64(t.size)
		next = min(next, base+(scaled+1<<t.depth-1)>>t.depth)
	} else {
		to = len(es)
	}
	for n := range len(es) {
		i := from + n
		if i >= len(es) {
			i -= len(es)
		}
		en := es[i]
		switch {
		case en == 0 && from+n >= to:
			slices.Sort(sc.found)
			return next
		case en == 0:
		case !en.intact():
			t.damaged = true
		case uint64(en.tag()) >= first && uint64(en.tag()) < next:
			sc.found = append(sc.found, en)
		}
	}
	slices.Sort(sc.found)
	return next
}

// copy copies out the record of an entry.
func (sc *scanner) copy(v *view, b unkai.Bucket, en entry) {
	var c copied
	h, ok := parse(v.at(en.loc()))
	if !ok {
		c.err = damaged(nil, "nothing of the record can be read")
		sc.copies = append(sc.copies, c)
		return
	}
	c.entry.Hash = h.hash()
	c.key[0] = len(sc.buf)
	sc.buf = append(sc.buf, h.key()...)
	c.key[1] = len(sc.buf)
	if !h.intact(b) {
		c.err = damaged(h.key(), "the record is not as it was written")
	} else {
		c.entry.Record = h.record()
		c.value[0] = len(sc.buf)
		if sc.buf, ok = v.appendValue(sc.buf, &h); !ok {
			c.err = damaged(h.key(), "the value is not as it was written")
			c.entry.Record = store.Record{}
		}
		c.value[1] = len(sc.buf)
	}
	sc.copies = append(sc.copies, c)
}

// yield passes on what was copied.
func (sc *scanner) yield(yield func(store.Entry, error) bool) bool {
	for i := range sc.copies {
		c := &sc.copies[i]
		c.entry.Key = sc.buf[c.key[0]:c.key[1]:c.key[1]]
		if c.err == nil {
			c.entry.Record.Item.Value = sc.buf[c.value[0]:c.value[1]:c.value[1]]
		}
		if !yield(c.entry, c.err) {
			return false
		}
	}
	return true
}

// frozen is a part at one moment. What it refers to stays until thaw.
type frozen struct {
	shard *shard
	part  *part
	pin   uint64
	view  view
	dir   []table
	depth uint8
}

// freeze keeps the part as it is now, under the shard's lock. It copies the
// directory only: a table that changes later is copied then.
func (s *shard) freeze(p *part) frozen {
	f := frozen{shard: s, part: p, pin: p.pin(), view: s.view, depth: p.depth}
	for i := range p.dir {
		p.dir[i].shared = true
	}
	f.dir = slices.Clone(p.dir)
	return f
}

func (f *frozen) thaw() {
	f.shard.mu.Lock()
	f.shard.unpin(f.part, f.pin)
	f.shard.mu.Unlock()
}

// scan passes the records of the part as it was. It reports false when yield
// wanted no more.
func (f *frozen) scan(b unkai.Bucket, sc *scanner, yield func(store.Entry, error) bool) bool {
	ok := true
	each(f.dir, f.depth, func(t *table, _ uint32) {
		if !ok {
			return
		}
		if t.damaged {
			ok = yield(store.Entry{}, damaged(nil, "an entry of the index was not as it was written"))
		}
		for _, en := range f.view.entries(t) {
			if !ok || en == 0 {
				continue
			}
			sc.copies, sc.buf = sc.copies[:0], sc.buf[:0]
			if en.intact() {
				sc.copy(&f.view, b, en)
			} else {
				sc.copies = append(sc.copies, copied{err: damaged(nil, "an entry of the index is not as it was written")})
			}
			if sc.copies[0].err != nil {
				f.shard.mu.Lock()
				f.shard.damaged++
				f.shard.mu.Unlock()
			}
			ok = sc.yield(yield)
		}
	})
	return ok
}

// snapshot is a store.Snapshot: the parts of a bucket at one moment.
type snapshot struct {
	bucket unkai.Bucket
	parts  []frozen
}

// Snapshot implements store.Engine.
func (e *Engine) Snapshot(b unkai.Bucket) (store.Snapshot, error) {
	parts, first := e.bucketParts(b)
	sn := &snapshot{bucket: b}
	e.lock(b)
	defer e.unlock(b)
	for i := range parts {
		sn.parts = append(sn.parts, e.shardOf(first+i).freeze(&parts[i]))
	}
	return sn, nil
}

// All implements store.Snapshot.
func (sn *snapshot) All() iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		var sc scanner
		for i := range sn.parts {
			if !sn.parts[i].scan(sn.bucket, &sc, yield) {
				return
			}
		}
	}
}

// Close implements store.Snapshot.
func (sn *snapshot) Close() error {
	for i := range sn.parts {
		sn.parts[i].thaw()
	}
	sn.parts = nil
	return nil
}
