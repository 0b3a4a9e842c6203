package disk

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"unkai"
	"unkai/internal/store"
)

// Get implements store.Engine.
func (e *Engine) Get(b unkai.Bucket, hash uint64, key, dst []byte, a store.Access) (store.Found, []byte, error) {
	mixed := mix(b, hash)
	s := &e.shards[shardOf(mixed)]
	start := len(dst)
	for {
		s.mu.Lock()
		if err := e.stopped(); err != nil {
			s.mu.Unlock()
			return store.Found{}, dst, fmt.Errorf("reading a record: %w", err)
		}
		// The generation is read under the lock: a drop that is done was
		// counted before.
		n := name{mixed, e.gens[b].Load(), b}
		if p, t := s.pending(n, key); t != nil {
			f := store.Found{Unsynced: true, Fetched: t.fetched, Accessed: t.accessed}
			if a != store.NoAccess {
				t.fetched, t.accessed = true, uint32(a)
			}
			s.hits++
			if t.purge() {
				s.mu.Unlock()
				return store.Found{Unsynced: true}, dst, nil
			}
			dst = append(dst, p.recordOf(t)...)
			s.mu.Unlock()
			return e.found(f, key, dst, start)
		}
		if rec := e.runs.find(b, hash, key); rec != nil {
			s.hits++
			dst = append(dst, rec...)
			s.mu.Unlock()
			return e.found(store.Found{Unsynced: true}, key, dst, start)
		}
		if slot := s.cache.find(n, key); slot >= 0 {
			t := s.cache.at(slot)
			f := store.Found{Fetched: t.has(markFetched), Accessed: t.accessed()}
			if a != store.NoAccess {
				t.mark(markFetched|markRecent, true)
				t.setAccessed(uint32(a))
			}
			s.hits++
			dst = append(dst, t.record()...)
			s.mu.Unlock()
			f, dst, err := e.found(f, key, dst, start)
			if err == nil {
				return f, dst, nil
			}
			// Memory was damaged; the disk may have it still.
			s.mu.Lock()
			if slot := s.cache.find(n, key); slot >= 0 {
				s.cache.remove(slot)
			}
			s.mu.Unlock()
			continue
		}
		s.miss++
		version := s.versions[versionOf(mixed)]
		s.mu.Unlock()

		var rec store.Record
		var ok bool
		var err error
		rec, dst, ok, err = e.load(b, hash, key, dst, false)

		s.mu.Lock()
		// Everything applied before the versions were read was in the pebble.
		// Where one was applied since, what was found may be older, or not
		// durable: look again.
		if version != s.versions[versionOf(mixed)] || n.gen != e.gens[b].Load() {
			s.mu.Unlock()
			dst = dst[:start]
			continue
		}
		if err != nil || !ok {
			s.mu.Unlock()
			return store.Found{}, dst[:start], err
		}
		if e.stopped() == nil {
			s.cache.put(n, key, dst[start:], about{
				ballot: rec.Ballot, kind: rec.Kind(), valueLen: len(rec.Item.Value),
				accessed: uint32(a), fetched: a != store.NoAccess,
			})
		}
		s.mu.Unlock()
		dst = value(&rec, dst, start)
		return store.Found{Record: rec, Size: len(rec.Item.Value)}, dst, nil
	}
}

// Head implements store.Engine. It verifies all of the record.
func (e *Engine) Head(b unkai.Bucket, hash uint64, key []byte) (store.Found, error) {
	mixed := mix(b, hash)
	s := &e.shards[shardOf(mixed)]
	s.mu.Lock()
	n := name{mixed, e.gens[b].Load(), b}
	if e.stopped() == nil {
		var f store.Found
		var raw []byte
		known := true
		if p, t := s.pending(n, key); t != nil {
			f, raw = store.Found{Unsynced: true, Fetched: t.fetched, Accessed: t.accessed}, p.recordOf(t)
			if t.purge() {
				s.hits++
				s.mu.Unlock()
				return store.Found{Unsynced: true}, nil
			}
		} else if rec := e.runs.find(b, hash, key); rec != nil {
			f, raw = store.Found{Unsynced: true}, rec
		} else if slot := s.cache.find(n, key); slot >= 0 {
			t := s.cache.at(slot)
			f, raw = store.Found{Fetched: t.has(markFetched), Accessed: t.accessed()}, t.record()
		} else {
			known = false
		}
		if known {
			rec, err := store.DecodeRecord(key, raw)
			if err == nil {
				f.Record, f.Size = rec, len(rec.Item.Value)
				f.Record.Item.Value = nil
				s.hits++
				s.mu.Unlock()
				return f, nil
			}
		}
	}
	s.mu.Unlock()
	buf := e.scratch.Get().(*[]byte)
	f, raw, err := e.Get(b, hash, key, (*buf)[:0], store.NoAccess)
	f.Record.Item.Value = nil
	if cap(raw) <= keepData {
		*buf = raw[:0]
	}
	e.scratch.Put(buf)
	return f, err
}

// found decodes the record at dst[start:] and leaves only its value there.
func (e *Engine) found(f store.Found, key, dst []byte, start int) (store.Found, []byte, error) {
	rec, err := store.DecodeRecord(key, dst[start:])
	if err != nil {
		return store.Found{}, dst[:start], e.damage(key, err)
	}
	dst = value(&rec, dst, start)
	f.Record, f.Size = rec, len(rec.Item.Value)
	return f, dst, nil
}

// value moves the value of r, which is in dst[start:], to dst[start].
func value(r *store.Record, dst []byte, start int) []byte {
	end := start + copy(dst[start:], r.Item.Value)
	r.Item.Value = dst[start:end:end]
	return dst[:end]
}

// load reads a record from the pebble and appends it, encoded, to dst, also if it
// is damaged. Where there is probably none, unlikely makes that cheap to find out.
func (e *Engine) load(b unkai.Bucket, hash uint64, key, dst []byte, unlikely bool) (store.Record, []byte, bool, error) {
	if e.loaded != nil {
		defer e.loaded()
	}
	start := len(dst)
	dst = appendRecordKey(dst, b, hash, key)
	find := e.get
	if unlikely {
		find = e.seek
	}
	dst, ok, err := find(dst, start)
	if err != nil && unlikely {
		// A record that was healed hides what is damaged underneath, but not
		// from seek, which looks everywhere.
		dst = appendRecordKey(dst[:start], b, hash, key)
		dst, ok, err = e.get(dst, start)
	}
	if err != nil {
		return store.Record{}, dst[:start], false, e.unreadable(key, err)
	}
	if !ok {
		return store.Record{}, dst[:start], false, nil
	}
	rec, err := store.DecodeRecord(key, dst[start:])
	if err != nil {
		return store.Record{}, dst, false, e.damage(key, err)
	}
	return rec, dst, true, nil
}

// get replaces the pebble key in dst[start:] by its value.
func (e *Engine) get(dst []byte, start int) ([]byte, bool, error) {
	raw, closer, err := e.db.Get(dst[start:])
	if errors.Is(err, pebble.ErrNotFound) {
		return dst, false, nil
	}
	if err != nil {
		return dst, false, err
	}
	dst = append(dst[:start], raw...)
	return dst, true, closer.Close()
}

var withFilters = pebble.IterOptions{UseL6Filters: true}

// seek does as get does. It costs more for a key that is there; but one that is
// not needs no block of the last level, where most blocks are, as get does.
func (e *Engine) seek(dst []byte, start int) ([]byte, bool, error) {
	it, err := e.db.NewIter(&withFilters)
	if err != nil {
		return dst, false, err
	}
	ok := it.SeekPrefixGE(dst[start:])
	if ok {
		dst = append(dst[:start], it.Value()...)
	}
	return dst, ok, errors.Join(it.Error(), it.Close())
}

// current is the state of the record that w would replace. The shard's lock is held; it is let
// go while the pebble is asked.
func (e *Engine) current(s *shard, w *store.Write, mixed uint64) (name, state, error) {
	for {
		n := name{mixed, e.gens[w.Bucket].Load(), w.Bucket}
		if st, ok := s.known(n, w.Key); ok {
			return n, st, nil
		}
		if raw := e.runs.find(w.Bucket, w.Hash, w.Key); raw != nil {
			rec, err := store.DecodeRecord(w.Key, raw)
			if err != nil {
				err = e.damage(w.Key, err)
			}
			return n, state{rec.Ballot, rec.Promise, rec.Kind(), len(rec.Item.Value)}, err
		}
		s.miss++
		version := s.versions[versionOf(mixed)]
		s.mu.Unlock()
		st, err := e.loadState(w)
		s.mu.Lock()
		if version == s.versions[versionOf(mixed)] && n.gen == e.gens[w.Bucket].Load() {
			return n, st, err
		}
	}
}

func (e *Engine) loadState(w *store.Write) (state, error) {
	buf := e.scratch.Get().(*[]byte)
	rec, raw, _, err := e.load(w.Bucket, w.Hash, w.Key, (*buf)[:0], w.Expect == 0)
	st := state{rec.Ballot, rec.Promise, rec.Kind(), len(rec.Item.Value)}
	if err != nil && len(raw) > 0 && (w.Heal || w.Record.Kind() == store.KindNone) {
		st.kind, st.valueLen = store.MayBe(w.Key, raw)
	}
	if cap(raw) <= keepData {
		*buf = raw[:0]
	}
	e.scratch.Put(buf)
	return st, err
}
